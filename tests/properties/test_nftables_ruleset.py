"""Rule lists as nft text, read by an interpreter of the few statements they use, against the golden model.

And texts made from hostile values: they are refused, or nothing of them can be seen in what nft would do.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from portward.dataplane.nftables.change import Planner
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.ruleset import DeviceLists, Wanted, rule_list, version_chains
from portward.model import (
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
)
from portward.semantics import Verdict, decide
from properties.strategies import ident, states_and_packet

_VERDICTS = {"return": Verdict.ALLOW, "drop": Verdict.DENY, "goto v1/refuse": Verdict.REJECT}


def judge(chains: Mapping[str, list[str]], entry: str, packet: Packet, *, reply: bool) -> Verdict:
    """What nft does with ``packet``, in the reply direction of its connection or not."""
    for line in chains[entry]:
        fields = re.fullmatch(r"(.*?) ?(return|drop|goto \S+)", line)
        assert fields, line
        if _matches(fields[1], packet, reply=reply):
            verdict = fields[2]
            if verdict in _VERDICTS:
                return _VERDICTS[verdict]
            return judge(chains, verdict.removeprefix("goto "), packet, reply=reply)
    return Verdict.ALLOW  # the end of a chain returns


def _matches(text: str, packet: Packet, *, reply: bool) -> bool:
    words = text.split()
    while words:
        expression, value, words = " ".join(words[:2]), words[2], words[3:]
        if expression == "ct direction":
            if value == "reply" and not reply:
                return False
        elif expression == "meta nfproto":
            if packet.ip_version != {"ipv4": 4, "ipv6": 6}[value]:
                return False
        elif expression == "meta l4proto":
            if packet.protocol != int(value):
                return False
        elif expression in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
            address = packet.source if expression.endswith("saddr") else packet.destination
            if address.version != (6 if "6" in expression else 4) or address not in ip_network(value):
                return False
        elif expression in ("th sport", "th dport"):
            first, _, last = value.partition("-")
            port = packet.source_port if expression == "th sport" else packet.destination_port
            if port is None or not int(first) <= port <= int(last or first):
                return False
        else:
            raise AssertionError(f"unknown expression {expression}")
    return True


@given(states_and_packet(), st.sampled_from(Direction))
def test_a_list_decides_as_the_golden_model_does(drawn: tuple[HostState, Packet], direction: Direction) -> None:
    state, packet = drawn
    policies = {policy.id: policy for policy in state.policies}
    for covered in state.ports:
        if covered.groups:
            wanted = rule_list(covered, direction, policies)
            chains = dict(version_chains(1, 1, wanted.key, wanted.parts))
            verdict = judge(chains, f"v1/rules/{wanted.key}", packet, reply=False)
            assert verdict is decide(packet, direction, covered, policies).verdict


@given(states_and_packet(), st.sampled_from(Direction))
def test_an_answer_is_decided_as_the_packet_that_it_answers(
    drawn: tuple[HostState, Packet], direction: Direction
) -> None:
    state, packet = drawn
    policies = {policy.id: policy for policy in state.policies}
    for covered in state.ports:
        if covered.groups:
            wanted = rule_list(covered, direction, policies)
            chains = dict(version_chains(1, 1, wanted.key, wanted.parts))
            entry = f"v1/rules/{wanted.key}"
            assert judge(chains, entry, packet.reply(), reply=True) is judge(chains, entry, packet, reply=False)


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


@given(_hostile, _hostile, _hostile)
def test_no_name_can_break_out_of_the_text(device: str, netns: str, policy_id: str) -> None:
    planner = Planner(owner="host", epochs=Epochs(0xFFFF), reverse_path="strict")

    def text(device: str, netns: str, policy_id: str) -> str:
        port = Port(id=ident(1), kind=PortKind.ROUTER, binding=Binding(netns=netns, device=device))
        covered = CoveredPort(port=port, groups=(Group(id=ident(2), ingress_policy_id=policy_id),))
        wanted = rule_list(covered, Direction.INGRESS, {policy_id: Policy(id=policy_id, version=1)})
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
        assert re.fullmatch(r"[A-Za-z0-9_.@:{}\",;=<>/ \n-]*", written)
        assert written.count('"') == tame.count('"')
    with suppress(InvalidValue):
        assert shape(text("qr-a", "qrouter-a", policy_id)) == shape(tame)
