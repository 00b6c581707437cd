"""What rules count is what packets did, whatever becomes of the rules meanwhile."""

import random
import subprocess
from pathlib import Path

import pytest

from packets.builders import ALLOW_ALL, Guard, edited, policy, rule, state_of
from packets.counting import count_and_die, counting
from packets.nftables_router import nft
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab, Outcome
from portward.model import HostState

ALLOW, DENY, REJECT = rule("allow", "udp", 5001), rule("deny", "udp", 5002), rule("reject", "udp", 5003)
ALLOW6 = rule("allow", "udp", 5001, version=6)
POLICY = policy(ALLOW, DENY, REJECT, ALLOW6)
#: Enough rules that they are looked up in maps.
MANY = [rule("deny" if port % 2 else "allow", "udp", port) for port in range(6000, 6060)]


def probe(lab: Lab, *ports: int, version: int = 4) -> list[Outcome]:
    return [lab.red.probe("udp", lab.blue.address(version), port, timeout=0.1).outcome for port in ports]


def test_an_allow_counts_connections_and_a_deny_counts_packets_with_their_bytes(lab: Lab, tmp_path: Path) -> None:
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY))
        probe(lab, *[5001] * 7, *[5002] * 5, *[5003] * 3)
        probe(lab, 5001, 5001, version=6)
        with lab.red.connect("udp", lab.blue.address(), 5001) as connection:
            for _ in range(20):
                connection.exchange()
        totals = life.totals()
        assert life.packets(ALLOW, DENY, REJECT, ALLOW6) == [8, 5, 3, 2]
        size = totals[DENY.id].bytes // 5
        assert (totals[DENY.id].bytes, totals[REJECT.id].bytes) == (5 * size, 3 * size)
        assert size > 28  # IPv4 and UDP headers, and something in them


def test_maps_count_as_rules_do_and_nothing_is_counted_for_rules_that_did_not_decide(lab: Lab, tmp_path: Path) -> None:
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=policy(MANY)))
        assert "vmap" in nft(lab.router_netns, "list table inet portward")
        probe(lab, *range(6000, 6060), *range(6000, 6030))
        assert life.packets(*MANY) == [2] * 30 + [1] * 30


def test_both_decisions_about_a_packet_count(lab: Lab, tmp_path: Path) -> None:
    """It meets one where it enters and one where it leaves; one rule may take both."""
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY), red=Guard(egress=POLICY))
        probe(lab, 5001, 5002)
        assert life.packets(ALLOW, DENY) == [2, 1]


def test_counts_survive_every_kind_of_change(lab: Lab, tmp_path: Path) -> None:
    orders = random.Random(7)
    rules = [ALLOW, DENY, REJECT]
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=policy(rules, id=POLICY.id)))
        probe(lab, 5001, 5002, 5003)
        for times in range(2, 8):
            inserted = rule("deny", "udp", 7000 + times)
            orders.shuffle(rules)
            life.enforce(blue=Guard(ingress=edited(POLICY, inserted, *rules, *(MANY if times % 2 else []))))
            probe(lab, 5001, 5002, 5003)
            if times % 3 == 0:
                assert life.packets(*rules) == [times] * 3
        life.enforce(green=Guard())
        life.enforce()
        assert life.packets(*rules) == [7] * 3


def test_no_packet_is_missed_or_counted_twice_while_its_policy_changes(lab: Lab, tmp_path: Path) -> None:
    flows = [lab.red.flow(lab.blue.address(), 5002), lab.red.flow(lab.blue.address(6), 5002, source_port=40002)]
    denied = [DENY, rule("deny", "udp", 5002, version=6)]
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=edited(POLICY, ALLOW, *denied)))
        with lab.red.stream(flows, rate=10_000) as stream:
            for times in range(60):
                life.enforce(blue=Guard(ingress=edited(POLICY, *MANY[:times], *denied, ALLOW)))
                if times % 9 == 0:
                    life.totals()
            sent = [count.sent for count in stream.stop()]
        assert min(sent) > 100
        assert life.packets(*denied) == sent


def test_a_connection_that_is_judged_anew_counts_again_and_others_do_not(lab: Lab, tmp_path: Path) -> None:
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY))
        with lab.red.connect("udp", lab.blue.address(), 5001) as connection:
            for times in range(1, 5):
                for _ in range(10):
                    connection.exchange()
                assert life.packets(ALLOW) == [times]
                life.enforce(blue=Guard(ingress=edited(POLICY, *MANY[:times], ALLOW, DENY)))


@pytest.mark.parametrize("step", [Step.PREPARED, Step.SWITCHED, Step.REMOVED])
def test_an_agent_killed_at_any_step_neither_loses_nor_doubles(lab: Lab, tmp_path: Path, step: Step) -> None:
    before = state_of(lab.ports, {"blue": Guard(ingress=POLICY)}, HostState(generation=0))
    after = state_of(lab.ports, {"blue": Guard(ingress=edited(POLICY, DENY, ALLOW, *MANY))}, before)
    for times in range(0, 9, 3):
        with counting(lab, tmp_path) as life:
            life.enforce(blue=Guard(ingress=POLICY))
            assert life.packets(ALLOW, DENY) == [times] * 2
        probe(lab, 5001, 5002)
        assert count_and_die(tmp_path, [before, after], step)
        probe(lab, 5001, 5002)
        assert count_and_die(tmp_path, [before], step)
        probe(lab, 5001, 5002)


def test_a_table_that_somebody_deleted_takes_no_count_with_it_that_was_read(lab: Lab, tmp_path: Path) -> None:
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY))
        probe(lab, 5002, 5002)
        assert life.packets(DENY) == [2]
        nft(lab.router_netns, "delete table inet portward")
        life.enforce(blue=Guard(ingress=POLICY))
        probe(lab, 5002)
        assert life.packets(DENY) == [3]
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY))
        assert life.packets(DENY) == [3]


def test_the_last_port_that_goes_leaves_its_counts(lab: Lab, tmp_path: Path) -> None:
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY))
        probe(lab, 5002, 5002)
        life.enforce()
        assert "portward" not in nft(lab.router_netns, "list tables")
    with counting(lab, tmp_path) as life:
        assert life.packets(DENY) == [2]


def test_a_namespace_that_loses_its_name_is_counted_to_its_end(lab: Lab, tmp_path: Path) -> None:
    file = Path("/run/netns") / lab.router_netns
    with counting(lab, tmp_path) as life:
        life.enforce(blue=Guard(ingress=POLICY))
        probe(lab, 5002, 5002)
        held = file.with_name("pw-kept")
        held.touch()
        subprocess.run(["mount", "--bind", file, held], check=True)
        subprocess.run(["umount", "--lazy", file], check=True)
        life.enforce.dataplane.apply(life.enforce.state)
        subprocess.run(["mount", "--bind", held, file], check=True)
        subprocess.run(["umount", held], check=True)
        held.unlink()
        assert life.packets(DENY) == [2]


def test_a_namespace_that_is_deleted_and_made_anew_goes_on_from_what_it_had(tmp_path: Path) -> None:
    """Its table then has the same names in it, and is another one."""
    for times in range(1, 4):
        with Lab.create("again", networks=2) as lab, counting(lab, tmp_path) as life:
            life.enforce(blue=Guard(ingress=POLICY, egress=ALLOW_ALL))
            probe(lab, 5002)
            assert life.packets(DENY) == [times]
