"""Who may come in, and what they may do there: made of the settings once, before anything listens."""

from dataclasses import dataclass

from portward.api.authorisation import Authorisation
from portward.api.identity import Identify, make_identify
from portward.config import ConfigurationError, Settings


@dataclass(frozen=True)
class Access:
    """How callers are identified, and the rules that they are judged by."""

    identify: Identify
    authorisation: Authorisation


def make_access(settings: Settings) -> Access:
    """What ``[auth]`` says.

    Raises:
        ConfigurationError: it would let strangers in, or a file that it names cannot be used.
    """
    policy_file = settings.auth.policy_file
    if "policy_file" in settings.auth.model_fields_set and not policy_file.exists():
        raise ConfigurationError(
            f"[auth] policy_file: {policy_file} is missing, and so what it shall refuse would pass"
        )
    return Access(make_identify(settings), Authorisation(policy_file))
