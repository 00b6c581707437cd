"""Rules and policies as every layer below the API sees them.

Values are canonical: prefixes without host bits, ``icmp`` of an IPv6 rule as protocol 58. What the user wrote
(``10.0.0.1/24``, a name, a description) stays in the store; a rename never reaches a host.
"""

from abc import ABC
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Literal

import msgspec

from portward.model.errors import InvalidValue
from portward.model.ids import check_id

if TYPE_CHECKING:
    Address = IPv4Address | IPv6Address
    Prefix = IPv4Network | IPv6Network
else:
    # msgspec decodes no union of two types that it does not know; it decodes one, and asks isinstance().
    class Address(ABC):  # noqa: B024
        """IPv4Address or IPv6Address."""

    class Prefix(ABC):  # noqa: B024
        """IPv4Network or IPv6Network."""

    for _address, _prefix in ((IPv4Address, IPv4Network), (IPv6Address, IPv6Network)):
        Address.register(_address)
        Prefix.register(_prefix)

IPVersion = Literal[4, 6]

ICMP, TCP, UDP, DCCP, ICMPV6, SCTP = 1, 6, 17, 33, 58, 132
#: Protocols whose rules may name ports.
PROTOCOLS_WITH_PORTS = frozenset({TCP, UDP, DCCP, SCTP})


class Action(StrEnum):
    """What a rule does with the packet that it is the first to match."""

    ALLOW = "allow"
    DENY = "deny"  # in silence
    REJECT = "reject"  # and tell the sender
    PASS = "pass"  # only in policies of the admin stratum: the next stratum decides


class PortRange(msgspec.Struct, frozen=True, order=True):
    """Ports ``first`` to ``last``, both included, 0 to 65535.

    Raises:
        InvalidValue: a bound is outside 0 to 65535, or ``first`` is above ``last``.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= 65535:
            raise InvalidValue(f"port range {self.first}:{self.last}: give 0 to 65535, the lower port first")

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


class AddressSet(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of addresses, of both IP versions. ``version`` is the generation of the last change to it.

    ``members`` are canonical prefixes, none twice; they may overlap.

    Raises:
        InvalidValue: an id that is no UUID.
    """

    id: str
    version: int
    members: tuple[Prefix, ...] = ()

    def __post_init__(self) -> None:
        check_id(self.id)

    def __contains__(self, address: Address) -> bool:
        return any(address in prefix for prefix in self.members)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a policy. ``None`` in a field matches everything of ``ip_version``.

    ``source_set`` and ``destination_set`` are ids of address sets; what such a set does not hold does not match.

    Raises:
        InvalidValue: an address of the other IP version, a prefix and a set for one address, a set whose id is no
            UUID, ports without a protocol that has them, an ICMP type with another protocol, a code without a type.
    """

    id: str
    action: Action
    enabled: bool = True
    ip_version: IPVersion = 4
    protocol: int | None = None  # IANA number, 0 to 255; ICMP of an IPv6 rule becomes 58
    source: Prefix | None = None
    destination: Prefix | None = None
    source_set: str | None = None
    destination_set: str | None = None
    source_port: PortRange | None = None
    destination_port: PortRange | None = None
    icmp_type: int | None = None  # 0 to 255
    icmp_code: int | None = None  # 0 to 255

    def __post_init__(self) -> None:
        if self.ip_version == 6 and self.protocol == ICMP:
            msgspec.structs.force_setattr(self, "protocol", ICMPV6)
        if self.protocol is not None and not 0 <= self.protocol <= 255:
            raise InvalidValue(f"rule {self.id}: protocol {self.protocol} is not 0 to 255")
        for prefix in (self.source, self.destination):
            if prefix is not None and prefix.version != self.ip_version:
                raise InvalidValue(f"rule {self.id}: {prefix} is not an IPv{self.ip_version} prefix")
        if (self.source_port or self.destination_port) and self.protocol not in PROTOCOLS_WITH_PORTS:
            raise InvalidValue(f"rule {self.id}: ports need protocol tcp, udp, sctp or dccp")
        for prefix, set_id in ((self.source, self.source_set), (self.destination, self.destination_set)):
            if set_id is not None:
                check_id(set_id)
                if prefix is not None:
                    raise InvalidValue(f"rule {self.id}: one address is {prefix} and address set {set_id}; give one")
        if self.icmp_type is not None and self.protocol not in (ICMP, ICMPV6):
            raise InvalidValue(f"rule {self.id}: an ICMP type needs protocol icmp or ipv6-icmp")
        if self.icmp_code is not None and self.icmp_type is None:
            raise InvalidValue(f"rule {self.id}: an ICMP code needs an ICMP type")
        for number in (self.icmp_type, self.icmp_code):
            if number is not None and not 0 <= number <= 255:
                raise InvalidValue(f"rule {self.id}: ICMP type or code {number} is not 0 to 255")

    @property
    def sets(self) -> frozenset[str]:
        """Ids of the address sets that it names."""
        return frozenset(id_ for id_ in (self.source_set, self.destination_set) if id_ is not None)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """An ordered list of rules. ``version`` is the generation of the last change to what it decides."""

    id: str
    version: int
    rules: tuple[Rule, ...] = ()
