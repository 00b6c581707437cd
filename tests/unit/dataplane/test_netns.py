"""Entering namespaces. These need root, as everything that enforces does."""

import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from portward.dataplane.netns import NamespaceError, in_namespace, namespace_id, open_namespace
from portward.model import InvalidValue


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"pw-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def devices() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def test_a_function_runs_inside_and_the_caller_stays_where_it_was(namespace: str) -> None:
    outside = os.readlink("/proc/thread-self/ns/net")
    assert in_namespace(namespace, devices) == ["lo"]
    assert in_namespace(namespace, lambda: os.readlink("/proc/thread-self/ns/net")) != outside
    assert os.readlink("/proc/thread-self/ns/net") == outside


def test_what_the_function_raises_reaches_the_caller(namespace: str) -> None:
    with pytest.raises(ZeroDivisionError):
        in_namespace(namespace, lambda: 1 // 0)


def test_a_descriptor_holds_the_namespace_that_it_was_opened_on(namespace: str) -> None:
    first = open_namespace(namespace)
    try:
        subprocess.run(["ip", "netns", "del", namespace], check=True)
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        second = open_namespace(namespace)
        assert namespace_id(first) != namespace_id(second)
        assert in_namespace(first, devices) == ["lo"]
        os.close(second)
    finally:
        os.close(first)


def test_a_namespace_that_is_not_there_is_named_in_the_error() -> None:
    with pytest.raises(NamespaceError, match="pw-missing does not exist"):
        in_namespace("pw-missing", devices)


def test_a_file_on_which_no_namespace_is_mounted_yet_is_refused(namespace: str) -> None:  # noqa: ARG001 - makes /run/netns
    path = Path(f"/run/netns/pw-{uuid.uuid4().hex[:8]}")
    path.touch()
    try:
        with pytest.raises(NamespaceError, match="is not a network namespace"):
            open_namespace(path.name)
    finally:
        path.unlink()


def test_a_namespace_of_another_kind_behind_a_link_is_refused(namespace: str) -> None:  # noqa: ARG001
    path = Path(f"/run/netns/pw-{uuid.uuid4().hex[:8]}")
    path.symlink_to("/proc/self/ns/net")
    try:
        with pytest.raises(NamespaceError, match="cannot be opened"):
            open_namespace(path.name)
    finally:
        path.unlink()


@pytest.mark.parametrize("name", ["../../proc/1/ns/net", "", ".", "a/b", "x" * 65, "a\x00b"])
def test_a_name_that_leads_out_of_the_directory_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        open_namespace(name)
