"""What packet tests share: a lab of their own each, and a hand on the dataplane.

A test run has mounts of its own, so ``/run/netns`` holds its namespaces and no others: no agent, lab or test run
beside it can disturb it, nor it them. At the end nothing may be left.
"""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from packets.enforcer import Enforcer
from portward.lab import Lab

_CLONE_NEWNS = 0x00020000
_OWN = ("/run/netns", "/run/portward-lab")
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: goes on for PORTWARD_SOAK_MINUTES, if that is set (see packets/soak.py)")


@pytest.fixture(scope="session", autouse=True)
def own_mounts() -> Iterator[None]:
    """Namespaces and labs that nobody else sees."""
    if os.geteuid() != 0:
        pytest.fail("packet tests make network namespaces: run them as root", pytrace=False)
    for directory in _OWN:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        pytest.fail("packet tests need mounts of their own: CAP_SYS_ADMIN is missing", pytrace=False)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for directory in _OWN:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", directory], check=True)
    yield
    assert [entry for directory in _OWN for entry in os.listdir(directory)] == [], "packet tests left namespaces behind"


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """A test ends what it starts."""
    with leaving_no_process():
        yield


@contextmanager
def leaving_no_process() -> Iterator[None]:
    """What is started in the block ends there."""
    before = _children()
    yield
    assert [child for child in _children() if child not in before] == [], "a packet test left processes behind"


def _children() -> list[str]:
    me = os.getpid()
    return Path(f"/proc/{me}/task/{me}/children").read_text().split()


@pytest.fixture
def kind() -> str:
    """The kind of port that decides; tests of both are parametrised by it."""
    return "router"


@pytest.fixture
def lab(kind: str) -> Iterator[Lab]:
    """Three tenant networks and the outside behind one router, nothing filtered.

    Of the kind "vm" their hosts are virtual machines on a switch, which passes nothing yet.
    """
    with Lab.create(f"test-{next(_numbers)}", networks=3, switch=kind == "vm") as made:
        yield made


@pytest.fixture
def enforce(lab: Lab) -> Iterator[Enforcer]:
    """The dataplane of the ports of ``lab``; on a switch, all is open."""
    enforcer = Enforcer(lab)
    if lab.state.switch is not None:
        enforcer()
    yield enforcer
    enforcer.close()
