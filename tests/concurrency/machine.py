"""The state machine: at each step eight clients run a program each at once, and what came of it is compared.

Its state is the plain model. A step's programs are drawn from seeds, so hypothesis chooses what is written; in which
order the eight are served, the machine alone decides, so a failure need not come again with the same seeds.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from concurrency.agents import Agent, enforced, wanted
from concurrency.clients import ADMIN, HOSTS, PROJECTS, Client
from concurrency.history import Event, check_order
from concurrency.model import GROUP, KINDS, POLICIES, POLICY, PORT, ROUTER, RULE, VM, Call, State, stored
from concurrency.replicas import Cloud
from concurrency.stored import check_rows, forget
from portward.service import agents
from portward.store import now

#: Calls of one client in one step.
_LENGTH = 10
#: Seconds after which a host must know what was written through the other replica; the promise is one hundredth.
_WAKES = 2.0
_SEEDS = st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8)
_DEFAULTS = {RULE: 4, POLICY: 2, GROUP: 1}
Listing = dict[str, list[dict[str, Any]]]


class Machine(RuleBasedStateMachine):
    """Eight clients on two replicas, and an agent on each."""

    cloud: Cloud  # of a subclass

    def __init__(self) -> None:
        super().__init__()
        self.cloud.store.writing(forget)
        self.agents = []
        self.steps = 0
        self.slowest = 0.0
        self.generation = self.cloud.store.generation()
        self.defaults: set[str] = set()
        for host, replica in zip(HOSTS, itertools.cycle(self.cloud.replicas)):
            token = self.cloud.store.writing(lambda session, host=host: agents.renew_token(session, host, now()))
            self.agents.append(Agent(host, replica.agents_url, token))

    def teardown(self) -> None:
        """Let the agents go."""
        for agent in self.agents:
            agent.stop()
        self.cloud.slowest = max(self.cloud.slowest, self.slowest)

    @initialize()
    def first_requests(self) -> None:
        """A project's first requests, and those that race the deletion of its default group, make exactly one."""
        self.at_once([lambda client=client: client.objects(RULE) for client in self.cloud.clients])
        self.check_defaults()
        groups = [one["id"] for one in self.listing()[GROUP]]
        admins = itertools.cycle(client for client in self.cloud.clients if client.user.is_admin)
        deletions = [
            lambda client=client, id_=id_: client.send(Call(client.user, "delete", GROUP, id_))
            for client, id_ in zip(admins, groups, strict=False)
        ]
        lists = [lambda client=client: client.objects(GROUP) for client in self.cloud.clients]
        self.at_once([*deletions, *lists])
        self.at_once(lists)
        self.check_defaults()
        self.defaults = {one["id"] for kind in _DEFAULTS for one in self.listing()[kind]}
        self.furnish()
        self.model = self.stored()

    def furnish(self) -> None:
        """Something for each project to begin with."""
        admin = self.cloud.clients[0]

        def make(kind: str, **body: Any) -> str:
            return str(admin.send(Call(ADMIN, "create", kind, bodies=(body,))).answer.objects[0]["id"])

        for project in PROJECTS:
            rules = [make(RULE, project_id=project) for _ in range(3)]
            policies = [make(POLICY, project_id=project, firewall_rules=order) for order in (rules, rules[:1])]
            owners = zip((VM, VM, ROUTER), itertools.cycle(HOSTS), strict=False)
            ports = [
                make(PORT, project_id=project, device_owner=owner, device_id="r", **{"binding:host_id": host})
                for owner, host in owners
            ]
            make(GROUP, project_id=project, ports=ports[1:], **dict(zip(POLICIES, policies, strict=True)))

    @rule(seeds=_SEEDS, rush=st.booleans())
    def eight_programs_at_once(self, seeds: Sequence[int], rush: bool) -> None:
        """What they are answered, and what is stored then, is what one after another would have led to."""
        seen = {kind: {one["id"]: one for one in objects} for kind, objects in self.listing().items()}

        def run(client: Client, seed: str) -> list[Event]:
            visible = {
                kind: {id_: one for id_, one in seen[kind].items() if client.user.sees(self.model.items[id_])}
                for kind in KINDS
            }
            return client.run(Random(seed), _LENGTH, visible, rush=rush)

        self.steps += 1
        rush ^= self.steps % 2 == 0  # both kinds in every run, however short
        named = [f"{seed} of client {number} in step {self.steps}" for number, seed in enumerate(seeds)]
        pairs = zip(self.cloud.clients, named, strict=True)
        programs = self.at_once([lambda client=client, seed=seed: run(client, seed) for client, seed in pairs])
        after = self.stored()
        check_order(self.model, programs, after)
        self.model = after
        self.cloud.calls += sum(len(program) for program in programs)
        self.check_database()
        self.check_hosts()
        for number, agent in enumerate(self.agents):
            self.check_waking(agent, self.cloud.clients[(number + 1) % len(self.cloud.replicas)])

    def check_waking(self, agent: Agent, client: Client) -> None:
        """What is written through one replica wakes the host that polls the other, in bounded time."""
        port = {"device_owner": ROUTER, "device_id": "r", "binding:host_id": agent.host}
        made = client.send(Call(client.user, "create", PORT, bodies=(port,))).answer.objects[0]["id"]
        covering = {"ports": [made]}
        group = client.send(Call(client.user, "create", GROUP, bodies=(covering,))).answer.objects[0]["id"]
        took = agent.wait(lambda state: made in enforced(state), "a port of the other replica")
        client.send(Call(client.user, "delete", PORT, made))
        took = max(took, agent.wait(lambda state: made not in enforced(state), "that a port is gone"))
        client.send(Call(client.user, "delete", GROUP, group))
        self.slowest = max(self.slowest, took)
        assert took < _WAKES, f"{took:.2f} s until the host knew"

    def at_once(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """What the calls return, each in a thread of its own; they start together."""
        barrier = threading.Barrier(len(calls))

        def start(call: Callable[[], Any]) -> Any:
            barrier.wait()
            return call()

        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(start, calls))

    def listing(self) -> Listing:
        """All objects, which every replica tells alike, without the groups' status, which hosts change."""
        admins = self.cloud.clients[: len(self.cloud.replicas)]
        told = [{kind: sorted(admin.objects(kind), key=lambda one: one["id"]) for kind in KINDS} for admin in admins]
        for group in (one for listing in told for one in listing[GROUP]):
            del group["status"]
        assert all(one == told[0] for one in told[1:]), "the replicas tell different things"
        return told[0]

    def stored(self) -> State:
        """All objects, as the model has them."""
        items = [
            stored(kind, one, is_default=one["id"] in self.defaults)
            for kind, objects in self.listing().items()
            for one in objects
        ]
        return State({item.id: item for item in items})

    def check_defaults(self) -> None:
        """Each project has one default group with its two policies and four rules, and there is nothing else."""
        listing = self.listing()
        for kind, count in _DEFAULTS.items():
            projects = sorted(one["project_id"] for one in listing[kind])
            assert projects == sorted([*PROJECTS] * count), (kind, projects)
        policies = {one["id"]: one["firewall_rules"] for one in listing[POLICY]}
        applied = [one[name] for one in listing[GROUP] for name in POLICIES]
        assert sorted(applied) == sorted(policies)
        assert sorted(id_ for rules in policies.values() for id_ in rules) == [one["id"] for one in listing[RULE]]

    def check_database(self) -> None:
        """No orphans, no places taken twice, and no generation that fell."""
        self.cloud.store.reading(check_rows)
        generation = self.cloud.store.generation()
        assert generation >= self.generation
        self.generation = generation

    def check_hosts(self) -> None:
        """Each agent comes to hold exactly what users read through either replica."""
        listing = self.listing()
        for agent in self.agents:
            expected = wanted(listing, agent.host)
            agent.wait(lambda state, expected=expected: enforced(state) == expected, f"what is stored, {expected}")
