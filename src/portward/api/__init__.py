"""The wire: routing, authentication, validation, errors. No rule of the domain lives here."""

from portward.api.server import check, serve

__all__ = ["check", "serve"]
