"""Whether this machine's nftables and kernel can do what router ports need; they are asked, not their version numbers.

Rulesets that use everything which ours do are tried in a network namespace without a name, which ends with the
thread that made it: nothing of the host is touched.
"""

from typing import NamedTuple

from portward.dataplane.netns import in_new_namespace
from portward.dataplane.nftables.libnftables import Nft, NftError
from portward.dataplane.protocol import DataplaneError

#: Said to whoever lacks something.
NEEDED = "nftables 1.0.6 or newer and Linux 5.10 or newer"
_BASE = "add table inet t; add chain inet t c { type filter hook forward priority filter; }; "


class Feature(NamedTuple):
    """Something that is needed, and commands that use it."""

    name: str
    commands: str


FEATURES = (
    Feature("connection marks", "add rule inet t c ct mark set ct mark and 0xffff0000 or 1"),
    Feature("verdict maps", "add map inet t m { type ifname : verdict; }; add rule inet t c iifname vmap @m"),
    Feature(
        "maps of several fields and ranges, which count",
        "add map inet t r { type ipv4_addr . inet_service : verdict; flags interval; counter; "
        'elements = { 10.0.0.0/8 . 1-2 comment "x" : return }; }; add rule inet t c ip saddr . th dport vmap @r',
    ),
    Feature("reverse path (fib)", "add rule inet t c fib saddr . iif oif missing drop"),
    Feature("reject", "add rule inet t c reject with icmpx admin-prohibited"),
    Feature(
        "rate limits a port",
        "add set inet t s { type ifname; size 65535; flags dynamic; }; "
        "add rule inet t c update @s { iifname limit rate over 100/second burst 100 packets } drop",
    ),
)


class Unsupported(DataplaneError):
    """nftables or the kernel is too old, or nftables is missing."""


def attempt(feature: Feature) -> None:
    """Use ``feature``.

    Raises:
        NftError: it cannot be used here.
        DataplaneError: it cannot be tried.
    """
    _try(feature.commands)


def require() -> None:
    """Make sure that everything can be used; where nothing can be tried, take it that it can.

    Raises:
        Unsupported: something cannot; it says what, and what is needed.
    """
    try:
        _try("; ".join(feature.commands for feature in FEATURES))
    except NftError as error:
        raise Unsupported(f"{_lacking() or error}; {NEEDED} are needed: install them and restart the agent") from error
    except DataplaneError:
        return  # no namespace, no descriptor: then the first change says so


def _lacking() -> str:
    """The first feature that cannot be used, and the reason; empty: each alone can."""
    for feature in FEATURES:
        try:
            attempt(feature)
        except DataplaneError as error:
            return f"{feature.name} cannot be used ({str(error).splitlines()[0]})"
    return ""


def _try(commands: str) -> None:
    def inside() -> None:
        with Nft() as nft:
            nft.run(_BASE + commands)

    in_new_namespace(inside)
