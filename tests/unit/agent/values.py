"""States of a host, made in one line."""

from uuid import UUID

from portward.model import Action, Binding, CoveredPort, Group, HostState, Policy, Port, PortKind, Rule


def uuid(number: int) -> str:
    """A readable id."""
    return str(UUID(int=number))


def policy(number: int, *, version: int = 1, action: Action = Action.ALLOW) -> Policy:
    """A policy of one rule."""
    return Policy(id=uuid(number), version=version, rules=(Rule(id=uuid(1000 + number), action=action),))


def covered(number: int, policy_number: int | None = None, *, kind: PortKind = PortKind.ROUTER) -> CoveredPort:
    """A port that a group of its own covers, with that policy for ingress."""
    binding = Binding(netns=f"pw-{number}", device="eth0") if kind is PortKind.ROUTER else None
    ingress = None if policy_number is None else uuid(policy_number)
    group = Group(id=uuid(2000 + number), ingress_policy_id=ingress)
    return CoveredPort(port=Port(id=uuid(number), kind=kind, binding=binding), groups=(group,))


def state(generation: int, *ports: CoveredPort, policies: tuple[Policy, ...] = ()) -> HostState:
    """A state of these."""
    return HostState(generation=generation, ports=ports, policies=policies)
