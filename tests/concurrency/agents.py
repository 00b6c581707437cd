"""The agents of two hosts, played: each polls the replica that it was given, and reports what it was sent."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from concurrency.model import GROUP, OTHER, POLICIES, POLICY, PORT, RULE
from portward.channel.client import Client
from portward.model import HostState, PortReport, Report

DEADLINE = 10.0  # seconds after which what was written must be known to all hosts
_WAIT = 2.0  # seconds that a poll is held
Listing = Mapping[str, Iterable[Mapping[str, Any]]]  # all objects as an admin sees them, by kind


class Agent:
    """The agent of ``host``. It says of a third of its ports that they fail, others each time."""

    def __init__(self, host: str, url: str, token: str) -> None:
        self.host = host
        self.state = HostState(generation=0)
        self.states = 0
        self._client = Client(url, token)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join()
        self._client.close()

    def wait(self, condition: Callable[[HostState], bool], what: str) -> float:
        """Wait until what it holds meets ``condition``; how long that took, in seconds."""
        began = time.monotonic()
        with self._changed:
            met = self._changed.wait_for(lambda: self._failure or condition(self.state), DEADLINE)
        if self._failure is not None:
            raise self._failure
        assert met, f"the agent of {self.host} does not know {what}, {DEADLINE} s later: {enforced(self.state)}"
        return time.monotonic() - began

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                state = self._client.poll(wait=_WAIT)
                if state is not None:
                    self._take(state)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _take(self, state: HostState) -> None:
        assert state.generation >= self.state.generation, "the generation fell"
        with self._changed:
            self.state = state
            self.states += 1
            self._changed.notify_all()
        lines = []
        for number, covered in enumerate(state.ports):
            failed = (state.generation + number) % 3 == 0
            lines.append(PortReport(port_id=covered.port.id, error="played" if failed else None))
        self._client.report(Report(generation=state.generation, ports=tuple(lines)))


def enforced(state: HostState) -> dict[str, Any]:
    """What the state means: each port's group, whether that is up, and the enabled rules of both directions."""
    rules = {
        policy.id: tuple((rule.id, str(rule.action)) for rule in policy.rules if rule.enabled)
        for policy in state.policies
    }
    told = {}
    for covered in state.ports:
        for group in covered.groups:
            applied = (group.ingress_policy_id, group.egress_policy_id)
            lists = tuple(rules[policy_id] if policy_id else None for policy_id in applied)
            told[covered.port.id] = (group.id, group.admin_state_up, applied, lists)
    return told


def wanted(listing: Listing, host: str) -> dict[str, Any]:
    """The same, as what users read says it."""
    ports = {one["id"]: one for one in listing[PORT]}
    rules = {one["id"]: (one["id"], one["action"]) for one in listing[RULE] if one["enabled"]}
    policies = {
        one["id"]: tuple(rules[id_] for id_ in one["firewall_rules"] if id_ in rules) for one in listing[POLICY]
    }
    told = {}
    for group in listing[GROUP]:
        applied = tuple(group[name] for name in POLICIES)
        lists = tuple(policies[policy_id] if policy_id else None for policy_id in applied)
        for port_id in group["ports"]:
            if ports[port_id]["binding:host_id"] == host and ports[port_id]["device_owner"] != OTHER:
                told[port_id] = (group["id"], group["admin_state_up"], applied, lists)
    return told
