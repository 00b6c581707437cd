"""What one router namespace is to enforce. Pure."""

from typing import NamedTuple

import msgspec

from portward.dataplane.addresses import Members
from portward.dataplane.lists import ListKey, Part


class DeviceLists(NamedTuple):
    """By which lists a covered device is decided."""

    egress: ListKey
    ingress: ListKey


class Wanted(msgspec.Struct, frozen=True):
    """Everything that one namespace is to enforce. Equal values: nothing is to be done."""

    devices: dict[str, DeviceLists] = {}
    lists: dict[ListKey, tuple[Part, ...]] = {}
    sets: dict[str, Members] = {}  # those that rules of the lists name, by id
