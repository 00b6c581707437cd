"""The messages between the agent of a host and the server, and how they are encoded.

JSON over HTTP, both ways; unknown keys are ignored, so that a server serves agents one release older. What is
refused here: meaning. These are values of the model in envelopes; when to send which is the business of
``channel.client`` and of the server's listener.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, TypeVar

import msgspec

from portward.model import Address, CoveredPort, PortReport, PortwardError, Prefix

#: Raised when a message changes in a way that the other side must know of.
MESSAGE_VERSION = 2
#: Of agents one release older, which know no address sets and no types of ICMP.
OLDER_VERSION = 1

STATE_PATH = "/v1/state"
REPORT_PATH = "/v1/report"
COUNTERS_PATH = "/v1/counters"


#: What the database can hold.
Generation = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
#: Ports of one host at most, and so of one report.
MAX_PORTS = 20_000
#: Rules in one message about counters at most.
MAX_COUNTERS = 5_000
#: What every reader of JSON takes for a whole number.
MAX_COUNT = 2**53 - 1
_ADDRESSES = (IPv4Address, IPv6Address, IPv4Network, IPv6Network)
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class MalformedMessage(PortwardError):
    """Bytes that are not the message that they should be."""


class StateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """ "My host's state after ``generation``, please." The server answers when there is news, or after ``wait``.

    ``policies`` maps each policy the agent holds to its version, ``sets`` each address set; ``digest`` is that of the
    state it holds. An agent that holds nothing sends generation 0, no digest, no policies, no sets.
    """

    version: int = MESSAGE_VERSION
    generation: Generation = 0
    digest: str = ""
    policies: dict[str, int] = {}
    sets: dict[str, int] = {}
    wait: float = 30.0  # seconds that the server may hold the request, 0 to 60


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What the host enforces, without the bodies: its ports with their groups, and the versions of policies and sets.

    ``admitted`` are ids of the network's own ports there.
    """

    ports: tuple[CoveredPort, ...] = ()
    policies: dict[str, int] = {}
    sets: dict[str, int] = {}
    admitted: tuple[str, ...] = ()


class SetChange(msgspec.Struct, frozen=True, kw_only=True):
    """What makes version ``version`` of an address set of version ``since``; 0: of nothing, ``added`` is all of it.

    Addresses are canonical prefixes. One that went and came again in between, or came and went, may be named although
    it changes nothing.
    """

    id: str
    version: int
    since: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class StateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The host's state at ``generation``: what is not in the index is gone.

    ``index`` is an encoded ``Index``, or null when ``digest`` is the one that the agent sent. ``bodies`` are the
    encoded policies of the index that the agent does not hold in that version. Both stay bytes here, so that the
    server encodes a policy once for all hosts, and ``digest`` (``digest_of``) is of what was sent. ``sets`` is what the
    agent lacks of address sets: one member that came is one member here.
    """

    version: int = MESSAGE_VERSION
    generation: int
    digest: str
    index: msgspec.Raw = msgspec.Raw(b"null")
    bodies: tuple[msgspec.Raw, ...] = ()
    sets: tuple[SetChange, ...] = ()


class PolicyBody(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded ``Policy`` whose rules stay bytes: a change leaves nearly all of them as they were."""

    id: str
    version: int
    rules: tuple[msgspec.Raw, ...] = ()


class ReportMessage(msgspec.Struct, frozen=True, kw_only=True):
    """ "This is what became of ``generation``": every port of the index, realised or with its error."""

    version: int = MESSAGE_VERSION
    generation: Generation
    ports: Annotated[tuple[PortReport, ...], msgspec.Meta(max_length=MAX_PORTS)] = ()


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule decided on a host, in all, since it began to be counted there at ``since``.

    An agent that has to begin again says another ``since``. ``last`` is when a reading first showed the newest growth.
    """

    packets: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]  # connections, where the rule allows
    bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
    since: Moment
    last: Moment | None


class CountersMessage(msgspec.Struct, frozen=True, kw_only=True):
    """ "This is how often rules decided here." By id, those that changed; totals, so it may be lost or repeated."""

    version: int = MESSAGE_VERSION
    rules: Annotated[dict[str, Total], msgspec.Meta(max_length=MAX_COUNTERS)] = {}


def hash_body(body: bytes) -> bytes:
    """What an encoded policy counts for in ``digest_of``."""
    return hashlib.sha256(body).digest()


def fingerprint(addresses: Iterable[str], of: int = 0, *, less: Iterable[str] = ()) -> int:
    """The fingerprint of an address set that had the fingerprint ``of``, with ``addresses`` more, without ``less``.

    It costs the addresses that came and went, not those that stayed, and their order is nothing to it.
    """
    for sign, some in ((1, addresses), (-1, less)):
        for address in some:
            of += sign * int.from_bytes(hashlib.sha256(address.encode()).digest(), "big")
    return of % (1 << 256)


def digest_of(index: bytes, body_hashes: Mapping[str, bytes], fingerprints: Mapping[str, int] | None = None) -> str:
    """The digest of a whole state: its encoded index, ``hash_body`` of each policy and ``fingerprint`` of each set.

    Both by their ids. The bodies are in it because a version alone does not tell two policies apart: a database that
    lost its last commits, or was restored from a backup, gives the same numbers out again.
    """
    state = hashlib.sha256(index)
    for policy_id in sorted(body_hashes):
        state.update(body_hashes[policy_id])
    for set_id, number in sorted((fingerprints or {}).items()):
        state.update(set_id.encode() + number.to_bytes(32, "big"))
    return state.hexdigest()


#: To write an address costs as much as to read one, and a host's state is kept with each of its changes.
@lru_cache(maxsize=65536)
def _text(address: Address | Prefix) -> str:
    return str(address)


def _encode_address(value: Any) -> str:
    if isinstance(value, _ADDRESSES):
        return _text(value)
    raise TypeError(f"{type(value).__name__} is no part of a message")


def _decode_address(kind: Any, value: Any) -> Any:
    if kind is Address:
        return ip_address(value)
    if kind is Prefix:
        return parse_prefix(value)
    raise TypeError(f"{kind} is no part of a message")


#: Taking an address apart costs more than the rest of its rule, and an edit leaves nearly all of them as they were.
@lru_cache(maxsize=65536)
def parse_prefix(text: str) -> Prefix:
    """The prefix that ``text`` is.

    Raises:
        ValueError: it is none, or has bits beyond its length.
    """
    return ip_network(text)


_Message = TypeVar("_Message")
_encoder = msgspec.json.Encoder(enc_hook=_encode_address, order="deterministic")


def encode(message: Any) -> bytes:
    """``message``, or any value of the model, as bytes; equal values give equal bytes."""
    return _encoder.encode(message)


def decode(data: bytes, kind: type[_Message]) -> _Message:
    """The ``kind`` of message, or of value of the model, that ``data`` holds.

    Raises:
        MalformedMessage: not JSON, not of that kind, or values that the model does not admit.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decode_address)
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"not a {kind.__name__}: {error}") from error
