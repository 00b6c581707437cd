"""Lists of rules as nft text, read by an interpreter of the little they use, against the golden model.

And texts made from hostile values: they are refused, or nothing of them can be seen in what nft would do.
"""

import random
import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address, ip_network

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from portward.dataplane.addresses import members_of
from portward.dataplane.lists import Policies, rule_list
from portward.dataplane.nftables.change import Planner
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.layout import lay_out
from portward.dataplane.nftables.wanted import DeviceLists, Wanted
from portward.model import (
    PROTOCOLS_WITH_PORTS,
    Action,
    Binding,
    CoveredPort,
    Direction,
    Group,
    HostState,
    InvalidValue,
    Packet,
    Policy,
    Port,
    PortKind,
    Rule,
    Stratum,
)
from portward.semantics import Verdict, decide
from properties.seeded import FAVOURS, SEEDED_SETS, border_packet, favoured, random_rule
from properties.strategies import SETS, ident, states_and_packet

_SETS = SETS | SEEDED_SETS
_VERDICTS = {"return": Verdict.ALLOW, "drop": Verdict.DENY, "goto refuse": Verdict.REJECT}
#: Jumps and gotos that a kernel takes in a row, and those that lead to a list's version.
_DEPTH, _DEPTH_BEFORE = 14, 5


class Table:
    """The chains and maps of a text, and what nft does with a packet in them."""

    def __init__(self, text: str) -> None:
        self._chains = {
            title: [line.strip() for line in body.splitlines()]
            for title, body in re.findall(r"^chain (\S+) \{\n(.*?)^\}", text, re.M | re.S)
        }
        self._maps = {
            title: dict(re.findall(r"^(\S.*?)(?: comment \"[^\"]*\")? : (.*?),?$", body, re.M))
            for title, body in re.findall(r"^map (\S+) \{\n(.*?)^\}\n\}", text, re.M | re.S)
        }

    def judge(self, entry: str, packet: Packet, depth: int = _DEPTH_BEFORE) -> Verdict:
        """The verdict on ``packet``, when it enters by the chain ``entry``."""
        assert depth <= _DEPTH
        for line in self._chains[entry]:
            verdict = self._verdict(line, packet)
            if verdict in _VERDICTS:
                assert verdict != "goto refuse" or depth < _DEPTH
                return _VERDICTS[verdict]
            if verdict is not None:
                return self.judge(verdict.removeprefix("goto "), packet, depth=depth + 1)
        return Verdict.ALLOW  # the end of a chain returns

    def _verdict(self, line: str, packet: Packet) -> str | None:
        looked_up = re.fullmatch(r"(.*) vmap @(\S+)", line)
        if looked_up:
            values = [_masked(expression, packet) for expression in looked_up[1].split(" . ")]
            if None in values:
                return None
            found = {
                verdict
                for key, verdict in self._maps[looked_up[2]].items()
                if all(_lies_in(value, part) for value, part in zip(values, key.split(" . "), strict=True))
            }
            assert len(found) <= 1, "elements overlap"
            return found.pop() if found else None
        fields = re.fullmatch(r"(.*?) ?(?:counter )?(return|drop|goto \S+)(?: comment \".*\")?", line)
        assert fields, line
        words = fields[1].split()
        conditions = [(" ".join(words[at : at + 2]), words[at + 2]) for at in range(0, len(words), 3)]
        return fields[2] if all(_lies_in(_value(name, packet), wanted) for name, wanted in conditions) else None


def _value(expression: str, packet: Packet) -> int | str | None:
    """What nft reads from ``packet``; ``None``: it has no such field, and the rule does not match."""
    family = "ip" if packet.ip_version == 4 else "ip6"
    values = {
        "meta nfproto": f"ipv{packet.ip_version}",
        "meta l4proto": packet.protocol,
        f"{family} saddr": int(packet.source),
        f"{family} daddr": int(packet.destination),
        "th sport": packet.source_port if packet.icmp_type is None else packet.icmp_type << 8 | (packet.icmp_code or 0),
        "th dport": packet.destination_port,
    }
    assert expression in values or expression.startswith("ip"), expression
    return values.get(expression)


def _masked(expression: str, packet: Packet) -> int | None:
    name, _, mask = expression.partition(" & ")
    value = _value(name, packet)
    assert not isinstance(value, str)
    return value & _number(mask) if value is not None and mask else value


def _lies_in(value: int | str | None, wanted: str) -> bool:
    if value is None or isinstance(value, str):
        return value == wanted
    if wanted.startswith("@"):
        _, _, set_id, version = wanted.split("/")
        held = members_of(_SETS[set_id]).prefixes[4 if version == "4" else 6]
        return any(int(prefix[0]) <= value <= int(prefix[-1]) for prefix in held)
    if "/" in wanted:
        network = ip_network(wanted)
        return int(network[0]) <= value <= int(network[-1])
    first, _, last = wanted.partition("-")
    return _number(first) <= value <= _number(last or first)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else int(ip_address(text))


def tables(state: HostState, direction: Direction) -> Iterable[tuple[CoveredPort, Table]]:
    """The covered ports of ``state``, and the list of each."""
    for covered in state.ports:
        if covered.groups:
            parts = rule_list(covered, direction, Policies().update(state.policies)).parts
            yield covered, Table(lay_out(parts).text("list", "refuse", dict.fromkeys(_SETS, 1)))


def is_whole(packet: Packet) -> bool:
    """Whether ``packet`` is not a later fragment: connection tracking puts those together before the hook."""
    return packet.protocol not in PROTOCOLS_WITH_PORTS or packet.source_port is not None


SHAPES = st.sampled_from(sorted(FAVOURS))


@given(states_and_packet(), st.sampled_from(Direction), SHAPES)
def test_a_list_decides_as_the_golden_model_does(
    drawn: tuple[HostState, Packet], direction: Direction, shape: str
) -> None:
    state, packet = drawn
    assume(is_whole(packet))
    policies = {policy.id: policy for policy in state.policies}
    with favoured(shape):
        for covered, table in tables(state, direction):
            assert table.judge("list", packet) is decide(packet, direction, covered, policies, _SETS).verdict


@given(states_and_packet(), st.sampled_from(Direction), SHAPES)
def test_an_answer_is_decided_as_the_packet_that_it_answers(
    drawn: tuple[HostState, Packet], direction: Direction, shape: str
) -> None:
    state, packet = drawn
    assume(is_whole(packet))
    with favoured(shape):
        for _, table in tables(state, direction):
            assert table.judge("list/reply", packet.reply()) is table.judge("list", packet)


@given(st.integers(0, 2**32), st.sampled_from((0.1, 0.5, 0.9)), SHAPES)
@settings(max_examples=50)
def test_long_lists_of_several_strata_decide_as_the_golden_model_does(seed: int, narrow: float, shape: str) -> None:
    chance = random.Random(seed)
    policies = {
        id_: Policy(
            id=id_, version=1, rules=tuple(random_rule(chance, n, narrow) for n in range(chance.choice((30, 80))))
        )
        for id_ in map(ident, range(1, 4))
    }
    strata = chance.sample(list(Stratum), chance.choice((1, 2, 3)))
    groups = tuple(
        Group(id=ident(10 + place), stratum=stratum, ingress_policy_id=ident(1 + place))
        for place, stratum in enumerate(strata)
    )
    covered = CoveredPort(port=Port(id=ident(20), kind=PortKind.ROUTER), groups=groups)
    rules = tuple(rule for policy in policies.values() for rule in policy.rules)
    with favoured(shape):
        parts = rule_list(covered, Direction.INGRESS, Policies().update(policies.values())).parts
        table = Table(lay_out(parts).text("list", "refuse", dict.fromkeys(_SETS, 1)))
    for packet in filter(is_whole, [border_packet(chance, rules) for _ in range(60)]):
        verdict = decide(packet, Direction.INGRESS, covered, policies, _SETS).verdict
        assert table.judge("list", packet) is verdict
        assert table.judge("list/reply", packet.reply()) is verdict


_hostile = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            'eth0"; flush ruleset',
            "../../proc/1/ns/net",
            "eth0\nflush ruleset",
            "eth0 } } flush ruleset",
            "*",
            "@covered",
            "$x",
            "eth0\x00",
            "-a",
        ]
    ),
    st.text(alphabet='abz09_.@-"{};*/$ \n', max_size=20),
)


@given(_hostile, _hostile, _hostile, _hostile)
def test_no_name_can_break_out_of_the_text(device: str, netns: str, policy_id: str, rule_id: str) -> None:
    planner = Planner(owner="host", epochs=Epochs(0xFFFF), reverse_path="strict")

    def text(device: str, netns: str, policy_id: str, rule_id: str = ident(8)) -> str:
        port = Port(id=ident(1), kind=PortKind.ROUTER, binding=Binding(netns=netns, device=device))
        covered = CoveredPort(port=port, groups=(Group(id=ident(2), ingress_policy_id=policy_id),))
        rule = Rule(id=rule_id, action=Action.ALLOW)
        wanted = rule_list(
            covered, Direction.INGRESS, Policies().update([Policy(id=policy_id, version=1, rules=(rule,))])
        )
        state = Wanted({device: DeviceLists(wanted.key, wanted.key)}, {wanted.key: wanted.parts})
        change = planner.build(state, serial=1, epoch=1)
        back = planner.change(change.result, Wanted({"qr-x": state.devices[device]}, state.lists), epoch=2)
        return change.prepare + change.switch + back.prepare + back.switch + back.remove

    def shape(written: str) -> list[int]:
        """How many words each line has, which is what a name that breaks out changes first."""
        return [len(line.split()) for line in written.splitlines()]

    tame = text("qr-a", "qrouter-a", ident(9))
    try:
        written = text(device, netns, ident(9))
    except InvalidValue:
        pass
    else:
        assert shape(written) == shape(tame)
        assert re.fullmatch(r"[A-Za-z0-9_.@:{}\",;=!<>/ \n-]*", written)
        assert written.count('"') == tame.count('"')
    with suppress(InvalidValue):
        assert shape(text("qr-a", "qrouter-a", policy_id)) == shape(tame)
    with suppress(InvalidValue):
        assert shape(text("qr-a", "qrouter-a", ident(9), rule_id)) == shape(tame)
