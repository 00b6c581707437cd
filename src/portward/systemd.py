"""Tells systemd how the process is doing (sd_notify(3)); nothing happens where systemd did not start it."""

import os
import socket


def notify(state: str) -> None:
    """Send ``state``, for example ``READY=1``. That systemd does not hear it is no reason to end: it will say so."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
    except OSError:
        pass
