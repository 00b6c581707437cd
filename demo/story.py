"""The story, written by hand: what is typed, what is sent, and what must become of it.

The expectations are nobody's output. The demo compares them with what ``explain`` says and with what the
packets did. The group ``web`` protects the port ``blue``, which is the router's to the network of that name, or that of
the virtual machine there: what goes to blue meets its ingress policy, what comes from blue its egress policy.
"""

from dataclasses import dataclass

PASSED, RESET, UNREACHABLE, SILENT = "passed", "reset", "unreachable", "silent"
LIVES, CUT = "lives", "cut"


@dataclass(frozen=True)
class Probe:
    """One attempt from ``sender`` to ``receiver``; ``source`` is the last number of the sender's address."""

    sender: str
    receiver: str
    protocol: str
    port: int | None
    expected: str
    version: int = 4
    source: int = 10


@dataclass(frozen=True)
class Open:
    """A TCP connection from red to blue that is opened now and held open under ``name``."""

    name: str
    port: int


@dataclass(frozen=True)
class Held:
    """Whether the connection ``name`` still carries data."""

    name: str
    port: int
    expected: str


@dataclass(frozen=True)
class Kill:
    """``kill -9`` of the agent and a new start, under constant traffic to both ports."""

    allowed_port: int
    denied_port: int


Event = Probe | Open | Held | Kill


@dataclass(frozen=True)
class Chapter:
    """Commands for the ``openstack`` client, and what is tried once the hosts have realised them."""

    title: str
    commands: tuple[str, ...]
    events: tuple[Event, ...]


def _to_blue(protocol: str, port: int | None, expected: str, *, version: int = 4, source: int = 10) -> Probe:
    return Probe("red", "blue", protocol, port, expected, version, source)


def _rule(name: str, protocol: str, action: str, rest: str = "") -> str:
    return f"firewall group rule create {name} --protocol {protocol} --action {action} {rest}".rstrip()


STORY = (
    Chapter(
        "A group without rules: nothing passes, either way",
        ("firewall group create web --port blue",),
        (
            _to_blue("icmp", None, SILENT),
            _to_blue("tcp", 22, SILENT),
            Probe("blue", "red", "icmp", None, SILENT),
            Probe("blue", "outside", "udp", 53, SILENT),
            Probe("red", "outside", "icmp", None, PASSED),
        ),
    ),
    Chapter(
        "Allow ICMP in the ingress policy: ping passes, one way",
        (
            _rule("allow-icmp", "icmp", "allow"),
            "firewall group policy create in --firewall-rule allow-icmp",
            "firewall group set web --ingress-firewall-policy in",
        ),
        (_to_blue("icmp", None, PASSED), Probe("blue", "red", "icmp", None, SILENT)),
    ),
    Chapter(
        "Allow, then deny: the first match wins, ping still passes",
        (
            _rule("deny-icmp", "icmp", "deny"),
            "firewall group policy add rule in deny-icmp --insert-after allow-icmp",
        ),
        (_to_blue("icmp", None, PASSED),),
    ),
    Chapter(
        "Deny, then allow: blocked",
        (
            "firewall group policy remove rule in deny-icmp",
            "firewall group policy add rule in deny-icmp --insert-before allow-icmp",
        ),
        (_to_blue("icmp", None, SILENT),),
    ),
    Chapter(
        "Three actions: connected, refused at once, silence",
        (
            _rule("allow-ssh", "tcp", "allow", "--destination-port 22"),
            _rule("reject-telnet", "tcp", "reject", "--destination-port 23"),
            _rule("deny-web", "tcp", "deny", "--destination-port 80"),
            _rule("reject-dns", "udp", "reject", "--destination-port 53"),
            "firewall group policy set in --no-firewall-rule --firewall-rule allow-ssh"
            " --firewall-rule reject-telnet --firewall-rule deny-web --firewall-rule reject-dns",
        ),
        (
            _to_blue("tcp", 22, PASSED),
            _to_blue("tcp", 23, RESET),
            _to_blue("tcp", 80, SILENT),
            _to_blue("udp", 53, UNREACHABLE),
        ),
    ),
    Chapter(
        "Two open connections",
        (
            _rule("allow-7001", "tcp", "allow", "--destination-port 7001"),
            _rule("allow-7002", "tcp", "allow", "--destination-port 7002"),
            "firewall group policy add rule in allow-7001",
            "firewall group policy add rule in allow-7002",
        ),
        (Open("first", 7001), Open("second", 7002), Held("first", 7001, LIVES), Held("second", 7002, LIVES)),
    ),
    Chapter(
        "The rule of one is removed: that one stops at once, the other loses nothing",
        ("firewall group policy remove rule in allow-7001",),
        (Held("first", 7001, CUT), Held("second", 7002, LIVES)),
    ),
    Chapter(
        "A disabled rule takes no part, also for what is open",
        ("firewall group rule set allow-7002 --disable-rule",),
        (_to_blue("tcp", 7002, SILENT), Held("second", 7002, CUT)),
    ),
    Chapter(
        "A range means itself: 0:1024 is not all ports",
        (
            _rule("low-ports", "tcp", "allow", "--destination-port 0:1024"),
            "firewall group policy create narrow --firewall-rule low-ports",
            "firewall group set web --ingress-firewall-policy narrow",
        ),
        (_to_blue("tcp", 1, PASSED), _to_blue("tcp", 1024, PASSED), _to_blue("tcp", 1025, SILENT)),
    ),
    Chapter(
        "A source prefix and a single address",
        (
            _rule("prefix", "tcp", "allow", "--source-ip-address 10.1.0.10/31 --destination-port 8080"),
            _rule("one-host", "tcp", "allow", "--source-ip-address 10.1.0.200/32 --destination-port 8080"),
            "firewall group policy add rule narrow prefix",
            "firewall group policy add rule narrow one-host",
        ),
        (
            _to_blue("tcp", 8080, PASSED, source=10),
            _to_blue("tcp", 8080, PASSED, source=200),
            _to_blue("tcp", 8080, SILENT, source=12),
        ),
    ),
    Chapter(
        "The same over IPv6",
        (
            _rule("icmp-6", "ipv6-icmp", "allow", "--ip-version 6"),
            _rule("low-ports-6", "tcp", "allow", "--ip-version 6 --destination-port 0:1024"),
            _rule("telnet-6", "tcp", "reject", "--ip-version 6 --destination-port 2323"),
            _rule(
                "prefix-6", "tcp", "allow", "--ip-version 6 --source-ip-address fd00:1::a/127 --destination-port 8080"
            ),
            _rule("one-6", "tcp", "allow", "--ip-version 6 --source-ip-address fd00:1::c8/128 --destination-port 8080"),
            "firewall group policy set narrow --firewall-rule icmp-6 --firewall-rule low-ports-6"
            " --firewall-rule telnet-6 --firewall-rule prefix-6 --firewall-rule one-6",
        ),
        (
            _to_blue("icmp", None, PASSED, version=6),
            _to_blue("tcp", 1024, PASSED, version=6),
            _to_blue("tcp", 1025, SILENT, version=6),
            _to_blue("tcp", 2323, RESET, version=6),
            _to_blue("tcp", 8080, PASSED, version=6, source=10),
            _to_blue("tcp", 8080, PASSED, version=6, source=200),
            _to_blue("tcp", 8080, SILENT, version=6, source=12),
            _to_blue("icmp", None, SILENT, version=4),
        ),
    ),
    Chapter(
        "The agent is killed with -9 and started again under traffic",
        (_rule("stream", "udp", "allow", "--destination-port 9001"), "firewall group policy add rule narrow stream"),
        (Kill(allowed_port=9001, denied_port=9002),),
    ),
    Chapter(
        "The new agent takes changes like the old one",
        ("firewall group policy remove rule narrow stream",),
        (_to_blue("udp", 9001, SILENT), _to_blue("icmp", None, PASSED, version=6)),
    ),
)

#: Told where blue is a virtual machine: its group is not the only one on the way.
TOGETHER = (
    Chapter(
        "A second group, on the router's port to blue: both must allow",
        (
            _rule("edge-80", "tcp", "allow", "--ip-version 6 --destination-port 80"),
            "firewall group policy create edge --firewall-rule edge-80",
            "firewall group create edge --port router-blue --ingress-firewall-policy edge",
        ),
        (
            _to_blue("tcp", 80, PASSED, version=6),
            _to_blue("tcp", 443, SILENT, version=6),
            _to_blue("tcp", 2323, SILENT, version=6),
        ),
    ),
)
