"""The agent's side of the channel: it holds the newest state that the server sent, and asks for what is newer.

A client begins with nothing and so gets everything first; from then on only what changed crosses the wire. What it
cannot put together to the very state that the server described, it forgets and asks for anew: half a state is never
handed on. It refuses to wait and to try again by itself: each call is one request, and an error says what happened;
when to call again is the caller's decision.
"""

import re
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import httpx2
import msgspec

from portward.channel.messages import (
    COUNTERS_PATH,
    MESSAGE_VERSION,
    REPORT_PATH,
    STATE_PATH,
    CountersMessage,
    Index,
    MalformedMessage,
    PolicyBody,
    ReportMessage,
    SetChange,
    StateAnswer,
    StateRequest,
    Total,
    decode,
    digest_of,
    encode,
    fingerprint,
    hash_body,
    parse_prefix,
)
from portward.config import ConfigurationError
from portward.model import AddressSet, HostState, Policy, PortwardError, Prefix, Report, Rule

#: Seconds that the server may hold a request when nothing changed.
WAIT = 30.0
_TIMEOUT = 10.0  # seconds for each step of a request that is not a wait for news
_TOKEN = re.compile(r"[!-~]+")  # anything else would come back in the text of an error


class ChannelError(PortwardError):
    """A request to the server did not lead to an answer that counts."""


class Unreachable(ChannelError):
    """The server cannot be reached, or cannot answer now. Try again."""


class Untrusted(ChannelError):
    """What answers has no certificate that is trusted. Nothing was said to it, the token neither."""


class Refused(ChannelError):
    """The server does not serve this token, or not with this request. Trying again will not help by itself."""


class Unusable(ChannelError):
    """The server's answer makes no state that may be enforced. The next request asks for everything."""


class Client:
    """The channel of one host to the server at ``api``. ``poll``, ``report`` and ``count`` may run in three threads.

    Args:
        api: base URL of the agents' listener.
        token: the host's, as ``portward host add`` printed it.
        ca_file: PEM file of the CAs that a server's certificate may be from; ``None``: those of the system.
        transport: for tests; the network otherwise. Proxies of the environment are not used: they would see the token.

    Raises:
        ConfigurationError: ``ca_file`` cannot be used.
    """

    def __init__(
        self, api: str, token: str, *, ca_file: Path | None = None, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self._http = httpx2.Client(
            base_url=api, timeout=_TIMEOUT, trust_env=False, transport=transport, verify=_trust(ca_file)
        )
        self._token = token.strip()
        self._api = api
        self._forget()

    def poll(self, *, wait: float = WAIT) -> HostState | None:
        """The host's state, whole, when it changed; ``None`` when nothing did for ``wait`` seconds (0 to 60).

        A state whose generation alone is new is returned as well: the server waits for a report about it.

        Raises:
            Unreachable, Untrusted, Refused: the server did not answer; what is held stays held.
            Unusable: what it answered is not used, and what was held is forgotten.
        """
        request = StateRequest(
            generation=self._generation,
            digest=self._digest,
            policies={id_: held.value.version for id_, held in self._policies.items()},
            sets={id_: held.version for id_, held in self._sets.items()},
            wait=wait,
        )
        content = self._post(STATE_PATH, request, timeout=wait + _TIMEOUT)
        try:
            return self._take(decode(content, StateAnswer))
        except (MalformedMessage, ValueError) as error:  # InvalidValue is one
            self._forget()
            raise Unusable(
                f"{self._api} sent a state that cannot be used, and is asked for all of it: {error}"
            ) from error

    def report(self, report: Report) -> None:
        """Tell the server what became of a state.

        Raises:
            Unreachable, Untrusted, Refused: the server did not take it.
        """
        self._post(REPORT_PATH, ReportMessage(generation=report.generation, ports=report.ports), timeout=_TIMEOUT)

    def count(self, totals: Mapping[str, Total]) -> None:
        """Tell the server how often these rules, at most ``MAX_COUNTERS``, decided on this host.

        Raises:
            Unreachable, Untrusted, Refused: the server did not take it, or is of a release that knows no counters.
        """
        self._post(COUNTERS_PATH, CountersMessage(rules=dict(totals)), timeout=_TIMEOUT)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _post(self, path: str, message: msgspec.Struct, *, timeout: float) -> bytes:
        if not _TOKEN.fullmatch(self._token):
            raise Refused("[agent] token is empty or no token; put in what `portward host add NAME` prints")
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            response = self._http.post(
                path, content=encode(message), headers=headers, timeout=httpx2.Timeout(_TIMEOUT, read=timeout)
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            if isinstance(_cause(error), ssl.SSLCertVerificationError):
                raise Untrusted(
                    f"{self._api} has no certificate that can be trusted: {reason}; see [agent] ca_file, and whether "
                    "the certificate names the host as [agent] api does"
                ) from error
            raise Unreachable(f"{self._api} cannot be reached: {reason}; see [agent] api") from error
        if response.status_code == 200:
            return response.content
        said = response.text[:200]
        if response.status_code == 401:
            raise Refused(
                f"{self._api} refuses the token, which is unknown or revoked; "
                "put the one that `portward host add NAME` prints into [agent] token"
            )
        if 400 <= response.status_code < 500:
            raise Refused(f"{self._api} refuses {path} with {response.status_code}: {said}")
        raise Unreachable(f"{self._api} cannot answer {path} now, {response.status_code}: {said}")

    def _forget(self) -> None:
        self._generation = 0
        self._digest = ""
        self._index = Index()
        self._policies: dict[str, _HeldPolicy] = {}
        self._sets: dict[str, _HeldSet] = {}

    def _take(self, answer: StateAnswer) -> HostState | None:
        """Hold what the answer describes, which must be the whole of it."""
        if answer.version != MESSAGE_VERSION:
            raise MalformedMessage(
                f"its messages are version {answer.version}, not {MESSAGE_VERSION}: update the agent"
            )
        encoded_index = bytes(answer.index)
        if encoded_index == b"null":
            return self._take_generation(answer)
        index = decode(encoded_index, Index)
        policies = self._take_policies(index, answer.bodies)
        sets = self._take_sets(index, answer.sets)
        hashes = {id_: policy.hash for id_, policy in policies.items()}
        fingerprints = {id_: held.fingerprint for id_, held in sets.items()}
        if digest_of(encoded_index, hashes, fingerprints) != answer.digest:
            raise MalformedMessage("it is not what its digest says")
        self._generation, self._digest = answer.generation, answer.digest
        self._index, self._policies, self._sets = index, policies, sets
        return self._state()

    def _take_policies(self, index: Index, bodies: Iterable[msgspec.Raw]) -> "dict[str, _HeldPolicy]":
        policies = dict(self._policies)
        for encoded in bodies:
            held = _held_policy(bytes(encoded), policies)
            policies[held.value.id] = held
        lacking = [
            id_
            for id_, version in index.policies.items()
            if id_ not in policies or policies[id_].value.version != version
        ]
        if lacking:
            raise MalformedMessage(f"policies {', '.join(lacking[:3])} are named and not there")
        return {id_: policies[id_] for id_ in index.policies}

    def _take_sets(self, index: Index, changes: Iterable[SetChange]) -> "dict[str, _HeldSet]":
        sets = dict(self._sets)
        for change in changes:
            held = sets.get(change.id) if change.since else _HeldSet(0, {}, 0, None)
            if held is None or held.version != change.since:
                raise MalformedMessage(f"of address set {change.id} there is no version {change.since} here to change")
            sets[change.id] = held.after(change)
        lacking = [id_ for id_, version in index.sets.items() if id_ not in sets or sets[id_].version != version]
        if lacking:
            raise MalformedMessage(f"address sets {', '.join(lacking[:3])} are named and not there")
        return {id_: sets[id_] for id_ in index.sets}

    def _take_generation(self, answer: StateAnswer) -> HostState | None:
        if answer.digest != self._digest:
            raise MalformedMessage("it has no index, and its digest is not that of the state held here")
        if answer.generation == self._generation:
            return None
        self._generation = answer.generation
        return self._state()

    def _state(self) -> HostState:
        return HostState(
            generation=self._generation,
            ports=self._index.ports,
            policies=tuple(held.value for held in self._policies.values()),
            sets=tuple(held.value for held in self._sets.values() if held.value is not None),
            admitted=self._index.admitted,
        )


class _HeldPolicy(NamedTuple):
    """A version of a policy, and its rules by how they are encoded."""

    value: Policy
    hash: bytes
    rules: dict[bytes, Rule]


def _held_policy(encoded: bytes, before: Mapping[str, _HeldPolicy]) -> _HeldPolicy:
    """The policy that is encoded; rules that are in it as they were ``before`` are the same objects.

    Raises:
        MalformedMessage: it is none.
    """
    body = decode(encoded, PolicyBody)
    known = before[body.id].rules if body.id in before else {}
    places = [bytes(rule) for rule in body.rules]
    rules = {rule: known.get(rule) or decode(rule, Rule) for rule in places}
    value = Policy(id=body.id, version=body.version, rules=tuple(rules[rule] for rule in places))
    return _HeldPolicy(value, hash_body(encoded), rules)


class _HeldSet(NamedTuple):
    """A version of an address set."""

    version: int
    members: dict[str, Prefix]
    fingerprint: int
    value: AddressSet | None  # ``None``: before the first version

    def after(self, change: SetChange) -> "_HeldSet":
        """What ``change`` makes of it.

        Raises:
            InvalidValue, ValueError: a member is no canonical prefix.
        """
        members = self.members.copy()
        came = [text for text in change.added if text not in members]
        gone = [text for text in change.removed if members.pop(text, None) is not None]
        members |= {text: parse_prefix(text) for text in came}
        number = fingerprint(came, self.fingerprint, less=gone)
        value = AddressSet(id=change.id, version=change.version, members=tuple(members.values()))
        return _HeldSet(change.version, members, number, value)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = "holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"[agent] ca_file: {ca_file}: {reason}") from error


def _cause(error: BaseException) -> BaseException:
    """What ``error`` began with."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
