"""Auth mode keystone, against a real Keystone: whom its tokens make a caller, and what happens when it is away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from portward.config import Auth, Settings
from portward.config import Keystone as Section
from servers.keystone import Keystone
from wire.conftest import running, settings

RULES = "/v2.0/fwaas/firewall_rules"


def using(keystone: Keystone, directory: Path, **options: Any) -> Settings:
    section = Section(**(keystone.service_options() | options))
    return settings(directory).model_copy(update={"auth": Auth(mode="keystone"), "keystone": section})


@pytest.fixture(scope="module")
def keystone() -> Iterator[Keystone]:
    with Keystone() as keystone:
        yield keystone


@pytest.fixture(scope="module")
def url(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(using(keystone, tmp_path_factory.mktemp("keystone"))) as url:
        yield url


def ask(url: str, token: str | bytes | None, method: str = "GET", **headers: str) -> httpx2.Response:
    sent: dict[str, Any] = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["X-Auth-Token"] = token
    body = {"json": {"firewall_rule": {}}} if method == "POST" else {}
    with httpx2.Client(base_url=url, trust_env=False, timeout=30) as http:
        return http.request(method, RULES, headers=sent, **body)


@pytest.mark.parametrize(
    ("user", "status"), [("admin", 201), ("member1", 201), ("reader1", 403), ("norole1", 403), ("member2", 201)]
)
def test_a_user_may_what_the_roles_in_the_tokens_project_allow(
    keystone: Keystone, url: str, user: str, status: int
) -> None:
    answer = ask(url, keystone.token(user), "POST")
    assert answer.status_code == status, answer.text
    if status == 201:
        project = {"admin": "admin", "member1": "p1", "member2": "p2"}[user]
        assert answer.json()["firewall_rule"]["project_id"] == keystone.projects[project]


@pytest.mark.parametrize("token", [None, "", "garbage", "x" * 20_000, "gAAAAAB\xe9".encode("latin-1")])
def test_what_is_no_token_gets_the_answer_of_keystonemiddleware(
    keystone: Keystone, url: str, token: str | bytes | None
) -> None:
    answer = ask(url, token)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{keystone.url}"'
    message = "The request you have made requires authentication."
    assert answer.json() == {"error": {"code": 401, "title": "Unauthorized", "message": message}}


def test_an_expired_token_is_refused(keystone: Keystone, url: str) -> None:
    assert ask(url, keystone.expired_token).status_code == 401


def test_an_expired_token_passes_with_that_of_a_service_as_elsewhere_in_openstack(keystone: Keystone, url: str) -> None:
    service = keystone.token("portward")
    assert ask(url, keystone.expired_token, X_Service_Token=service).status_code == 200
    assert ask(url, keystone.expired_token).status_code == 401


@pytest.mark.parametrize("service", ["garbage", "of a member"])
def test_a_service_token_that_is_none_makes_the_request_worthless(keystone: Keystone, url: str, service: str) -> None:
    sent = keystone.token("member2") if service == "of a member" else service
    assert ask(url, keystone.token("member1"), X_Service_Token=sent).status_code == 401


def test_a_revoked_token_is_refused_at_once_where_none_are_remembered(keystone: Keystone, tmp_path: Path) -> None:
    token = keystone.token("member1", fresh=True)
    with running(using(keystone, tmp_path, token_cache_time=-1)) as url:
        assert ask(url, token).status_code == 200
        keystone.revoke(token)
        assert ask(url, token).status_code == 401


@pytest.mark.parametrize("scope", [None, {"domain": {"id": "default"}}, {"system": {"all": True}}])
def test_a_token_of_no_project_sees_and_may_do_nothing_not_even_as_admin(
    keystone: Keystone, url: str, scope: dict[str, Any] | None
) -> None:
    ask(url, keystone.token("member1"), "POST")
    token = keystone.issue("admin", scope)
    listed = ask(url, token)
    assert (listed.status_code, listed.json()) == (200, {"firewall_rules": []})
    assert ask(url, token, "POST").status_code == 400  # there is no project that it could be of


def test_headers_that_pretend_to_be_keystones_are_dropped(keystone: Keystone, url: str) -> None:
    forged = {
        "X_Project_Id": keystone.projects["p2"],
        "X_Tenant_Id": keystone.projects["p2"],
        "X_Roles": "admin",
        "X_Role": "admin",
        "X_User_Id": keystone.users["admin"],
        "X_Identity_Status": "Confirmed",
        "X_Service_Identity_Status": "Confirmed",
        "X_Is_Admin_Project": "True",
    }
    assert ask(url, None, **forged).status_code == 401
    assert ask(url, "garbage", **forged).status_code == 401
    made = ask(url, keystone.token("member1", fresh=True), "POST", **forged)
    assert made.json()["firewall_rule"]["project_id"] == keystone.projects["p1"]
    assert ask(url, keystone.token("reader1", fresh=True), "POST", **forged).status_code == 403


def test_while_keystone_is_away_known_tokens_go_on_and_others_are_told_to_come_back(tmp_path: Path) -> None:
    with Keystone() as keystone, running(using(keystone, tmp_path, http_request_max_retries=0)) as url:
        known, unknown = keystone.token("member1"), keystone.token("member2")
        assert ask(url, known).status_code == 200
        keystone.stop()
        assert ask(url, known, "POST").status_code == 201
        answer = ask(url, unknown)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["NeutronError"]["type"] == "IdentityUnavailable"
        assert "try again" in answer.json()["NeutronError"]["message"]


def test_a_service_user_whom_keystone_refuses_lets_nobody_in(keystone: Keystone, tmp_path: Path) -> None:
    with running(using(keystone, tmp_path, password="wrong")) as url:
        assert ask(url, keystone.token("admin")).status_code == 503
