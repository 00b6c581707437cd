"""What to answer to an agent that asks for its host's state.

One read of the database decides it: the host's index, and the policies of it, encoded once for all hosts. Refused
here: waiting, tokens and HTTP, which are the listener's.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy.orm import Session

from portward.channel.messages import (
    MESSAGE_VERSION,
    OLDER_VERSION,
    StateAnswer,
    StateRequest,
    digest_of,
    encode,
    hash_body,
)
from portward.model import Action, Policy, Rule
from portward.service.address_sets import changes_since, versions_of
from portward.service.hosts import Mark, host_index
from portward.service.policy_values import policies_by_id

#: Bytes of encoded policies that are kept; a policy of 1,000 rules takes about 200,000.
CACHE_SIZE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Body:
    """An encoded policy, and the ids of the address sets that its rules name."""

    content: bytes
    hash: bytes
    sets: frozenset[str]


@dataclass(frozen=True)
class Answer:
    """What an agent gets now. ``is_news`` false: nothing that it does not know; it may wait until its mark differs."""

    generation: int
    mark: Mark
    is_news: bool
    content: bytes


class Bodies:
    """Encoded policies by id and version, those used last, for all hosts. Safe to use from many threads.

    Rules that are disabled are not in them: a change of one, the set that it named deleted, is no new version.
    For agents one release older (``older``) they are kept apart: without what those do not know, and only narrower.
    A version is trusted to mean one content for as long as this lives: start anew after restoring a backup.
    """

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self._size = size
        self._held = 0
        self._bodies: OrderedDict[tuple[str, int, bool], Body] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, session: Session, versions: Mapping[str, int], *, older: bool = False) -> dict[str, Body]:
        """The bodies of these policies, in these versions, by id; at most one statement, in the caller's snapshot."""
        found: dict[str, Body] = {}
        with self._lock:
            for id_, version in versions.items():
                key = (id_, version, older)
                if key in self._bodies:
                    self._bodies.move_to_end(key)
                    found[id_] = self._bodies[key]
        missing = versions.keys() - found.keys()
        if missing:
            for policy in policies_by_id(session, missing).values():
                decides = tuple(rule for rule in policy.rules if rule.enabled)
                told = msgspec.structs.replace(policy, rules=decides)
                if older:
                    told = _narrowed(told)
                content = encode(told)
                sets = frozenset[str]().union(*(rule.sets for rule in told.rules))
                found[policy.id] = Body(content, hash_body(content), sets)
                self._keep((policy.id, policy.version, older), found[policy.id])
        return found

    def _keep(self, key: tuple[str, int, bool], body: Body) -> None:
        with self._lock:
            if key in self._bodies:
                return
            self._bodies[key] = body
            self._held += len(body.content)
            while self._held > self._size:
                _, dropped = self._bodies.popitem(last=False)
                self._held -= len(dropped.content)


def answer(session: Session, bodies: Bodies, host: str, request: StateRequest) -> Answer:
    """What ``host``, which holds what ``request`` says, must know.

    An agent that is ahead of the database (restored from a backup) is taken for one that holds nothing.

    Raises:
        InvalidValue: the database holds a value that the model does not admit.
    """
    found = host_index(session, host)
    if request.generation > found.generation:
        request = StateRequest(version=request.version)
    older = request.version <= OLDER_VERSION
    of_host = bodies.get(session, found.index.policies, older=older)
    named = frozenset[str]().union(*(body.sets for body in of_host.values()))
    sets = versions_of(session, sorted(named)) if named else {}
    index = encode(msgspec.structs.replace(found.index, sets={id_: one.version for id_, one in sets.items()}))
    hashes = {policy_id: body.hash for policy_id, body in of_host.items()}
    digest = digest_of(index, hashes, {id_: one.fingerprint for id_, one in sets.items()})
    same = digest == request.digest
    needed = [
        msgspec.Raw(of_host[policy_id].content)
        for policy_id, version in found.index.policies.items()
        if request.policies.get(policy_id) != version
    ]
    message = StateAnswer(
        version=OLDER_VERSION if older else MESSAGE_VERSION,
        generation=found.generation,
        digest=digest,
        index=msgspec.Raw(b"null") if same else msgspec.Raw(index),
        bodies=() if same else tuple(needed),
        sets=() if same else changes_since(session, sets, request.sets),
    )
    return Answer(found.generation, found.mark, not same or found.changed > request.generation, encode(message))


def _narrowed(policy: Policy) -> Policy:
    """``policy`` for an agent that knows neither address sets nor types of ICMP; it allows nothing that ours denies.

    Without such a condition a rule matches more than it should: what allows is left out, what passes denies.
    """
    rules = []
    for rule in policy.rules:
        if rule.sets or rule.icmp_type is not None:
            if rule.action is Action.ALLOW:
                continue
            rule = _without_news(rule)
        rules.append(rule)
    return msgspec.structs.replace(policy, rules=tuple(rules))


def _without_news(rule: Rule) -> Rule:
    return msgspec.structs.replace(
        rule,
        action=Action.DENY if rule.action is Action.PASS else rule.action,
        source_set=None,
        destination_set=None,
        icmp_type=None,
        icmp_code=None,
    )
