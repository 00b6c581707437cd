"""Address sets as nft sets: their names, and how their elements change. Pure.

A set of each IP version is a set of intervals, each a prefix that no other member holds; so an address that comes or
goes is one element, whatever the size of the set. Which transaction carries a change is ``change``'s business.
"""

from collections.abc import Iterable

import msgspec

from portward.compiler import BITS
from portward.dataplane.addresses import Members
from portward.dataplane.nftables.ruleset import TABLE, name
from portward.model import IPVersion, Prefix


class InstalledSet(msgspec.Struct, frozen=True):
    """An address set that stands in the kernel."""

    serial: int  # of the change that made it
    members: Members


def set_title(serial: int, id_: str, version: IPVersion) -> str:
    """The name of the nft set that change ``serial`` made of the address set ``id_``."""
    return name(serial, "set", id_, str(version))


def titles(id_: str, installed: InstalledSet) -> list[tuple[str, str]]:
    """(kind, name) of what an address set is made of."""
    return [("set", set_title(installed.serial, id_, version)) for version in BITS]


def sets_text(sets: dict[str, InstalledSet]) -> str:
    """What makes ``sets``, as part of the body of a table block."""
    text = ""
    for id_, installed in sets.items():
        for version, prefixes in installed.members.prefixes.items():
            content = f"  elements = {{ {_listed(prefixes)} }}\n" if prefixes else ""
            title = set_title(installed.serial, id_, version)
            text += f"set {title} {{\n  type ipv{version}_addr\n  flags interval\n{content}}}\n"
    return text


def edit(installed: InstalledSet, members: Members) -> str:
    """The commands that give a set that stands other members."""
    text = ""
    for version, before in installed.members.prefixes.items():
        after = members.prefixes[version]
        title = set_title(installed.serial, members.id, version)
        for verb, prefixes in (("delete", before - after), ("add", after - before)):
            if prefixes:
                text += f"{verb} element {TABLE} {title} {{ {_listed(prefixes)} }}\n"
    return text


def _listed(prefixes: Iterable[Prefix]) -> str:
    return ", ".join(map(str, prefixes))
