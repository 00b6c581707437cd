"""The wire: routing, authentication, validation, errors. No rule of the domain lives here."""

from portward.api.server import serve

__all__ = ["serve"]
