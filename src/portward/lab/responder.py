"""A process of its own: answers on every TCP and UDP port of every host of a lab; arguments are their namespaces.

TCP is echoed until the other side closes. A UDP datagram is sent back with ``ECHO`` before it; one that begins so is
not answered, or two hosts could send each other one forged datagram for ever. The hosts' namespaces hand over what
no other socket wants (``tproxy``, see ``build``), so one socket a protocol is enough, and a program that a user starts
on a port of a host gets its packets as anywhere else. UDP is answered by a raw socket: a bound one would take
packets meant for others.
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address

from portward.dataplane.netns import in_namespace
from portward.lab.packets import Datagram
from portward.model import UDP, Address

#: Where the sockets listen, on every host; the port itself is as good to probe as any other.
PORT = 4
#: linux/in.h and linux/in6.h; the socket module lacks them.
_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75
_IP_RECVORIGDSTADDR, _IPV6_RECVORIGDSTADDR = 20, 74
ECHO = b"echo:"
READY = "ready\n"
_BUFFER = 4 * 1024 * 1024


def main() -> None:
    """Serve until killed; says ``READY`` on standard output once every host answers, and lets go of it."""
    asyncio.run(_serve(sys.argv[1:]))


async def _serve(namespaces: list[str]) -> None:
    loop = asyncio.get_running_loop()
    servers = []
    for netns in namespaces:
        for stream, datagram, raw in in_namespace(netns, _sockets):
            servers.append(await asyncio.start_server(_echo, sock=stream, backlog=4096))
            loop.add_reader(datagram, _answer, datagram, raw)
    print(READY, end="", flush=True)
    # Whoever waits for the end of the creator's output must not wait for this process.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _sockets() -> list[tuple[socket.socket, socket.socket, socket.socket]]:
    """For each IP version: where TCP and UDP arrive, and what UDP is answered with."""
    made = []
    for family in (socket.AF_INET, socket.AF_INET6):
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        raw.setblocking(False)
        made.append((_socket(family, socket.SOCK_STREAM), _socket(family, socket.SOCK_DGRAM), raw))
    return made


def _socket(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_RECVORIGDSTADDR, 1)
    if kind == socket.SOCK_DGRAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    made.bind(("", PORT))
    return made


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


def _answer(datagram: socket.socket, raw: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            payload, ancillary, _, peer = datagram.recvmsg(65535, 256)
            if payload.startswith(ECHO):
                continue
            address, port = _original_destination(ancillary)
            answer = Datagram(
                source=address,
                destination=type(address)(peer[0]),
                protocol=UDP,
                source_port=port,
                destination_port=peer[1],
                payload=ECHO + payload,
            )
            raw.sendto(answer.to_bytes(), (peer[0], 0))


def _original_destination(ancillary: list[tuple[int, int, bytes]]) -> tuple[Address, int]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_RECVORIGDSTADDR):
            return IPv4Address(data[4:8]), struct.unpack(">H", data[2:4])[0]
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR):
            return IPv6Address(data[8:24]), struct.unpack(">H", data[2:4])[0]
    raise OSError("no original destination")
