"""Who openstacksdk's user is: refusals as its exceptions, catalogs, and tokens that are worth nothing."""

import pytest
from keystoneauth1.exceptions.http import Unauthorized
from openstack.exceptions import ForbiddenException, HttpException, NotFoundException

from servers.keystone import PASSWORD
from wire.clients.cloud import GROUP, RULE, Cloud, connected
from wire.conftest import forget_everything

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture(params=["keystone", "http_basic"])
def identified(request: pytest.FixtureRequest) -> Cloud:
    """A cloud that knows its callers, and holds nothing."""
    cloud: Cloud = request.getfixturevalue(f"{request.param}_cloud")
    cloud.store.writing(forget_everything)
    return cloud


def test_a_reader_is_forbidden_what_a_reader_sees(identified: Cloud) -> None:
    with identified.api("member") as api:
        rule = api.make(RULE, name="r")["id"]
    with connected(**identified.options("reader")) as sdk:
        assert sdk.network.get_firewall_rule(rule).name == "r"
        for change in (
            lambda: sdk.network.create_firewall_rule(name="x"),
            lambda: sdk.network.update_firewall_rule(rule, name="x"),
            lambda: sdk.network.delete_firewall_rule(rule),
        ):
            with pytest.raises(ForbiddenException, match="disallowed by policy"):
                change()


def test_a_member_of_another_project_finds_nothing_but_what_is_shared(identified: Cloud) -> None:
    with identified.api("member") as api, identified.api("admin") as admin:
        rule = api.make(RULE, name="r")["id"]
        shared = admin.make(RULE, name="s", shared=True, project_id=identified.project("p1"))["id"]
    with connected(**identified.options("stranger")) as sdk:
        assert [found.id for found in sdk.network.firewall_rules()] == [shared]
        assert sdk.network.find_firewall_rule("r") is None
        for call in (sdk.network.get_firewall_rule, lambda id_: sdk.network.update_firewall_rule(id_, name="x")):
            with pytest.raises(NotFoundException):
                call(rule)
        with pytest.raises(ForbiddenException):
            sdk.network.delete_firewall_rule(shared)


def test_a_user_without_a_role_that_counts_sees_nothing_and_may_nothing(keystone_cloud: Cloud) -> None:
    keystone_cloud.store.writing(forget_everything)
    with keystone_cloud.api("member") as api:
        api.make(RULE, name="r")
    options = keystone_cloud.options("member")
    options["auth"]["username"] = "norole1"
    with connected(**options) as sdk:
        assert list(sdk.network.firewall_rules()) == []
        with pytest.raises(ForbiddenException):
            sdk.network.create_firewall_rule(name="x")


def test_a_wrong_password_is_a_401(identified: Cloud) -> None:
    options = identified.options("member")
    options["auth"]["password"] = "wrong"
    with connected(**options) as sdk, pytest.raises((HttpException, Unauthorized)) as raised:
        list(sdk.network.firewall_groups())
    assert "requires authentication" in str(raised.value)


@pytest.mark.parametrize("endpoint", ["", "/v2.0"])
@pytest.mark.parametrize("which", ["garbage", "expired", "revoked"])
def test_a_token_that_is_worth_nothing_is_a_401(keystone_cloud: Cloud, which: str, endpoint: str) -> None:
    keystone = keystone_cloud.keystone
    assert keystone is not None
    token = {"garbage": "garbage", "expired": keystone.expired_token}.get(which, "")
    if which == "revoked":
        token = keystone.token("member1", fresh=True)
        keystone.revoke(token)
    auth = {"endpoint": keystone_cloud.url + endpoint, "token": token}
    with connected(auth_type="admin_token", auth=auth) as sdk, pytest.raises(HttpException) as raised:
        list(sdk.network.firewall_groups())
    assert raised.value.status_code == 401


@pytest.mark.parametrize("endpoint", ["", "/v2.0"])
def test_a_token_alone_is_enough_where_the_endpoint_is_known(keystone_cloud: Cloud, endpoint: str) -> None:
    keystone = keystone_cloud.keystone
    assert keystone is not None
    auth = {"endpoint": keystone_cloud.url + endpoint, "token": keystone.token("member1", fresh=True)}
    with connected(auth_type="admin_token", auth=auth) as sdk:
        made = sdk.network.create_firewall_group(name="g")
    assert made.project_id == keystone_cloud.project("p1")


@pytest.mark.parametrize("endpoint", ["", "/", "/v2.0"])
def test_the_catalog_may_name_the_endpoint_with_or_without_its_version(keystone_cloud: Cloud, endpoint: str) -> None:
    keystone_cloud.store.writing(forget_everything)
    keystone = keystone_cloud.keystone
    assert keystone is not None
    keystone.set_network_endpoint(keystone_cloud.url + endpoint)
    try:
        with connected(**keystone_cloud.options("member")) as sdk:
            made = sdk.network.create_firewall_group(name="g")
            assert [found.id for found in sdk.network.firewall_groups()] == [made.id]
    finally:
        keystone.set_network_endpoint(keystone_cloud.url)
    with keystone_cloud.api() as held:
        assert held.show(GROUP, made.id)["project_id"] == keystone_cloud.project("p1")


@pytest.mark.parametrize("endpoint", ["", "/v2.0"])
def test_an_override_of_the_endpoint_works_with_a_catalog_that_names_another(
    keystone_cloud: Cloud, endpoint: str
) -> None:
    """As beside a Neutron, which is the catalog's service of type network."""
    keystone = keystone_cloud.keystone
    assert keystone is not None
    keystone.set_network_endpoint("http://127.0.0.1:9")
    try:
        options = keystone_cloud.options("member") | {"network_endpoint_override": keystone_cloud.url + endpoint}
        with connected(**options) as sdk:
            made = sdk.network.create_firewall_group(name="g")
    finally:
        keystone.set_network_endpoint(keystone_cloud.url)
    assert made.project_id == keystone_cloud.project("p1")


def test_a_token_of_no_project_owns_and_may_nothing(keystone_cloud: Cloud) -> None:
    options = keystone_cloud.options("member")
    auth = {"auth_url": options["auth"]["auth_url"], "username": "admin", "password": PASSWORD,
            "user_domain_id": "default", "system_scope": "all"}  # fmt: skip
    with connected(auth=auth, region_name=options["region_name"]) as sdk:
        assert list(sdk.network.firewall_groups()) == []
        with pytest.raises(HttpException):
            sdk.network.create_firewall_group(name="g")
