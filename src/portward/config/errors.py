"""What is said of a configuration that cannot be used."""

from portward.model import PortwardError


class ConfigurationError(PortwardError):
    """The configuration cannot be used; the message names the key and what it takes."""
