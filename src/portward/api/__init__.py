"""The wire: routing, authentication, validation, errors. No rule of the domain lives here."""
