"""What of ours stands in the dataplanes of a lab, by the kind of port: how much there is, and how somebody wipes it."""

from packets.nftables_router import nft, ruleset
from portward.dataplane.openvswitch.layout import COOKIE, COOKIE_MASK, LEARNT_COOKIE, Table
from portward.lab import Lab

#: Of which the switch itself changes the flows.
_LIVELY = (f"cookie={LEARNT_COOKIE:#x}", f"table={Table.TICK.value},")


def footprint(lab: Lab, kind: str) -> int:
    """The lines of our table, or the flows of ours; a change that leaves nothing behind leaves as many as another."""
    if kind == "router":
        return len(ruleset(lab.router_netns).splitlines())
    listed = lab.switch.ofctl("dump-flows", lab.switch.bridge, f"cookie={COOKIE:#x}/{COOKIE_MASK:#x}").splitlines()
    return sum(not any(word in line for word in _LIVELY) for line in listed)


def wipe(lab: Lab, kind: str) -> None:
    """Have nothing of ours enforced any more."""
    if kind == "router":
        nft(lab.router_netns, "flush ruleset")
    else:
        change_flows(lab, "del-flows")


def change_flows(lab: Lab, command: str, *arguments: str) -> None:
    """Do to the flows of the switch what ``ovs-ofctl`` does; it obeys at once.

    What it cached outlives its flows a while, and so does what it was just then about to cache.
    """
    lab.switch.ofctl(command, lab.switch.bridge, *arguments)
    for _ in range(2):
        lab.switch.appctl("revalidator/purge")
