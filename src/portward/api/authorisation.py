"""What the caller may do: the rules of ``rbac`` and the operator's overrides, judged by oslo.policy.

It only narrows. What a caller can see at all is ``service``'s: own, shared, or everything for an admin. The file of
overrides is read once, at start; nothing is taken from ``/etc`` or from the command line besides. Refused are rules
that nobody knows, and checks that oslo.policy does not understand, that call other servers, or that look at what
no target has: oslo.policy would deny with them in silence, or wait for a stranger inside a transaction.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from oslo_config import cfg
from oslo_policy import policy
from sqlalchemy import ColumnElement, and_, false, not_, or_, true
from sqlalchemy.orm import InstrumentedAttribute

from portward.api.errors import PolicyNotAuthorized
from portward.api.identity import Caller
from portward.api.rbac import DEFAULTS
from portward.config import ConfigurationError
from portward.service.context import Context
from portward.service.rows import AnyRow

#: What a check may be made of: words, and comparisons of the caller with what its target has.
_PART = re.compile(
    r"(?i:and|or|not)|@|!|(rule|role):[A-Za-z0-9_:-]+|(True|False):%\(shared\)s"
    r"|(project_id|tenant_id):(%\((project_id|tenant_id)\)s|[A-Za-z0-9_-]+)"
)
_VERDICTS = 4096  # kept at a time; each is some 300 bytes


class Authorisation:
    """The rules in force, of the whole process.

    Raises:
        ConfigurationError: ``policy_file`` is there and cannot be used.
    """

    def __init__(self, policy_file: Path) -> None:
        overrides = _overrides(policy_file)
        rules = policy.Rules.from_dict({default.name: default.check for default in DEFAULTS} | overrides)
        for name, check in overrides.items():
            if str(rules[name]) == "!" != check.strip():
                raise ConfigurationError(f"{policy_file}: {name}: {check!r} is not understood")
        conf = cfg.ConfigOpts()
        conf(args=[], default_config_files=[], default_config_dirs=[])
        self._enforcer = policy.Enforcer(conf, rules=rules, use_conf=False)
        try:
            self._enforcer.check_rules(raise_on_violation=True)
        except policy.InvalidDefinitionError as error:
            raise ConfigurationError(
                f"{policy_file}: a check refers to a rule that is not there, or in the end to itself: {error}"
            ) from error
        self._verdict = lru_cache(_VERDICTS)(self._judge)

    def is_admin(self, caller: Caller) -> bool:
        """Whether the rule ``context_is_admin`` holds for ``caller``."""
        return self._verdict("context_is_admin", caller.roles, caller.project_id, caller.project_id, False)

    def of(self, context: Context) -> "Authority":
        """What the caller of ``context`` may do."""
        return Authority(self, context)

    def allows(self, context: Context, rule: str, project_id: str, *, shared: bool) -> bool:
        """Whether the caller of ``context`` may do what ``rule`` is about with something of ``project_id``."""
        return self._verdict(rule, context.roles, context.project_id, project_id, shared)

    def _judge(self, rule: str, roles: frozenset[str], project_id: str, owner: str, shared: bool) -> bool:
        credentials = {"roles": list(roles), "project_id": project_id, "tenant_id": project_id}
        target = {"project_id": owner, "tenant_id": owner, "shared": shared}
        return bool(self._enforcer.enforce(rule, target, credentials))


class Authority:
    """What one caller may do."""

    def __init__(self, authorisation: Authorisation, context: Context) -> None:
        self._authorisation = authorisation
        self._context = context

    def allows(self, rule: str, project_id: str, *, shared: bool = False) -> bool:
        """Whether the caller may do what ``rule`` is about with something of ``project_id``."""
        return self._authorisation.allows(self._context, rule, project_id, shared=shared)

    def allows_own(self, rule: str) -> bool:
        """Whether the caller may do what ``rule`` is about with what the caller's own project has."""
        return self.allows(rule, self._context.project_id)

    def sees(self, singular: str, row: AnyRow) -> bool:
        """Whether the caller may get ``row``, a ``singular``."""
        return self.allows(f"get_{singular}", row.project_id, shared=getattr(row, "shared", False))

    def require(self, rules: Iterable[str], project_id: str, *, shared: bool = False) -> None:
        """Make sure that all of ``rules`` allow it.

        Raises:
            PolicyNotAuthorized: one does not; its message names all, as Neutron's does.
        """
        asked = list(rules)
        if not all(self.allows(rule, project_id, shared=shared) for rule in asked):
            names = " and ".join(f"rule:{rule}" for rule in asked)
            raise PolicyNotAuthorized(names if len(asked) == 1 else f"({names})")

    def where(
        self, rule: str, project: InstrumentedAttribute[str], shared: InstrumentedAttribute[bool] | None
    ) -> list[ColumnElement[bool]]:
        """Conditions: ``rule`` allows what has these columns. It is judged once a class, never once a row."""
        own = project == self._context.project_id
        owners = ((own, self._context.project_id), (not_(own), f"not {self._context.project_id}"))
        kinds = [(true(), False)] if shared is None else [(shared.is_(True), True), (shared.is_(False), False)]
        allowed = [
            and_(owned, kind)
            for owned, owner in owners
            for kind, is_shared in kinds
            if self.allows(rule, owner, shared=is_shared)
        ]
        return [] if len(allowed) == len(owners) * len(kinds) else [or_(false(), *allowed)]


def _overrides(policy_file: Path) -> dict[str, str]:
    try:
        text = policy_file.read_text()
        given = policy.parse_file_contents(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"[auth] policy_file {policy_file}: {error}") from error
    if not isinstance(given, dict):
        raise ConfigurationError(f'[auth] policy_file {policy_file}: give lines of the form "RULE": "CHECK"')
    names = Counter(str(key.value) for key, _ in getattr(yaml.compose(text, yaml.SafeLoader), "value", None) or ())
    for name, times in names.items():
        if times > 1:
            raise ConfigurationError(f"{policy_file}: {name} is given {times} times")
    known = {default.name for default in DEFAULTS}
    for name, check in given.items():
        if name not in known:
            raise ConfigurationError(f"{policy_file}: {name!r} is no rule; see docs/reference/policy-rules.md")
        if not isinstance(check, str):
            raise ConfigurationError(f'{policy_file}: {name}: a check is a string, such as "role:member"')
        if not check.strip():
            raise ConfigurationError(f'{policy_file}: {name}: the check is empty; "@" allows everybody, "!" nobody')
        for word in check.split():
            part = re.sub(r"^\(+|\)+$", "", word)
            if part and not _PART.fullmatch(part):
                raise ConfigurationError(
                    f"{policy_file}: {name}: {part!r} is no check here: use rule:NAME, role:NAME, "
                    "project_id:%(project_id)s, True:%(shared)s, @, !, and, or, not"
                )
    return given
