"""A lab as a whole: made, found again, and taken down.

It never touches the namespace that it is called from, and removes nothing that it did not make.
"""

import contextlib
import os
import subprocess
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

import msgspec

from portward.lab import state as states
from portward.lab.build import build, check_free, start_responder
from portward.lab.errors import LabError, LabExists, NeedsRoot, NoSuchLab
from portward.lab.host import Host
from portward.lab.namespaces import delete_namespace, ip, nft
from portward.lab.plan import OUTSIDE, plan
from portward.lab.processes import kill
from portward.lab.state import FloatingIP, LabPort, LabState
from portward.lab.switch import Switch
from portward.model import Address


class Lab:
    """Hosts on networks of their own behind one router. A context manager that takes the lab down.

    Tenant networks are called ``red``, ``blue`` and, if there are three, ``green``; beyond the gateway is ``outside``.
    """

    def __init__(self, state: LabState) -> None:
        """Not for callers: ``create`` makes a lab, ``open`` finds one that is up."""
        self._state = state
        self._child: subprocess.Popen[str] | None = None
        self._switch = None if state.switch is None else Switch(state.switch)
        self.hosts = {host.name: Host(self, host) for host in state.hosts}
        self.ports = {port.name: port for port in state.ports}
        self.vm_ports = {port.name: port for port in state.vm_ports}

    @classmethod
    def create(cls, name: str, *, networks: int = 2, switch: bool = False) -> Self:
        """Make the lab ``name`` with 2 or 3 tenant networks; when it returns, every host answers.

        With a ``switch``, hosts of tenant networks are virtual machines on it; it passes nothing until it has flows.

        Raises:
            NeedsRoot: not called by root.
            LabExists: it is up, or a namespace has a name that it needs.
            InvalidValue: no lab can be called so.
            LabError: it cannot be made; nothing of it is left.
        """
        _need_root()
        state = plan(name, networks, switch=switch)
        states.claim(state)
        try:
            check_free(state)
        except LabExists:
            states.forget(name)
            raise
        lab = cls(state)
        try:
            build(state)
            if lab._switch is not None:
                lab._save(msgspec.structs.replace(state, processes=lab._switch.start()))
                lab._switch.plug((*state.vm_ports, *state.plugged_ports))
            lab._child, process = start_responder(state)
            lab._save(msgspec.structs.replace(lab.state, processes=(*lab.state.processes, process)))
        except BaseException:
            lab.destroy()
            raise
        return lab

    @classmethod
    def open(cls, name: str) -> Self:
        """The lab ``name`` that another process, or this one, has made.

        Raises:
            NeedsRoot: not called by root.
            NoSuchLab: it is not up.
        """
        _need_root()
        return cls(states.load(name))

    @staticmethod
    def names() -> list[str]:
        """The labs that are up.

        Raises:
            NeedsRoot: not called by root.
        """
        _need_root()
        return states.names()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    @property
    def state(self) -> LabState:
        """All that the lab consists of, as values."""
        return self._state

    @property
    def name(self) -> str:
        """What it was called when it was made."""
        return self._state.name

    @property
    def router_id(self) -> str:
        """The id that Neutron would know the router by."""
        return self._state.router_id

    @property
    def router_netns(self) -> str:
        """The router's namespace."""
        return self._state.router_netns

    @property
    def red(self) -> Host:
        """The host of the first tenant network."""
        return self.hosts["red"]

    @property
    def blue(self) -> Host:
        """The host of the second tenant network."""
        return self.hosts["blue"]

    @property
    def green(self) -> Host:
        """The host of the third tenant network, of a lab that has three."""
        return self.hosts["green"]

    @property
    def outside(self) -> Host:
        """The host beyond the router's gateway."""
        return self.hosts[OUTSIDE]

    @property
    def switch(self) -> Switch:
        """The switch, of a lab that has one.

        Raises:
            LabError: it has none.
        """
        if self._switch is None:
            raise LabError(f"lab {self.name} has no switch; `portward lab up --switch` makes one with")
        return self._switch

    def port(self, network: str) -> LabPort:
        """The router's interface to ``network``.

        Raises:
            LabError: there is no such network.
        """
        if network not in self.ports:
            raise LabError(f"lab {self.name} has no network {network!r}; it has {', '.join(self.ports)}")
        return self.ports[network]

    def behind(self, address: Address) -> tuple[Host, Address]:
        """The host that gets what is sent to ``address``, and the address it gets it at.

        Raises:
            LabError: nobody does.
        """
        fixed = next((item.fixed for item in self._state.floating_ips if item.outside == address), address)
        for host in self.hosts.values():
            if fixed in host.addresses:
                return host, fixed
        raise LabError(f"no host of lab {self.name} has the address {address}")

    def masquerade(self) -> None:
        """Let tenant networks reach the outside under the router's own address, as Neutron's source NAT does."""
        nft(self.router_netns, f"{self._nat()}\nadd rule ip lab_nat source oifname {self._gateway} masquerade")

    def floating_ip(self, outside: IPv4Address | str, fixed: IPv4Address | str) -> None:
        """Translate between ``outside``, an unused address of the outside network, and the address ``fixed``.

        Raises:
            LabError: ``fixed`` is no host's.
        """
        item = FloatingIP(IPv4Address(outside), IPv4Address(fixed))
        self.behind(item.fixed)
        ip(self.router_netns, [f"address add {item.outside}/32 dev {self._gateway}"])
        ip(
            self.outside.netns,
            [f"neighbour add {item.outside} lladdr {self.port(OUTSIDE).mac} dev {self.outside.device} nud permanent"],
        )
        nft(
            self.router_netns,
            f"{self._nat()}\n"
            f"add rule ip lab_nat destination ip daddr {item.outside} dnat to {item.fixed}\n"
            f"insert rule ip lab_nat source oifname {self._gateway} ip saddr {item.fixed} snat to {item.outside}",
        )
        self._save(msgspec.structs.replace(self._state, floating_ips=(*self._state.floating_ips, item)))

    def destroy(self) -> None:
        """Remove the lab: its processes, its namespaces with all that is in them, its file. May be called again.

        A lab of the same name that was made since by somebody else is left alone.

        Raises:
            LabError: something of it does not go away; what it is, and calling again is right.
        """
        with contextlib.suppress(NoSuchLab):
            state = states.load(self.name)
            if state.router_id == self.router_id:
                for process in state.processes:
                    kill(process)
                if self._switch is not None:
                    self._switch.destroy()
                for netns in state.namespaces:
                    delete_namespace(netns)
                states.forget(self.name)
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    @property
    def _gateway(self) -> str:
        return self.port(OUTSIDE).device

    @staticmethod
    def _nat() -> str:
        return (
            "add table ip lab_nat\n"
            "add chain ip lab_nat destination { type nat hook prerouting priority dstnat; }\n"
            "add chain ip lab_nat source { type nat hook postrouting priority srcnat; }"
        )

    def _save(self, state: LabState) -> None:
        states.save(state)
        self._state = state


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NeedsRoot
