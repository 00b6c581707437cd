"""A server of the channel in memory: answers as the messages say, from a state that the test sets."""

from collections.abc import Callable

import httpx2
import msgspec

from portward.channel.messages import (
    REPORT_PATH,
    STATE_PATH,
    Index,
    ReportMessage,
    SetChange,
    StateAnswer,
    StateRequest,
    decode,
    digest_of,
    encode,
    fingerprint,
    hash_body,
)
from portward.model import HostState

Damage = Callable[[StateAnswer], StateAnswer]


class Server:
    """Holds what was asked and reported; never waits."""

    def __init__(self, state: HostState) -> None:
        self.state = state
        self.asked: list[StateRequest] = []
        self.tokens: list[str] = []
        self.reports: list[ReportMessage] = []
        self.sent: list[StateAnswer] = []
        self.damage: Damage = lambda answer: answer
        self.fault: Callable[[httpx2.Request], httpx2.Response | None] = lambda _: None

    def transport(self) -> httpx2.MockTransport:
        """What a client reaches it by."""
        return httpx2.MockTransport(self._handle)

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        self.tokens.append(request.headers["authorization"])
        if (response := self.fault(request)) is not None:
            return response
        if request.url.path == REPORT_PATH:
            self.reports.append(decode(request.content, ReportMessage))
            return httpx2.Response(200, content=b"{}")
        assert request.url.path == STATE_PATH
        self.asked.append(decode(request.content, StateRequest))
        self.sent.append(self.damage(self._answer(self.asked[-1])))
        return httpx2.Response(200, content=encode(self.sent[-1]))

    def _answer(self, asked: StateRequest) -> StateAnswer:
        state = self.state
        versions = {policy.id: policy.version for policy in state.policies}
        bodies = {policy.id: encode(policy) for policy in state.policies}
        members = {held.id: [str(member) for member in held.members] for held in state.sets}
        sets = {held.id: held.version for held in state.sets}
        index = encode(Index(ports=state.ports, policies=versions, sets=sets))
        hashes = {id_: hash_body(body) for id_, body in bodies.items()}
        digest = digest_of(index, hashes, {id_: fingerprint(some) for id_, some in members.items()})
        if digest == asked.digest:
            return StateAnswer(generation=state.generation, digest=digest)
        needed = [msgspec.Raw(body) for id_, body in bodies.items() if asked.policies.get(id_) != versions[id_]]
        whole = [
            SetChange(id=id_, version=version, added=tuple(members[id_]))
            for id_, version in sets.items()
            if asked.sets.get(id_) != version
        ]
        return StateAnswer(
            generation=state.generation,
            digest=digest,
            index=msgspec.Raw(index),
            bodies=tuple(needed),
            sets=tuple(whole),
        )
