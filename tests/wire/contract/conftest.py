"""The cloud in which the contract is played: one database, two projects, who acts in them, and the hosts.

Each database has two servers for the whole session, one that makes default groups and one that does not; between two
tests everything is forgotten.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from portward.config import Database, DefaultFirewallGroup
from portward.store import Store
from servers.fixtures import DATABASES
from wire.conftest import Api, forget_everything, serving, settings
from wire.contract.cloud import Clock, Cloud, Host, Personas, write_users


@pytest.fixture(scope="session", params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('contract')}/portward.db"
    return str(request.getfixturevalue(request.param).create())


@pytest.fixture(scope="session")
def servers(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Both servers on ``database``."""
    directory: Path = tmp_path_factory.mktemp("servers")
    auth = write_users(directory)
    clock = Clock()
    chosen = settings(directory).model_copy(update={"auth": auth, "database": Database(url=database)})
    with ExitStack() as stack:
        plain, agents = stack.enter_context(serving(chosen, clock))
        chosen = chosen.model_copy(update={"default_firewall_group": DefaultFirewallGroup()})
        defaults, _ = stack.enter_context(serving(chosen, clock))
        store = Store(database)
        stack.callback(store.close)
        cloud = Cloud(Personas(plain), Personas(defaults), agents, store, clock)
        stack.callback(cloud.close)
        yield cloud


@pytest.fixture
def cloud(servers: Cloud) -> Cloud:
    """A cloud in which nothing was ever made."""
    servers.clock.reset()
    servers.store.writing(forget_everything)
    return servers


@pytest.fixture
def who(cloud: Cloud) -> Personas:
    """Who acts, where projects have no default group."""
    return cloud.plain


@pytest.fixture
def default(cloud: Cloud) -> Personas:
    """Who acts, where every project has its default group."""
    return cloud.defaults


@pytest.fixture
def admin(who: Personas) -> Api:
    """A: an admin, of project ``admin``."""
    return who.admin


@pytest.fixture
def member(who: Personas) -> Api:
    """M: a member of p1."""
    return who.member


@pytest.fixture
def reader(who: Personas) -> Api:
    """R: a reader of p1."""
    return who.reader


@pytest.fixture
def stranger(who: Personas) -> Api:
    """N: a member of p2."""
    return who.stranger


@pytest.fixture
def roleless(who: Personas) -> Api:
    """X: a user of p1 without a role."""
    return who.roleless


@pytest.fixture
def host(cloud: Cloud) -> Iterator[Host]:
    """Host h1, which does nothing unless told to."""
    made = Host(cloud, "h1")
    yield made
    made.close()
