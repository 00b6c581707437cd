"""What answers rejected packets at kernel speed: a device in a namespace of its own, whose nftables refuse all.

The switch sends a rejected packet out of ``Reflector.device``, with the MAC address of the answer's source as its
destination; the answer comes back by the same device with the two swapped. The namespace has no addresses and says
nothing of itself, and it stays when the agent goes. It refuses to answer what must have no answer, whatever the switch
sends it (RFC 1122 3.2.2, RFC 4443 2.4): resets, ICMP errors, broadcast and multicast, later fragments.
"""

import hashlib
import os
import secrets
import struct
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from portward.dataplane.netns import DIRECTORY, NamespaceId, NoSuchNamespace, in_namespace, namespace_id, open_namespace
from portward.dataplane.nftables.libnftables import Nft
from portward.dataplane.nftables.netlink import NETFILTER, Netlink, attributes
from portward.dataplane.nftables.ruleset import REJECTS_A_SECOND
from portward.dataplane.openvswitch import veth
from portward.dataplane.protocol import DataplaneError

_PEER = "answers"
_MTU = 9216  # whatever VMs send; a longer packet has no answer
_RATE = f"{REJECTS_A_SECOND}/second burst {REJECTS_A_SECOND} packets"
_GET_GENERATION = 10 << 8 | 16  # linux/netfilter/nf_tables.h
_PATIENCE = 10.0  # seconds for `ip netns`
# The low 16 bits of the destination say which port refuses. There are no more keys than the set has room for, so the
# limit cannot be escaped by filling it.
_TABLE = f"""\
add table netdev portward
delete table netdev portward
table netdev portward {{
  set answered {{
    typeof ether daddr
    size 65536
    flags dynamic,timeout
    timeout 10s
  }}
  chain answer {{
    type filter hook ingress device "{_PEER}" priority 0; policy drop;
    meta pkttype {{ broadcast, multicast }} drop
    ether saddr & 01:00:00:00:00:00 != 00:00:00:00:00:00 drop
    ip saddr {{ 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/3 }} drop
    ip daddr {{ 224.0.0.0/4, 255.255.255.255 }} drop
    ip6 saddr {{ ::/127, ff00::/8 }} drop
    ip6 daddr ff00::/8 drop
    ip frag-off & 0x1fff != 0 drop
    frag frag-off != 0 drop
    tcp flags & rst != 0 drop
    icmp type {{ destination-unreachable, source-quench, redirect, time-exceeded, parameter-problem }} drop
    icmpv6 type < 128 drop
    icmpv6 type 137 drop
    update @answered {{ ether daddr & 00:00:00:00:ff:ff limit rate over {_RATE} }} drop
    meta l4proto tcp reject with tcp reset
    meta protocol {{ ip, ip6 }} reject with icmpx admin-prohibited
  }}
}}
"""


class _Standing(NamedTuple):
    """What makes one reflector another; as long as this is as it was left, all of it is."""

    namespace: NamespaceId
    device: veth.Device
    peer: veth.Device
    generation: bytes  # of the namespace's nftables


class Reflector:
    """The reflector of ``bridge``, of the switch whose sockets are in ``run_dir``.

    ``device`` is what to plug into the bridge, once ``ensure`` returned; if it had to be made anew it has another name,
    as a switch in userspace goes on listening to the device that is gone when one of the same name comes.
    Of one thread, whose network namespace is the switch's.
    """

    def __init__(self, bridge: str, run_dir: Path = Path("/var/run/openvswitch")) -> None:
        suffix = hashlib.sha256(f"{run_dir}/{bridge}".encode()).hexdigest()[:6]
        self.namespace = f"pw-reject-{suffix}"
        self.device = ""
        self._prefix = f"pw-rj{suffix}"
        self._inside: _Inside | None = None
        self._standing: _Standing | None = None

    def ensure(self) -> None:
        """Make the reflector, or what is missing of it. Takes 0.1 ms when nothing is.

        Raises:
            DataplaneError: it cannot be made; packets to be rejected are dropped in silence meanwhile.
        """
        try:
            with Netlink(veth.ROUTE) as links:
                if self._standing is None or self._look(links) != self._standing:
                    self._standing = None
                    self._make(links)
                    self._standing = self._look(links)
        except OSError as error:
            raise DataplaneError(f"the device that answers rejected packets cannot be made: {error}") from error

    def remove(self) -> None:
        """Remove device and namespace, if they are there.

        Raises:
            DataplaneError: something of it cannot be removed.
        """
        self.close()
        if not (DIRECTORY / self.namespace).exists():
            return
        with suppress(NoSuchNamespace), in_namespace(self.namespace, lambda: Netlink(veth.ROUTE)) as inside:
            peer = veth.device(inside, _PEER)
            if peer is not None:
                veth.delete(inside, peer.number)
        _ip_netns("delete", self.namespace)

    def close(self) -> None:
        """Let go of sockets and the namespace; the reflector stays."""
        self._standing = None
        if self._inside is not None:
            self._inside.close()
        self._inside = None

    def _look(self, links: Netlink) -> _Standing | None:
        """What stands now; ``None``: not all of it."""
        inside = self._inside
        if inside is None or not inside.is_that_of(self.namespace):
            return None
        device, peer = self._pair(links, inside)
        if device is None or peer is None or not (device.up and peer.up):
            return None
        return _Standing(inside.identity, device, peer, inside.generation())

    def _pair(self, links: Netlink, inside: "_Inside") -> tuple[veth.Device | None, veth.Device | None]:
        """The two ends: ours, unless it went elsewhere or is another's, and the one in the namespace."""
        peer = veth.device(inside.links, _PEER)
        device = veth.device(links, peer.peer) if peer is not None and peer.peer else None
        if device is None or peer is None or device.peer != peer.number or not device.name.startswith(self._prefix):
            return None, peer
        return device, peer

    def _make(self, links: Netlink) -> None:
        if self._inside is not None and not self._inside.is_that_of(self.namespace):
            self.close()
        if self._inside is None:
            self._inside = _Inside(self.namespace)
        inside = self._inside
        device, peer = self._pair(links, inside)
        if device is None:
            if peer is not None:
                veth.delete(inside.links, peer.number)
            veth.add(links, self._prefix + secrets.token_hex(2), _PEER, inside.descriptor, mtu=_MTU)
            device, peer = self._pair(links, inside)
        if device is None or peer is None:
            raise DataplaneError(f"somebody removes the devices of {self.namespace} as fast as they are made")
        veth.without_ipv6(device.name)
        inside.prepare()
        # Up last: what comes by before there are rules would find a device that is quiet, but no answer.
        veth.set_up(inside.links, peer.number)
        veth.set_up(links, device.number)
        self.device = device.name


class _Inside:
    """The reflector's namespace, held open, and sockets in it. Made if it is not there."""

    def __init__(self, name: str) -> None:
        try:
            self.descriptor = open_namespace(name)
        except NoSuchNamespace:
            with suppress(OSError):  # what hinders this hinders the next as well, which says it
                os.unlink(DIRECTORY / name)  # a file whose namespace was unmounted
            _ip_netns("add", name)
            self.descriptor = open_namespace(name)
        with ExitStack() as undo:
            undo.callback(os.close, self.descriptor)
            self.identity = namespace_id(self.descriptor)
            self.links, self._rules = in_namespace(self.descriptor, lambda: (Netlink(veth.ROUTE), Netlink(NETFILTER)))
            undo.pop_all()

    def is_that_of(self, name: str) -> bool:
        """Whether it still has that name, and no other has."""
        try:
            status = os.stat(DIRECTORY / name)
        except OSError:
            return False
        return NamespaceId(status.st_dev, status.st_ino) == self.identity

    def generation(self) -> bytes:
        """What changes with every change of its nftables."""
        (answer,) = self._rules.request(_GET_GENERATION, struct.pack("!BBH", 0, 0, 0))
        return attributes(answer[4:])[1]

    def prepare(self) -> None:
        """Make the device quiet, and its rules, all in one transaction."""

        def work() -> None:
            veth.without_ipv6(_PEER)
            veth.with_whole_checksums(_PEER)
            with Nft() as nft:
                nft.run(_TABLE)

        in_namespace(self.descriptor, work)

    def close(self) -> None:
        """Let go of it."""
        self.links.close()
        self._rules.close()
        os.close(self.descriptor)


def _ip_netns(verb: str, name: str) -> None:
    remedy = f"run `ip netns {verb} {name}` as root"
    try:
        done = subprocess.run(
            ["ip", "netns", verb, name], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError as error:
        raise DataplaneError("the ip tool is missing: install iproute2") from error
    except subprocess.TimeoutExpired as error:
        raise DataplaneError(f"`ip netns {verb} {name}` did not end in {_PATIENCE:.0f} s; {remedy}") from error
    if done.returncode != 0:
        raise DataplaneError(f"`ip netns {verb} {name}` failed: {done.stderr.strip() or done.returncode}; {remedy}")
