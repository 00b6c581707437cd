"""A client that writes at random what it deems possible by what it saw last, which others may have changed since."""

import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import httpx2

from concurrency.history import Event
from concurrency.model import GROUP, KINDS, OTHER, POLICIES, POLICY, PORT, ROUTER, RULE, VM, Answer, Call, User

DEADLINE = 60.0  # seconds for an answer
HOSTS = ("h1", "h2")
ADMIN = User("admin", "admin", is_admin=True)
MEMBERS = (User("one", "p1"), User("two", "p2"))
USERS = (ADMIN, *MEMBERS)
PROJECTS = tuple(user.project for user in USERS)
PLURALS = {RULE: "firewall_rules", POLICY: "firewall_policies", GROUP: "firewall_groups", PORT: "ports"}
_PATHS = {kind: f"/v2.0/{'' if kind == PORT else 'fwaas/'}{plural}" for kind, plural in PLURALS.items()}
_SUCCESS = {"create": 201, "delete": 204}
#: How many of a kind there are at most before they are rather deleted: few, so that clients meet.
_CROWD = {RULE: 20, POLICY: 10, GROUP: 9, PORT: 12}
Seen = Mapping[str, Mapping[str, Mapping[str, Any]]]  # objects as told, by kind and id


class Client:
    """One user's connection to one replica."""

    def __init__(self, url: str, user: User) -> None:
        self.user = user
        self._http = httpx2.Client(base_url=url, auth=(user.name, user.name), timeout=DEADLINE, trust_env=False)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """All objects of ``kind`` that the user sees."""
        answer = self._http.get(_PATHS[kind])
        assert answer.status_code == 200, answer.text
        return list(answer.json()[PLURALS[kind]])

    def send(self, call: Call) -> Event:
        """Make the call; its answer must be a success or a refusal, in the API's own form."""
        path = _PATHS[call.kind] + (f"/{call.id}" if call.id else "")
        method = {"create": "POST", "show": "GET", "delete": "DELETE"}.get(call.action, "PUT")
        body: Any = call.bodies[0]
        if call.action == "create":
            many = len(call.bodies) > 1
            body = {PLURALS[call.kind]: call.bodies} if many else {call.kind: body}
        elif call.action == "update":
            body = {call.kind: body}
        elif method == "PUT":
            path += f"/{call.action}"
        headers = {} if call.if_match is None else {"If-Match": f"revision_number={call.if_match}"}
        json = body if method in ("POST", "PUT") else None
        sent = time.monotonic()
        response = self._http.request(method, path, json=json, headers=headers)
        return Event(call, _answer(call, response), sent, time.monotonic())

    def run(self, random: Random, length: int, seen: Seen, *, rush: bool) -> list[Event]:
        """``length`` calls drawn with ``random``, by one who has ``seen`` these objects.

        In a ``rush`` all calls are about the list of rules of one policy, the same for all clients of its project.
        """
        program = _Program(self.user, random, seen, rush=rush)
        events = []
        for _ in range(length):
            events.append(self.send(program.next()))
            program.learn(events[-1])
        return events


def _answer(call: Call, response: httpx2.Response) -> Answer:
    told = response.json() if response.content else {}
    if response.is_client_error and "NeutronError" in told:
        return Answer(refusal=told["NeutronError"]["type"])
    assert response.status_code == _SUCCESS.get(call.action, 200), f"{call}: {response.status_code} {response.text}"
    if call.action in ("delete", "tags"):
        return Answer()
    if len(call.bodies) > 1:
        return Answer(tuple(told[PLURALS[call.kind]]))
    return Answer((told if call.action.endswith("_rule") else told[call.kind],))


class _Program:
    """Draws calls."""

    def __init__(self, user: User, random: Random, seen: Seen, *, rush: bool) -> None:
        self._user = user
        self._rush = rush
        self._random = random
        self._seen = {kind: dict(seen[kind]) for kind in KINDS}
        ports = {self._change_port: 3, self._create_port: 3} if user.is_admin else {}
        sharing = {self._share: 3} if user.is_admin else {}
        drawn: dict[Callable[[], Call | None], int] = {
            self._insert: 6,
            self._remove: 4,
            self._reorder: 5,
            self._change_policy: 3,
            self._change_rule: 4,
            self._cover: 6,
            self._change_group: 3,
            self._create_rules: 3,
            self._create_policy: 2,
            self._create_group: 2,
            self._delete: 4,
            self._tag: 2,
            self._show: 3,
            **ports,
            **sharing,
        }
        if rush:
            drawn = {self._insert: 6, self._remove: 4, self._reorder: 1}
        self._draws = list(drawn)
        self._weights = list(drawn.values())

    def next(self) -> Call:
        """One that can be made of what is known."""
        for _ in range(1000):
            call = self._random.choices(self._draws, self._weights)[0]()
            if call is not None:
                return call
        return self._make(POLICY, [self._name()])  # there is nothing left to write to

    def learn(self, event: Event) -> None:
        """Remember what the answer told."""
        call, answer = event.call, event.answer
        for one in answer.objects:
            self._seen[call.kind][one["id"]] = one
        if (call.action == "delete" and not answer.refusal) or answer.refusal.endswith("NotFound"):
            self._seen[call.kind].pop(call.id, None)

    def _insert(self) -> Call | None:
        policy, rules = self._any(POLICY), self._ids(RULE)
        if policy is None or not rules:
            return None
        inside = policy["firewall_rules"]
        outside = [id_ for id_ in rules if id_ not in inside] or rules
        body = {"firewall_rule_id": self._random.choice(outside)}
        if inside:
            neighbour = self._random.choice(inside)
            body |= self._random.choice([{}, {"insert_before": neighbour}, {"insert_after": neighbour}])
        return self._call("insert_rule", POLICY, policy, body)

    def _remove(self) -> Call | None:
        policy = self._any(POLICY)
        if policy is None or not policy["firewall_rules"]:
            return None
        body = {"firewall_rule_id": self._random.choice(policy["firewall_rules"])}
        return self._call("remove_rule", POLICY, policy, body)

    def _reorder(self) -> Call | None:
        policy = self._any(POLICY)
        if policy is None:
            return None
        others = self._some(self._ids(RULE), 1)
        rules = list(dict.fromkeys([*policy["firewall_rules"], *others]))
        self._random.shuffle(rules)
        return self._update(POLICY, policy, firewall_rules=rules[:5])

    def _change_policy(self) -> Call | None:
        change = [{"audited": True}, {"audited": True}, self._name()]
        return self._update(POLICY, self._any(POLICY), **self._random.choice(change))

    def _change_rule(self) -> Call | None:
        change = [{"enabled": False}, {"enabled": True}, {"action": "allow"}, {"action": "deny"}, self._name()]
        return self._update(RULE, self._any(RULE), **self._random.choice(change))

    def _share(self) -> Call | None:
        kind = self._random.choice((RULE, RULE, POLICY, GROUP))
        return self._update(kind, self._any(kind), shared=self._random.choice((True, True, False)))

    def _cover(self) -> Call | None:
        group = self._any(GROUP)
        if group is None:
            return None
        ports = list(dict.fromkeys([*self._some(group["ports"], 2), *self._some(self._ids(PORT), 2)]))
        return self._update(GROUP, group, ports=ports)

    def _change_group(self) -> Call | None:
        policy = {self._random.choice(POLICIES): self._random.choice([*self._ids(POLICY), None])}
        state = {"admin_state_up": self._random.choice((True, False))}
        return self._update(GROUP, self._any(GROUP), **self._random.choice([policy, policy, state, self._name()]))

    def _create_rules(self) -> Call | None:
        bodies = [self._name() | self._project() for _ in range(self._random.choice((1, 1, 3)))]
        return self._create(RULE, bodies)

    def _create_policy(self) -> Call | None:
        rules = self._some(self._ids(RULE), 3)
        return self._create(POLICY, [self._name() | self._project() | {"firewall_rules": rules}])

    def _create_group(self) -> Call | None:
        body = {name: self._random.choice([*self._ids(POLICY), None]) for name in POLICIES}
        ports = self._some(self._ids(PORT), 2)
        return self._create(GROUP, [body | self._name() | self._project() | {"ports": ports}])

    def _create_port(self) -> Call | None:
        owner = self._random.choice((VM, VM, ROUTER))
        bound = {"device_owner": owner, "device_id": "r", "binding:host_id": self._random.choice((*HOSTS, ""))}
        return self._create(PORT, [bound | self._name() | {"project_id": self._random.choice(PROJECTS)}])

    def _change_port(self) -> Call | None:
        owner = {"device_owner": self._random.choice((VM, VM, ROUTER, OTHER))}
        return self._update(PORT, self._any(PORT), **self._random.choice([owner, owner, self._name()]))

    def _delete(self) -> Call | None:
        kind = self._random.choice(KINDS if self._user.is_admin else (RULE, RULE, POLICY, GROUP))
        one = self._any(kind)
        if kind == RULE and self._random.random() < 0.8:
            free = [rule for rule in self._seen[RULE].values() if not rule["firewall_policy_id"]]
            one = self._random.choice(free) if free else one
        if one is None or (self._user.is_admin and one["name"] == "default"):
            return None
        return self._call("delete", kind, one, {})

    def _tag(self) -> Call | None:
        kind = self._random.choice((RULE, POLICY, GROUP))
        one = self._any(kind)
        return None if one is None else self._call("tags", kind, one, {"tags": self._some(["a", "b", "c"], 3)})

    def _show(self) -> Call | None:
        kind = self._random.choice((POLICY, POLICY, GROUP, GROUP, RULE, PORT))
        one = self._any(kind)
        return None if one is None else self._call("show", kind, one, {})

    def _create(self, kind: str, bodies: Sequence[Mapping[str, Any]]) -> Call | None:
        return None if len(self._seen[kind]) >= _CROWD[kind] else self._make(kind, bodies)

    def _make(self, kind: str, bodies: Sequence[Mapping[str, Any]]) -> Call:
        return Call(self._user, "create", kind, bodies=tuple(bodies))

    def _update(self, kind: str, one: Mapping[str, Any] | None, **body: Any) -> Call | None:
        return None if one is None else self._call("update", kind, one, body)

    def _call(self, action: str, kind: str, one: Mapping[str, Any], body: Mapping[str, Any]) -> Call:
        guarded = action == "update" and self._random.random() < 0.2
        return Call(self._user, action, kind, one["id"], (body,), one["revision_number"] if guarded else None)

    def _name(self) -> dict[str, Any]:
        return {"name": f"{self._random.getrandbits(32):08x}"}  # so every write leaves its own trace

    def _project(self) -> dict[str, Any]:
        return {"project_id": self._random.choice(PROJECTS)} if self._user.is_admin else {}

    def _ids(self, kind: str) -> list[str]:
        return list(self._seen[kind])

    def _any(self, kind: str) -> Mapping[str, Any] | None:
        """One of a kind, mostly of the few that all clients prefer, and rarely one that only admins may change."""
        objects = sorted(self._seen[kind].values(), key=lambda one: str(one["id"]))
        if self._rush and kind == POLICY:
            project = self._random.choice(PROJECTS) if self._user.is_admin else self._user.project
            objects = [one for one in objects if one["project_id"] == project and self._may_change(one)]
            return objects[0] if objects else None
        if self._random.random() < 0.9:
            objects = [one for one in objects if self._may_change(one)]
        if self._random.random() < 0.5:
            objects = objects[:2]
        return self._random.choice(objects) if objects else None

    def _may_change(self, one: Mapping[str, Any]) -> bool:
        protected = one["name"].startswith("default ")
        if self._rush and protected:
            return False
        return self._user.is_admin or (one["project_id"] == self._user.project and not protected)

    def _some(self, ids: Sequence[str], most: int) -> list[str]:
        return self._random.sample(list(ids), min(len(ids), self._random.randint(0, most)))
