"""A packet factory: what a forwarded packet costs this kernel, in nanoseconds, without a sender or a receiver.

In live mode ``BPF_PROG_TEST_RUN`` (Linux 5.18) runs an XDP program that writes a packet and passes it on: the kernel
takes it as received by a device, and all that follows, up to the device that transmits it, is its cost. One CPU does
it all. The program is a few dozen instructions, put together here (linux/bpf.h, linux/bpf_common.h): neither a
compiler nor libbpf is needed. IPv4 and UDP only.
"""

import ctypes
import fcntl
import os
import platform
import socket
import struct
from ipaddress import IPv4Address
from types import TracebackType
from typing import NamedTuple, Self

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD, _TEST_RUN, _LINK_CREATE = 0, 5, 10, 28
_TYPE_XDP, _TYPE_ARRAY, _ATTACH_XDP, _NATIVE, _LIVE, _BATCH = 6, 2, 37, 1 << 2, 1 << 1, 64
_SIOCGIFHWADDR = 0x8927
_DROP, _PASS = 1, 2  # enum xdp_action
_FRAME, _IP, _ID, _DESTINATION_LOW, _UDP = 64, 14, 18, 32, 34
_FIRST_ID = 0x8000
_PORTS = 1 << 15

_libc = ctypes.CDLL(None, use_errno=True)


class FactoryError(OSError):
    """The kernel refused a bpf(2) call: it is too old, or the caller may not."""


class Traffic(NamedTuple):
    """UDP packets of ``flows`` connections in turn.

    They differ in source port, from ``source_port`` up, and beyond 32,768 of them in destination address.
    """

    source: IPv4Address
    destination: IPv4Address
    destination_port: int
    source_port: int = 1024
    flows: int = 1


class Factory:
    """Makes packets that ``device`` of the calling thread's namespace receives.

    Raises:
        FactoryError: see there.
    """

    def __init__(self, device: str) -> None:
        self._device = socket.if_nametoindex(device)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, struct.pack("256s", device.encode()))
        self._mac = answer[18:24]
        passing = _load(_move(0, _PASS) + _EXIT)  # without a program of its own, the device takes no frames of others
        try:
            self._link = _bpf(_LINK_CREATE, struct.pack("<IIII", passing, self._device, _ATTACH_XDP, _NATIVE))
        finally:
            os.close(passing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._link)

    def run(self, traffic: Traffic, packets: int) -> float:
        """Nanoseconds that each of ``packets`` took; runs in the calling thread's namespace, which is the device's.

        Raises:
            FactoryError: see there.
        """
        template = _frame(self._mac, traffic)
        counter = _bpf(_MAP_CREATE, struct.pack("<IIII", _TYPE_ARRAY, 4, 8, 1))
        program = _load(_program(template, counter, traffic))
        data = ctypes.create_string_buffer(template, _FRAME)
        context = ctypes.create_string_buffer(struct.pack("<6I", 0, _FRAME, 0, self._device, 0, 0), 24)
        pointers = ctypes.addressof(data), ctypes.addressof(context)
        attributes = struct.pack("<IIIIQQIIIIQQIII", program, 0, _FRAME, 0, pointers[0], 0, packets, 0, 24, 0,
                                 pointers[1], 0, _LIVE, 0, _BATCH)  # fmt: skip
        buffer = ctypes.create_string_buffer(attributes, 128)
        try:
            _call(_TEST_RUN, buffer)
        finally:
            os.close(program)
            os.close(counter)
        return float(struct.unpack_from("<I", buffer.raw, 36)[0])


def _bpf(command: int, attributes: bytes) -> int:
    return _call(command, ctypes.create_string_buffer(attributes, 128))


def _call(command: int, buffer: "ctypes.Array[ctypes.c_char]") -> int:
    result = int(_libc.syscall(_SYSCALL[platform.machine()], command, buffer, len(buffer)))
    if result < 0:
        number = ctypes.get_errno()
        raise FactoryError(number, f"bpf(2) command {command}: {os.strerror(number)} (root and Linux 5.18 are needed)")
    return result


def _load(instructions: bytes) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    pointers = ctypes.addressof(code), ctypes.addressof(licence)
    return _bpf(_PROG_LOAD, struct.pack("<IIQQ", _TYPE_XDP, len(instructions) // 8, *pointers))


def _frame(mac: bytes, traffic: Traffic) -> bytes:
    """The first packet of ``traffic``; without a UDP checksum, which IPv4 allows."""
    addresses = traffic.source.packed + traffic.destination.packed
    start = struct.pack("!BBHHHBB", 0x45, 0, _FRAME - _IP, _FIRST_ID, 0, 64, socket.IPPROTO_UDP)
    total = sum(struct.unpack("!10H", start + b"\0\0" + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    ports = struct.pack("!HHHH", traffic.source_port, traffic.destination_port, _FRAME - _UDP, 0)
    return (mac + b"\x02\0\0\0\0\x01\x08\0" + start + checksum + addresses + ports).ljust(_FRAME, b"\0")


# Instructions. Registers: 0 results, 1 scratch, 6 the context, 7 the packet, 9 the packet's number, 10 the stack.


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhI", code, to | source << 4, offset, value & 0xFFFFFFFF)


def _move(to: int, value: int) -> bytes:
    return _instruction(0xB7, to, value=value)


def _copy(to: int, source: int) -> bytes:
    return _instruction(0xBF, to, source)


def _add(to: int, value: int) -> bytes:
    return _instruction(0x07, to, value=value)


def _wide(to: int, value: int, kind: int = 0) -> bytes:
    return _instruction(0x18, to, kind, value=value) + _instruction(0, value=value >> 32)


def _swap16(to: int) -> bytes:
    return _instruction(0xDC, to, value=16)


_EXIT = _instruction(0x95)


def _program(template: bytes, counter: int, traffic: Traffic) -> bytes:
    """Writes ``template`` with what tells the flow apart. A packet's memory comes round, so all of it is written."""
    drop = _move(0, _DROP) + _EXIT
    parts = [
        _copy(6, 1),
        _instruction(0x61, 7, 6, 0),  # data
        _instruction(0x61, 8, 6, 4),  # data_end
        _copy(1, 7),
        _add(1, _FRAME),
        _instruction(0x3D, 8, 1, 2),  # long enough: skip the drop
        drop,
        _instruction(0x62, 10, 0, -4, 0),
        _copy(2, 10),
        _add(2, -4),
        _wide(1, counter, kind=1),
        _instruction(0x85, value=1),  # bpf_map_lookup_elem
        _instruction(0x55, 0, 0, 2, 0),  # found: skip the drop
        drop,
        _instruction(0x79, 9, 0),  # this packet's number; the next one's is put back
        _copy(1, 9),
        _add(1, 1),
        _instruction(0xA5, 1, 0, 1, traffic.flows),
        _move(1, 0),
        _instruction(0x7B, 0, 1),
    ]
    for offset in range(0, _FRAME, 8):
        parts += [_wide(1, int.from_bytes(template[offset : offset + 8], "little")), _instruction(0x7B, 7, 1, offset)]
    parts += [
        _copy(1, 9),
        _instruction(0x57, 1, value=_PORTS - 1),
        _add(1, traffic.source_port),
        _swap16(1),
        _instruction(0x6B, 7, 1, _UDP),
        _instruction(0x77, 9, value=15),  # how many rounds of ports there were: added to the destination,
        _instruction(0x69, 1, 7, _DESTINATION_LOW),
        _swap16(1),
        _instruction(0x0F, 1, 9),
        _swap16(1),
        _instruction(0x6B, 7, 1, _DESTINATION_LOW),
        _move(1, _FIRST_ID),  # and taken from the identification, so that the checksum stays right
        _instruction(0x1F, 1, 9),
        _swap16(1),
        _instruction(0x6B, 7, 1, _ID),
        _move(0, _PASS),
        _EXIT,
    ]
    return b"".join(parts)
