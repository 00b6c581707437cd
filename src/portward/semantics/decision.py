"""What a decision says: the verdict, who took it, and whom it did not ask.

Values only. How a decision is reached is the business of ``decide`` and ``network``.
"""

from enum import StrEnum

import msgspec

from portward.model import Stratum


class Verdict(StrEnum):
    """What becomes of the packet."""

    ALLOW = "allow"
    DENY = "deny"  # in silence
    REJECT = "reject"  # and the sender is told, as ``Decision.answer`` says


class Answer(StrEnum):
    """What the sender of a rejected packet gets, while the port's rate limit lasts (semantics 7)."""

    TCP_RESET = "tcp reset"
    ADMIN_PROHIBITED = "icmp admin-prohibited"  # ICMP 3/13, ICMPv6 1/1
    SILENCE = "silence"  # an answer would answer an error, a crowd, or half a packet


class Reason(StrEnum):
    """Why the verdict is what it is. The last three are found by connection tracking alone, in ``Network``."""

    RULE = "a rule matched"
    NO_RULE = "no rule matched"
    NO_POLICY = "the group has no policy in this direction"
    GROUP_DOWN = "the group is administratively down"
    NOT_COVERED = "no group covers the port"
    BASE_TRAFFIC = "base traffic of a VM port"
    SPOOFED = "the source is not the port's"
    SERVER_TRAFFIC = "router advertisements, redirects and DHCP answers never leave a VM"
    INVALID = "connection tracking calls it invalid"
    RELATED = "an ICMP error about an accepted connection"
    UNACCEPTED = "an ICMP error about a connection that is not accepted"


class Field(StrEnum):
    """The fields of a rule, in the order in which they are compared."""

    ENABLED = "enabled"
    IP_VERSION = "ip_version"
    PROTOCOL = "protocol"
    SOURCE = "source"
    DESTINATION = "destination"
    SOURCE_PORT = "source_port"
    DESTINATION_PORT = "destination_port"
    ICMP_TYPE = "icmp_type"
    ICMP_CODE = "icmp_code"


class PassedOver(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that stood before the deciding one and did not decide.

    ``field`` is the first in which it failed to match; ``None``: it matched, and its action is ``pass``.
    """

    stratum: Stratum
    group_id: str
    policy_id: str
    rule_id: str
    field: Field | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one port for one packet, with who took it.

    ``stratum`` and ``group_id`` are set when a group decided, ``policy_id`` when it has a policy in that
    direction, ``rule_id`` when a rule matched; ``answer`` when the verdict is reject, and only then.
    """

    verdict: Verdict
    reason: Reason
    stratum: Stratum | None = None
    group_id: str | None = None
    policy_id: str | None = None
    rule_id: str | None = None
    answer: Answer | None = None
    passed_over: tuple[PassedOver, ...] = ()
