"""What systemd is told."""

import socket
from pathlib import Path

import pytest

from portward.systemd import notify


@pytest.mark.parametrize("prefix", ["", "@"])
def test_systemd_hears_that_the_process_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str):
    name = f"{tmp_path}/notify"
    monkeypatch.setenv("NOTIFY_SOCKET", prefix + name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(5)
        systemd.bind(f"\0{name}" if prefix else name)
        notify("READY=1")

        assert systemd.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:1"])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify("READY=1")
