"""TLS on both listeners: who is served, who is not, and certificates that change under way."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from portward.api import connections, tls
from portward.channel.client import Client, Unreachable, Untrusted
from portward.config import API, AgentAPI, ConfigurationError, Settings
from portward.service.agents import add_host
from portward.store import Store, now
from wire.agent_server import eventually
from wire.authority import Authority
from wire.conftest import DEADLINE, serving, settings


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def secured(directory: Path, cert: Path, key: Path) -> Settings:
    both = {"listen": "127.0.0.1:0", "tls_cert": cert, "tls_key": key}
    return settings(directory).model_copy(update={"api": API(**both), "agent_api": AgentAPI(**both)})


@contextmanager
def served(directory: Path, cert: Path, key: Path) -> Iterator[tuple[str, str]]:
    """The addresses of both listeners, with TLS."""
    with serving(secured(directory, cert, key)) as (api, agents):
        yield api.replace("http:", "https:"), agents.replace("http:", "https:")


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.partition("://")[2].rpartition(":")
    return host, int(port)


def _subject(url: str, authority: Authority) -> str:
    """Whom the certificate is for that a new connection is shown."""
    context = ssl.create_default_context(cafile=authority.file)
    with (
        socket.create_connection(_address(url), DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        shown = connection.getpeercert()
        assert shown is not None
        return dict(pair for (pair,) in shown["subject"])["commonName"]  # type: ignore[misc]


def test_both_listeners_speak_tls_to_who_trusts_the_authority(tmp_path: Path, authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=authority.file)
    with served(tmp_path, *authority.issue("server")) as urls, httpx2.Client(trust_env=False, verify=trust) as http:
        assert [http.get(f"{url}/healthz").status_code for url in urls] == [200, 200]
        link = http.get(urls[0]).json()["versions"][0]["links"][0]["href"]
    assert link.startswith(urls[0])


def test_what_speaks_plain_http_gets_nothing(tmp_path: Path, authority: Authority) -> None:
    with served(tmp_path, *authority.issue("server")) as (url, _), pytest.raises(httpx2.TransportError):
        httpx2.get(url.replace("https", "http"), trust_env=False)


def test_nothing_below_tls_1_2_is_spoken(tmp_path: Path, authority: Authority) -> None:
    old = ssl.create_default_context(cafile=authority.file)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        served(tmp_path, *authority.issue("server")) as (url, _),
        socket.create_connection(_address(url), DEADLINE) as plain,
        pytest.raises(OSError),
    ):
        old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_an_agent_that_trusts_the_authority_is_served(tmp_path: Path, authority: Authority) -> None:
    store = Store(settings(tmp_path).database.url)
    with served(tmp_path, *authority.issue("server")) as (_, url):
        token = store.writing(lambda session: add_host(session, "h1", now()))
        client = Client(url, token, ca_file=authority.file)
        assert client.poll(wait=0) is not None
        client.close()
    store.close()


def test_an_agent_says_that_it_does_not_trust_a_certificate_and_never_shows_its_token(
    tmp_path: Path, authority: Authority
) -> None:
    stranger = Authority(tmp_path, "stranger")
    for cert, key in (stranger.issue("forged"), authority.issue("elsewhere", address="192.0.2.1")):
        with served(tmp_path, cert, key) as (_, url):
            client = Client(url, "secret-token", ca_file=authority.file)
            with pytest.raises(Untrusted, match="no certificate that can be trusted") as caught:
                client.poll(wait=0)
            assert "secret-token" not in str(caught.value)
            client.close()


def test_an_agent_that_speaks_plain_http_to_tls_cannot_reach_it(tmp_path: Path, authority: Authority) -> None:
    with served(tmp_path, *authority.issue("server")) as (_, url):
        client = Client(url.replace("https", "http"), "secret-token")
        with pytest.raises(Unreachable):
            client.poll(wait=0)
        client.close()


@pytest.mark.parametrize("content", [None, "a poem"])
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"\[agent\] ca_file: .*ca.pem"):
        Client("https://127.0.0.1:1", "t", ca_file=file)


def test_a_renewed_certificate_is_taken_up_without_a_restart(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.02)
    cert, key = authority.issue("first")
    with served(tmp_path, cert, key) as (url, _):
        assert _subject(url, authority) == "first"
        for file, new in zip((cert, key), authority.issue("second"), strict=True):
            new.replace(file)
        eventually(lambda: _subject(url, authority) == "second")


def test_files_that_do_not_fit_leave_the_old_certificate_in_service_until_they_do(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.02)
    cert, key = authority.issue("first")
    with served(tmp_path, cert, key) as (url, _):
        new_cert, new_key = authority.issue("second")
        new_cert.replace(cert)
        time.sleep(0.3)  # the claim is about looks that come meanwhile
        assert _subject(url, authority) == "first"
        new_key.replace(key)
        eventually(lambda: _subject(url, authority) == "second")


def test_a_stranger_who_never_speaks_tls_is_cut(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIME", 0.3)
    with served(tmp_path, *authority.issue("server")) as urls:
        for url in urls:
            with socket.create_connection(_address(url), DEADLINE) as stranger:
                assert stranger.recv(100) == b""


def test_strangers_in_the_middle_of_their_handshakes_count_as_connections(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portward.api.server.share", lambda _limit: (5, 16))
    with served(tmp_path, *authority.issue("server")) as (api, agents):
        strangers = [socket.create_connection(_address(agents), DEADLINE) for _ in range(6)]
        assert strangers[5].recv(100) == b"", "one too many, and cut"
        assert _subject(api, authority) == "server", "the users have a share of their own"
        strangers[0].close()
        eventually(lambda: _is_served(agents, authority))
        for stranger in strangers:
            stranger.close()


def _is_served(url: str, authority: Authority) -> bool:
    try:
        return _subject(url, authority) == "server"
    except OSError:
        return False


@pytest.mark.parametrize("section", ["api", "agent_api"])
@pytest.mark.parametrize("broken", ["missing", "poem", "other key", "passphrase"])
def test_a_certificate_that_cannot_be_used_stops_the_start_with_file_and_reason(
    tmp_path: Path, authority: Authority, section: str, broken: str
) -> None:
    cert, key = authority.issue("server", passphrase=b"secret" if broken == "passphrase" else None)
    if broken == "missing":
        cert.unlink()
    elif broken == "poem":
        cert.write_text("a poem, and no certificate")
    elif broken == "other key":
        key = authority.issue("other")[1]
    bad = {"api": API, "agent_api": AgentAPI}[section](listen="127.0.0.1:0", tls_cert=cert, tls_key=key)
    chosen = settings(tmp_path).model_copy(update={section: bad})
    with pytest.raises(ConfigurationError, match=rf"\[{section}\] tls_.*server\.crt"), serving(chosen):
        pass
    assert not (tmp_path / "portward.db").exists()


def test_a_certificate_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="tls_cert and tls_key, or neither"):
        API(tls_cert=Path("/x"))
