"""The clouds and the running clients, once for all tests; between two tests everything is forgotten."""

from collections.abc import Iterator

import pytest
from openstack.connection import Connection

from demo.client import OpenStackClient
from wire.clients.cloud import Cloud, cloud_of, connected
from wire.conftest import Api, forget_everything


@pytest.fixture(scope="session")
def keystone_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud_of("keystone", tmp_path_factory.mktemp("clients")) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def http_basic_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud_of("http_basic", tmp_path_factory.mktemp("clients")) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def none_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud_of("none", tmp_path_factory.mktemp("clients")) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def _admin(keystone_cloud: Cloud) -> Iterator[OpenStackClient]:
    with OpenStackClient(keystone_cloud.variables("admin")) as shell:
        yield shell


@pytest.fixture(scope="session")
def _member(keystone_cloud: Cloud) -> Iterator[OpenStackClient]:
    with OpenStackClient(keystone_cloud.variables("member")) as shell:
        yield shell


@pytest.fixture(scope="session")
def _reader(keystone_cloud: Cloud) -> Iterator[OpenStackClient]:
    with OpenStackClient(keystone_cloud.variables("reader")) as shell:
        yield shell


@pytest.fixture
def held(keystone_cloud: Cloud) -> Iterator[Api]:
    """What the API with Keystone holds, as an admin sees it; nothing, when the test begins."""
    keystone_cloud.store.writing(forget_everything)
    with keystone_cloud.api() as api:
        yield api


@pytest.fixture
def admin(_admin: OpenStackClient, held: Api) -> OpenStackClient:  # noqa: ARG001
    """The ``openstack`` command of an admin."""
    return _admin


@pytest.fixture
def member(_member: OpenStackClient, held: Api) -> OpenStackClient:  # noqa: ARG001
    """The ``openstack`` command of a member of p1."""
    return _member


@pytest.fixture
def reader(_reader: OpenStackClient, held: Api) -> OpenStackClient:  # noqa: ARG001
    """The ``openstack`` command of a reader of p1."""
    return _reader


@pytest.fixture(scope="session", params=["keystone", "none", "none /v2.0", "http_basic", "http_basic /v2.0"])
def _connected_cloud(request: pytest.FixtureRequest) -> Iterator[tuple[Cloud, Connection]]:
    mode, _, endpoint = request.param.partition(" ")
    cloud: Cloud = request.getfixturevalue(f"{mode}_cloud")
    with connected(**cloud.options("member", endpoint)) as connection:
        yield cloud, connection


@pytest.fixture
def cloud(_connected_cloud: tuple[Cloud, Connection]) -> Cloud:
    """A cloud of each mode, which holds nothing when the test begins."""
    cloud, _ = _connected_cloud
    cloud.store.writing(forget_everything)
    return cloud


@pytest.fixture
def sdk(_connected_cloud: tuple[Cloud, Connection], cloud: Cloud) -> Connection:  # noqa: ARG001
    """openstacksdk as a member of p1 (without authentication: as everybody)."""
    return _connected_cloud[1]
