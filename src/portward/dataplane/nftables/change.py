"""The three transactions of a change, as nft text. Pure.

(1) ``prepare`` puts new objects in place; nothing leads to them that decides otherwise than before. (2)
``switch`` replaces the one rule of permanent chains, the epoch's among them: rules of one commit are one snapshot
for a packet, elements of sets and maps are not, so none is changed here. (3) ``remove`` deletes what nothing leads to
any more. A change may die between any two of them; ``build``, which trusts nothing that it finds, then goes on.

The one thing that is edited in place are the elements of an address set, in a transaction before the switch: rules
see them before the epoch rises, so what was accepted by the old members is judged once more. A packet must not see
them with a list that changes as well, nor two sets that change at once, nor a set as it was in one rule and as it is in
the next, where that decides: such sets are made anew, with the lists that use them.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from portward.dataplane.addresses import Members
from portward.dataplane.lists import ListKey
from portward.dataplane.nftables import ruleset, sets
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.layout import Layout, Layouts
from portward.dataplane.nftables.ruleset import BASE_CHAIN, TABLE, ReversePath
from portward.dataplane.nftables.sets import Use
from portward.dataplane.nftables.wanted import DeviceLists, Wanted
from portward.model import Direction, check_device_name


class Version(msgspec.Struct, frozen=True):
    """A version of a list that stands in the kernel."""

    serial: int  # of the change that made it
    layout: Layout


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the kernel, and under which names."""

    build: int  # serial number of the change that made sets, maps and permanent chains
    serial: int  # of the last change
    epoch: int
    epoch_serial: int  # of the change that made the epoch's chains
    versions: dict[ListKey, Version]  # in force
    sets: dict[str, sets.InstalledSet]
    wanted: Wanted

    def uses(self, key: ListKey) -> Mapping[str, frozenset[Use]]:
        """How the version of a list in force uses address sets, by their ids."""
        version = self.versions.get(key)
        return {} if version is None else version.layout.uses


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Three transactions and what stands after them."""

    prepare: str
    edit: sets.Edit = ()  # of an address set in place
    switch: str
    remove: str
    replaced: tuple[tuple[str, str], ...]  # (kind, name) of what ``remove`` deletes and may have counted
    result: Installed


class Planner(msgspec.Struct, frozen=True, kw_only=True):
    """Writes changes for one configuration; the tables it builds belong to the agent ``owner``."""

    owner: str
    epochs: Epochs
    reverse_path: ReversePath
    layouts: Layouts = msgspec.field(default_factory=Layouts)

    def build(self, wanted: Wanted, *, serial: int, epoch: int, leftovers: Collection[tuple[str, str]] = ()) -> Change:
        """Everything anew beside what is there; ``leftovers``, (kind, name) of an earlier life, go in the end."""
        versions = {key: Version(serial, self.layouts.of(key, parts)) for key, parts in wanted.lists.items()}
        installed_sets = {id_: sets.InstalledSet(serial, members) for id_, members in wanted.sets.items()}
        chains = self._epoch_chains(serial, serial, epoch)
        chains += [_list_chain(serial, serial, key, wanted) for key in wanted.lists]
        for device, lists in wanted.devices.items():
            chains += [(title, [rule]) for title, rule in _device_rules(serial, device, lists)]
        return Change(
            prepare=f"table {TABLE} {{\n{ruleset.skeleton(serial, self.owner)}"
            + sets.sets_text(installed_sets)
            + _versions_text(serial, versions, installed_sets)
            + f"{ruleset.chain_text(chains)}}}\n"
            + _elements("add", serial, wanted.devices),
            switch=self._switch_epoch(serial, epoch),
            remove=delete_unknown(leftovers),
            replaced=tuple(leftovers),
            result=Installed(
                build=serial,
                serial=serial,
                epoch=epoch,
                epoch_serial=serial,
                versions=versions,
                sets=installed_sets,
                wanted=wanted,
            ),
        )

    def change(self, installed: Installed, wanted: Wanted, *, epoch: int) -> Change:
        """From ``installed`` to ``wanted``; costs what differs, whatever stands beside it."""
        old, build, serial = installed.wanted, installed.build, installed.serial + 1
        added = [device for device in wanted.devices if device not in old.devices]
        gone = [device for device in old.devices if device not in wanted.devices]
        moved = [device for device, lists in wanted.devices.items() if old.devices.get(device) != lists]

        written = [key for key, parts in wanted.lists.items() if old.lists.get(key) != parts]
        left = {key for device in {*gone, *moved} & old.devices.keys() for key in old.devices[device]}
        now, edits = _sets_after(installed, wanted, serial, {*written, *left})
        renewed = {id_ for id_, one in installed.sets.items() if id_ not in now or now[id_].serial != one.serial}
        written += [key for key in wanted.lists if key not in written and installed.uses(key).keys() & renewed]
        versions = {key: Version(serial, self.layouts.of(key, wanted.lists[key])) for key in written}
        new_sets = {id_: one for id_, one in now.items() if one.serial == serial}
        chains = self._epoch_chains(build, serial, epoch)
        chains += [_list_chain(build, serial, key, wanted) for key in written if key not in old.lists]
        # An empty chain returns to the dispatch: until the switch, a new device is as uncovered as it was.
        chains += [(ruleset.device_chain(build, direction, device), []) for device in added for direction in Direction]

        switch = self._switch_epoch(serial, epoch)
        for key in written:
            if key in old.lists:
                switch += _replace(ruleset.list_chain(build, key), *ruleset.list_rules(serial, key))
        for device in moved:
            for title, rule in _device_rules(build, device, wanted.devices[device]):
                switch += _replace(title, rule)
        for device in gone:
            for direction in Direction:
                switch += f"flush chain {TABLE} {ruleset.device_chain(build, direction, device)}\n"

        # What leads to an object goes before it.
        dead = [("chain", title) for title, _ in self._epoch_chains(build, installed.epoch_serial, installed.epoch)]
        dead += [
            ("chain", ruleset.device_chain(build, direction, device)) for device in gone for direction in Direction
        ]
        dead += [("chain", ruleset.list_chain(build, key)) for key in old.lists if key not in wanted.lists]
        replaced = objects_of(installed, but=wanted.lists.keys() - versions.keys())
        dead_sets = [named for id_ in renewed for named in sets.titles(id_, installed.sets[id_])]
        return Change(
            prepare=f"table {TABLE} {{\n{sets.sets_text(new_sets)}{_versions_text(build, versions, now)}"
            + f"{ruleset.chain_text(chains)}}}\n"
            + _elements("add", build, added),
            edit=edits,
            switch=switch,
            remove=_elements("delete", build, gone) + _delete([*dead, *replaced, *dead_sets]),
            replaced=tuple(replaced),
            result=Installed(
                build=build,
                serial=serial,
                epoch=epoch,
                epoch_serial=serial,
                versions={key: versions.get(key) or installed.versions[key] for key in wanted.lists},
                sets=now,
                wanted=wanted,
            ),
        )

    def _epoch_chains(self, build: int, serial: int, epoch: int) -> list[ruleset.Chain]:
        return ruleset.epoch_chains(build, serial, epoch, self.epochs, self.reverse_path)

    def _switch_epoch(self, serial: int, epoch: int) -> str:
        return _replace(BASE_CHAIN, *ruleset.base_rules(serial, epoch, self.epochs, self.reverse_path))


def objects_of(installed: Installed, *, but: Collection[ListKey] = ()) -> list[tuple[str, str]]:
    """(kind, name) of what the versions in force consist of, those of the lists ``but`` aside; deletable in order."""
    return [
        named
        for key, version in installed.versions.items()
        if key not in but
        for named in version.layout.titles(ruleset.version_name(version.serial, key))
    ]


def _device_rules(build: int, device: str, lists: DeviceLists) -> list[tuple[str, str]]:
    return [
        (ruleset.device_chain(build, direction, device), f"goto {ruleset.list_chain(build, key)}")
        for direction, key in ((Direction.EGRESS, lists.egress), (Direction.INGRESS, lists.ingress))
    ]


def _sets_after(
    installed: Installed, wanted: Wanted, serial: int, changing: Collection[ListKey]
) -> tuple[dict[str, sets.InstalledSet], sets.Edit]:
    """The address sets after a change ``serial``, and what edits one in place.

    ``changing`` are lists that are written anew, and those that a device leaves.
    """
    differ = [id_ for id_, members in wanted.sets.items() if _members(installed, id_) not in (None, members)]
    in_place = (
        len(differ) == 1
        and not any(differ[0] in installed.uses(key) for key in changing)
        and sets.may_edit(
            installed.sets[differ[0]].members,
            wanted.sets[differ[0]],
            [use for key in installed.versions for use in installed.uses(key).get(differ[0], ())],
        )
    )
    after: dict[str, sets.InstalledSet] = {}
    edits: sets.Edit = ()
    for id_, members in wanted.sets.items():
        one = installed.sets.get(id_)
        if one is None or (id_ in differ and not in_place):
            after[id_] = sets.InstalledSet(serial, members)
        elif id_ in differ:
            after[id_] = sets.InstalledSet(one.serial, members)
            edits = sets.edit(one, members)
        else:
            after[id_] = one
    return after, edits


def _members(installed: Installed, id_: str) -> Members | None:
    return installed.sets[id_].members if id_ in installed.sets else None


def _versions_text(
    build: int, versions: Mapping[ListKey, Version], installed_sets: Mapping[str, sets.InstalledSet]
) -> str:
    refuse = ruleset.name(build, "refuse")
    serials = {id_: one.serial for id_, one in installed_sets.items()}
    return "".join(
        version.layout.text(ruleset.version_name(version.serial, key), refuse, serials)
        for key, version in versions.items()
    )


def _list_chain(build: int, serial: int, key: ListKey, wanted: Wanted) -> ruleset.Chain:
    comment = ruleset.list_comment(wanted.lists[key])
    return ruleset.list_chain(build, key), [comment, *ruleset.list_rules(serial, key)]


def _replace(chain: str, *rules: str) -> str:
    return f"flush chain {TABLE} {chain}\n" + "".join(f"add rule {TABLE} {chain} {rule}\n" for rule in rules)


def _elements(verb: str, build: int, devices: Collection[str]) -> str:
    if not devices:
        return ""
    text = f"{verb} element {TABLE} {ruleset.name(build, 'covered')} {{ {_list(map(_quoted, devices))} }}\n"
    for direction in Direction:
        jumps = (f"{_quoted(device)} : jump {ruleset.device_chain(build, direction, device)}" for device in devices)
        text += f"{verb} element {TABLE} {ruleset.name(build, direction)} {{ {_list(jumps)} }}\n"
    return text


def _quoted(device: str) -> str:
    return f'"{check_device_name(device)}"'


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)


def delete_unknown(objects: Collection[tuple[str, str]]) -> str:
    """Deletes (kind, name) ``objects`` that lead to each other in ways not known, but that nothing else leads to.

    Without their rules chains lead nowhere, so the maps go, and then the chains that their elements led to. No map
    is emptied: of one with intervals the kernel takes the elements out one by one.
    """
    chains = "".join(f"flush chain {TABLE} {title}\n" for kind, title in objects if kind == "chain")
    return chains + _delete(sorted(objects, reverse=True))  # "set", "map", "chain"


def _delete(objects: Iterable[tuple[str, str]]) -> str:
    return "".join(f"delete {kind} {TABLE} {title}\n" for kind, title in objects)
