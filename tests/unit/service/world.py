"""The service on a real store, one transaction a call, with a clock that stands still until it is told to move."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import event
from sqlalchemy.orm import Session

from portward.config import DefaultFirewallGroup, Quotas
from portward.service import groups, policies, ports, rules
from portward.service.context import Context
from portward.store import Store, upgrade
from portward.store.tables import FirewallGroup, FirewallPolicy

START = datetime(2026, 1, 2, 3, 4, 5)
ROUTER = "network:router_interface"


def sqlite(directory: Path) -> str:
    """The URL of a new SQLite database with all tables."""
    url = f"sqlite:///{directory}/portward.db"
    upgrade(url)
    return url


class Seen(msgspec.Struct, frozen=True):
    """What hosts would notice."""

    generation: int
    versions: dict[str, int]
    groups: dict[str, tuple[int, datetime]]


class World:
    """Calls of the service on the database ``url``, and what they leave for hosts to see."""

    def __init__(
        self,
        url: str,
        *,
        default_group: DefaultFirewallGroup = DefaultFirewallGroup(enabled=False),  # noqa: B008 - frozen
        quotas: Quotas = Quotas(firewall_group=-1, firewall_policy=-1, firewall_rule=-1),  # noqa: B008
    ) -> None:
        self.store = Store(url)
        self.now = START
        self.default_group = default_group
        self.quotas = quotas

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What ``function`` returns to an admin of project p, in a writing transaction, a second after the last."""
        return self._call("p", "admin", function, *arguments, **named)

    def member(self, project_id: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """As ``call``, for a member of that project."""
        return self._call(project_id, "member", function, *arguments, **named)

    def _call(self, project_id: str, role: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self.now += timedelta(seconds=1)
        context = Context(
            project_id=project_id,
            is_admin=role == "admin",
            roles=frozenset({role}),
            request_id="req-1",
            now=self.now,
            default_group=self.default_group,
            quotas=self.quotas,
        )

        def transaction(session: Session) -> Any:
            result = function(session, context, *arguments, **named)
            session.flush()
            session.expunge_all()
            return result

        return self.store.writing(transaction)

    def rule(self, **values: Any) -> str:
        return str(self.call(rules.create_rule, rules.RuleValues(**values)).row.id)

    def policy(self, *rule_ids: str, **values: Any) -> str:
        made = self.call(policies.create_policy, policies.PolicyValues(firewall_rules=rule_ids, **values))
        return str(made.row.id)

    def port(self, **values: Any) -> str:
        chosen = {"device_owner": ROUTER, "device_id": "r1", "host": "h1"} | values
        return str(self.call(ports.create_port, ports.PortValues(**chosen)).row.id)

    def group(self, *port_ids: str, **values: Any) -> str:
        return str(self.call(groups.create_group, groups.GroupValues(ports=port_ids, **values)).row.id)

    def seen(self) -> Seen:
        with self.store.read() as session:
            return Seen(
                self.store.generation(),
                {policy.id: policy.version for policy in session.query(FirewallPolicy)},
                {group.id: (group.generation, group.changed_at) for group in session.query(FirewallGroup)},
            )

    def group_row(self, group_id: str) -> FirewallGroup:
        with self.store.read() as session:
            return session.get_one(FirewallGroup, group_id)

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The SQL sent meanwhile, without the frame of the transaction."""
        sent: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("BEGIN"):
                sent.append(statement)

        event.listen(self.store.engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(self.store.engine, "before_cursor_execute", note)
