"""What an earlier life of an agent left in a namespace, and how much of it can be relied on.

That is little: which epoch is in force, and under which names nothing new may be made. Whatever else stands there
is replaced as a whole, so it is not looked at.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.libnftables import Nft
from portward.dataplane.nftables.ruleset import BASE_CHAIN, TABLE

_EPOCH = re.compile(r"v(\d+)/epoch/(\d+)/([1-9a-f][0-9a-f]*)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9/._-]*")
_OWNER = re.compile(r"v\d+/owner/([0-9a-f]{16})")
_SERIAL = re.compile(r"v(\d+)/")
_BASE = {"type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the table ``inet portward`` of a namespace."""

    serial: int = 0  # the highest in use
    epoch: int | None = None  # in force, when it is certain and of our mask
    marks: frozenset[int] = frozenset()  # which any chain there might write into our bits of a connection's mark
    objects: tuple[tuple[str, str], ...] = ()  # (kind, name), the base chain aside
    unused: tuple[tuple[str, str], ...] = ()  # those of them that a change made which never came to its switch
    owners: frozenset[str] = frozenset()  # marks of the agents that built it; two, if one died taking it over
    usable: bool = True  # false: a change cannot go on from here, the table has to go


#: There is no table.
NOTHING = Found()


def look(nft: Nft, epochs: Epochs) -> Found:
    """What stands in the table, which is there.

    Raises:
        NftError: it cannot be listed.
    """
    objects: list[tuple[str, str]] = []
    usable, has_base = True, False
    for kind, seen in _listed(nft):
        if seen["name"] == BASE_CHAIN:
            has_base = True
            usable = usable and all(seen.get(key) == value for key, value in _BASE.items())
        else:
            usable = usable and bool(_NAME.fullmatch(seen["name"]))  # it will be written into text
            objects.append((kind, seen["name"]))
    in_force = _in_force(nft) if has_base and usable else None
    epoch, switched, marks = None, None, set()
    for _, title in objects:
        match = _EPOCH.fullmatch(title)
        if match:
            number, known = int(match[2]), Epochs(int(match[3], 16))
            marks |= {mark & epochs.mask for mark in known.marks(number)}
            if title == in_force and known == epochs and 1 <= number <= known.last:
                epoch, switched = number, int(match[1])
    owners = frozenset(match[1] for _, title in objects if (match := _OWNER.fullmatch(title)))
    serials = {title: int(match[1]) for _, title in objects if (match := _SERIAL.match(title))}
    return Found(
        serial=max(serials.values(), default=0),
        epoch=epoch,
        marks=frozenset(marks),
        objects=tuple(objects),
        # Each change makes an epoch's chains, so what is in force is no newer than these.
        unused=tuple(item for item in objects if switched is not None and serials.get(item[1], 0) > switched),
        owners=owners,
        usable=usable,
    )


def _listed(nft: Nft) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and nftables' own description of each chain, map and set of our table."""
    for kind in ("chain", "map", "set"):
        for item in nft.objects(f"list {kind}s inet"):
            seen = item.get(kind)
            if seen and seen["table"] == TABLE.split()[1]:
                yield kind, seen


def _in_force(nft: Nft) -> str | None:
    """Where the base chain leads what it does not decide."""
    listed = nft.objects(f"list chain {TABLE} {BASE_CHAIN}")
    rules = [item["rule"]["expr"] for item in listed if "rule" in item]
    if not rules or len(rules[-1]) != 1:
        return None
    target: str | None = rules[-1][0].get("goto", {}).get("target")
    return target
