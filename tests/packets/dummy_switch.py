"""The real switch without any device: frames go in over its control socket, and come out into files.

Tables, cache and connection tracking are those of the userspace datapath; only the ports are dummies.
"""

import contextlib
import struct
from collections.abc import Collection, Iterator

from packets.bare_switch import BareSwitch, until

_FILE_HEADER, _RECORD_HEADER = 24, 16


class DummySwitch(BareSwitch):
    """A bridge ``br-int`` with dummy ports, each of the OpenFlow number that it is asked for by."""

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd, able to make dummies and nothing else, and wait until it answers."""
        dummies = ("--enable-dummy", "--disable-system")
        self._vswitchd = self._start("ovs-vswitchd", f"unix:{self._socket}", "--pidfile", *dummies)
        until(lambda: self._try("ovs-appctl", "version"))

    def make_bridge(self, ports: Collection[int]) -> None:
        """Make the bridge with ``ports``; nothing passes it."""
        self.ports = tuple(ports)
        self._read = dict.fromkeys(self.ports, _FILE_HEADER)
        self.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=dummy", "fail_mode=secure")
        for port in self.ports:
            settings = ("type=dummy", f"ofport_request={port}", f"options:tx_pcap={self.run_dir}/{port}.pcap")
            self.vsctl("add-port", "br-int", f"p{port}", "--", "set", "interface", f"p{port}", *settings)

    def send(self, in_port: int, *frames: bytes) -> list[tuple[int, bytes]]:
        """What goes out, and by which ports, when ``frames`` come in by ``in_port``. What was cached is forgotten."""
        self.control("revalidator/purge")
        for frame in frames:
            answer = self.control("netdev-dummy/receive", f"p{in_port}", frame.hex())
            assert answer in ("", "None"), answer
        for _ in range(2):  # the switch has worked it off once it answers a second time
            self.control("version")
        return [(port, frame) for port in self.ports for frame in self._new(port)]

    def _new(self, port: int) -> Iterator[bytes]:
        """The frames that left by ``port`` since this was asked last."""
        data = (self.run_dir / f"{port}.pcap").read_bytes()
        at = self._read[port]
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at + 8)
            yield data[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
            at += _RECORD_HEADER + length
        self._read[port] = at


@contextlib.contextmanager
def dummy_switch(ports: Collection[int]) -> Iterator[DummySwitch]:
    """Such a switch that runs, its bridge with ``ports``."""
    with contextlib.ExitStack() as undo:
        switch = DummySwitch()
        undo.push(switch.__exit__)
        switch.__enter__()
        switch.make_bridge(ports)
        yield switch
