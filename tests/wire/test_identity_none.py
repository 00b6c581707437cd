"""Auth mode none: everybody who reaches the listener is an admin, so only this machine may reach it."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from portward.config import API, ConfigurationError, Settings
from wire.conftest import running, settings


def on_socket(directory: Path) -> Settings:
    return settings(directory).model_copy(update={"api": API(listen=f"unix:{directory}/api.sock")})


@contextmanager
def client(path: Path, host: str = "localhost") -> Iterator[httpx2.Client]:
    transport = httpx2.HTTPTransport(uds=str(path))
    with httpx2.Client(transport=transport, base_url=f"http://{host}", timeout=20) as http:
        yield http


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9696", "firewall.example:9696"])
def test_a_listener_that_others_reach_is_refused_with_what_to_do(tmp_path: Path, listen: str) -> None:
    chosen = settings(tmp_path).model_copy(update={"api": API(listen=listen)})
    with pytest.raises(ConfigurationError, match=r"unix:/path, or choose http_basic or keystone"), running(chosen):
        pass


def test_a_unix_socket_serves_whoever_may_open_it_by_any_name(tmp_path: Path) -> None:
    with running(on_socket(tmp_path)):
        assert stat.S_IMODE((tmp_path / "api.sock").stat().st_mode) == 0o660
        for host in ("localhost", "firewall.example"):
            with client(tmp_path / "api.sock", host) as http:
                made = http.post("/v2.0/fwaas/firewall_rules", json={"firewall_rule": {"shared": True}})
                assert (made.status_code, made.json()["firewall_rule"]["shared"]) == (201, True)
    assert not (tmp_path / "api.sock").exists()


def test_a_page_of_a_browser_is_refused_on_a_unix_socket_too(tmp_path: Path) -> None:
    with running(on_socket(tmp_path)), client(tmp_path / "api.sock") as http:
        assert http.get("/v2.0/fwaas/firewall_rules", headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(tmp_path / "api.sock"))
    with running(on_socket(tmp_path)), client(tmp_path / "api.sock") as http:
        assert http.get("/").status_code == 200


def test_a_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as living:
        living.bind(str(tmp_path / "api.sock"))
        living.listen()
        with pytest.raises(ConfigurationError, match="another process listens"), running(on_socket(tmp_path)):
            pass
        assert (tmp_path / "api.sock").exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "api.sock").write_text("precious")
    with pytest.raises(ConfigurationError, match="no socket"), running(on_socket(tmp_path)):
        pass
    assert (tmp_path / "api.sock").read_text() == "precious"


def test_a_socket_that_took_our_place_is_not_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with closing(socket.socket(socket.AF_UNIX)) as other:
        with running(on_socket(tmp_path)):
            other.bind(str(tmp_path / "other.sock"))
            os.replace(tmp_path / "other.sock", path)
        assert path.exists()


@pytest.mark.parametrize("listen", ["unix:", "unix:api.sock", f"unix:/{'x' * 107}"])
def test_a_socket_needs_an_absolute_path_that_the_kernel_takes(listen: str) -> None:
    with pytest.raises(ValueError, match="absolute path of at most 107 bytes"):
        API(listen=listen)
