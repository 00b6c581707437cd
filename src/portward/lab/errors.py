"""What a lab refuses, as errors that say what to do next."""

from portward.model import PortwardError


class LabError(PortwardError):
    """The lab could not do what was asked of it."""


class NeedsRoot(LabError):
    """Network namespaces are made by root alone."""

    def __init__(self) -> None:
        super().__init__("the lab is made of network namespaces: run it as root (sudo), with iproute2 and nftables")


class LabExists(LabError):
    """A lab of this name is up, or something else has taken a name that it would need."""


class NoSuchLab(LabError):
    """No lab of this name is up."""


class NotConnected(LabError):
    """A connection that was to be held open did not come about."""
