"""What a call makes of the plain model, as the API promises it; each function is one promise in few lines.

``after`` takes a call and what the API answered, and says what is stored then, or that no such answer can be given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from concurrency.model import (
    GROUP,
    NAMES,
    OTHER,
    POLICIES,
    POLICY,
    PORT,
    RULE,
    VM,
    Answer,
    Call,
    Item,
    State,
    User,
    compared,
    frozen,
)


class _Refused(Exception):
    def __init__(self, reasons: set[str]) -> None:
        self.reasons = reasons


def after(state: State, call: Call, answer: Answer) -> State | None:
    """What is stored after ``call``, when that can be answered with ``answer``; else ``None``.

    A refusal must have one of the reasons that there are; which of them is told, where there are several, is free.
    """
    try:
        new, shown = _perform(state, call, [one["id"] for one in answer.objects])
    except _Refused as refused:
        return state if answer.refusal in refused.reasons else None
    if answer.refusal or len(shown) != len(answer.objects):
        return None
    told = zip(shown, answer.objects, strict=True)
    return new if all(new.shown(item, call.user) == compared(item.kind, one) for item, one in told) else None


def _perform(state: State, call: Call, ids: list[str]) -> tuple[State, list[Item]]:
    if call.action == "create":
        made = ids or [f"new {number}" for number in range(len(call.bodies))]  # refused, so it has no id
        for id_, body in zip(made, call.bodies, strict=True):
            state = _create(state, call.user, call.kind, body, id_)
        return state, [state.items[id_] for id_ in made]
    item = state.items.get(call.id)
    if item is None or not call.user.sees(item):
        raise _Refused({f"{NAMES[call.kind]}NotFound"})
    if call.action == "show":
        return state, [item]
    _check(_forbidden(call.user, item, call.bodies[0]))
    if call.if_match is not None and call.if_match != item.revision:
        raise _Refused({"RevisionNumberConstraintFailed"})
    if call.action == "delete":
        return _delete(state, call.user, item), []
    change = {"update": _CHANGES[call.kind], "tags": _tags, "insert_rule": _insert, "remove_rule": _remove}[call.action]
    state = change(state, call.user, item, call.bodies[0])
    return state, [] if call.action == "tags" else [state.items[item.id]]


def _check(reasons: set[str]) -> None:
    if reasons:
        raise _Refused(reasons)


def _forbidden(user: User, item: Item, body: Mapping[str, Any]) -> set[str]:
    foreign = item.project != user.project or item.kind == PORT or "shared" in body
    return {"PolicyNotAuthorized"} if foreign and not user.is_admin else set()


_DEFAULTS: dict[str, dict[str, Any]] = {
    RULE: {"name": "", "shared": False, "action": "deny", "enabled": True},
    POLICY: {"name": "", "shared": False, "audited": False, "firewall_rules": ()},
    GROUP: {
        "name": "",
        "shared": False,
        "admin_state_up": True,
        "ingress_firewall_policy_id": None,
        "egress_firewall_policy_id": None,
        "ports": (),
    },
    PORT: {"name": "", "device_owner": ""},
}


def _create(state: State, user: User, kind: str, body: Mapping[str, Any], id_: str) -> State:
    if not user.is_admin and (kind == PORT or body.get("shared")):
        raise _Refused({"PolicyNotAuthorized"})
    values = frozen(_DEFAULTS[kind] | {name: value for name, value in body.items() if name in _DEFAULTS[kind]})
    item = Item(kind, id_, body.get("project_id", user.project), tuple(sorted(values.items())))
    if kind == POLICY:
        _check(_bad_rules(state, user, item))
    if kind == GROUP:
        _check(_bad_policies(state, user, item.project, body))
        bare = item.with_values({"ports": ()})
        return _cover(state.with_items([bare]), user, bare, values["ports"])[0]
    state = state.with_items([item])
    if kind == PORT and values["device_owner"] == VM:
        state = _enter_default(state, [item])
    return state


def _delete(state: State, user: User, item: Item) -> State:
    reasons = set()
    if item.is_default and not user.is_admin:
        kind = "FirewallGroupCannotRemoveDefault" if item.kind == GROUP else "FirewallDefaultObjectUpdateRestricted"
        reasons.add(kind)
    if item.kind == RULE and any(item.id in one["firewall_rules"] for one in state.of(POLICY)):
        reasons.add("FirewallRuleInUse")
    if item.kind == POLICY and any(item.id in (one[name] for name in POLICIES) for one in state.of(GROUP)):
        reasons.add("FirewallPolicyInUse")
    if item.kind == GROUP and item["ports"]:
        reasons.add("FirewallGroupInUse")
    _check(reasons)
    if item.kind == PORT:
        state = _leave(state, item.id)
    return state.without(item.id)


def _tags(state: State, user: User, item: Item, body: Mapping[str, Any]) -> State:
    if item.is_default and not user.is_admin:
        raise _Refused({"FirewallDefaultObjectUpdateRestricted"})
    tags = tuple(sorted(body["tags"]))
    return state if tags == item.tags else state.with_items([replace(item, tags=tags).touched()])


def _change_rule(state: State, user: User, item: Item, body: Mapping[str, Any]) -> State:
    places = [one for one in state.of(POLICY) if item.id in one["firewall_rules"]]
    new = item.with_values(body)
    changed = new != item
    reasons = set()
    if not user.is_admin and (item.is_default or (changed and any(one.is_default for one in places))):
        reasons.add("FirewallDefaultObjectUpdateRestricted")
    if item["shared"] and not new["shared"] and any(one["shared"] or one.project != item.project for one in places):
        reasons.add("FirewallRuleInUse")
    _check(reasons)
    if not changed:
        return state
    unaudited = [one.with_values({"audited": False}).touched() for one in places if one["audited"]]
    return state.with_items([new.touched(), *unaudited])


def _bad_rules(state: State, user: User, policy: Item) -> set[str]:
    reasons = set()
    for rule_id in policy["firewall_rules"]:
        rule = state.items.get(rule_id)
        if rule is None or not user.sees(rule):
            reasons.add("FirewallRuleNotFound")
        elif not rule["shared"]:
            if policy["shared"]:
                reasons.add("FirewallRuleSharingConflict")
            if rule.project != policy.project:
                reasons.add("FirewallRuleConflict")
    return reasons


def _change_policy(state: State, user: User, item: Item, body: Mapping[str, Any]) -> State:
    new = item.with_values(body)
    reasons = set()
    if item.is_default and not user.is_admin:
        reasons.add("FirewallDefaultObjectUpdateRestricted")
    if (
        item["shared"]
        and not new["shared"]
        and any(one.project != item.project and item.id in (one[name] for name in POLICIES) for one in state.of(GROUP))
    ):
        reasons.add("FirewallPolicyInUse")
    if "firewall_rules" in body:
        reasons |= _bad_rules(state, user, new)
    elif new["shared"] and not item["shared"]:
        shared = all(state.items[rule_id]["shared"] for rule_id in item["firewall_rules"])
        reasons |= set() if shared else {"FirewallPolicySharingConflict"}
    _check(reasons)
    if new == item:
        return state
    return state.with_items([new.with_values({"audited": body.get("audited", False)}).touched()])


def _insert(state: State, user: User, item: Item, body: Mapping[str, Any]) -> State:
    rule = state.items.get(body["firewall_rule_id"])
    rules, neighbour = item["firewall_rules"], body.get("insert_before") or body.get("insert_after")
    reasons = set()
    if item.is_default and not user.is_admin:
        reasons.add("FirewallDefaultObjectUpdateRestricted")
    if rule is None or not user.sees(rule):
        raise _Refused(reasons | {"FirewallRuleNotFound"})
    if rule.id in rules:
        reasons.add("FirewallRuleAlreadyAssociated")
    if not rule["shared"] and rule.project != item.project:
        reasons.add("FirewallRuleConflict")
    if item["shared"] and not rule["shared"]:
        reasons.add("FirewallPolicySharingConflict")
    if neighbour and neighbour not in rules:
        reasons.add("FirewallRuleNotAssociatedWithPolicy")
    _check(reasons)
    place = 0 if not neighbour else rules.index(neighbour) + (0 if body.get("insert_before") else 1)
    return _list_changed(state, item, (*rules[:place], rule.id, *rules[place:]))


def _remove(state: State, user: User, item: Item, body: Mapping[str, Any]) -> State:
    rule_id, rules = body["firewall_rule_id"], item["firewall_rules"]
    reasons = set()
    if item.is_default and not user.is_admin:
        reasons.add("FirewallDefaultObjectUpdateRestricted")
    if rule_id not in rules:
        rule = state.items.get(rule_id)
        seen = rule is not None and user.sees(rule)
        reasons.add("FirewallRuleNotAssociatedWithPolicy" if seen else "FirewallRuleNotFound")
    _check(reasons)
    return _list_changed(state, item, tuple(one for one in rules if one != rule_id))


def _list_changed(state: State, item: Item, rules: tuple[str, ...]) -> State:
    return state.with_items([item.with_values({"firewall_rules": rules, "audited": False}).touched()])


def _bad_policies(state: State, user: User, project: str, body: Mapping[str, Any]) -> set[str]:
    for name in POLICIES:
        policy = state.items.get(body.get(name) or "")
        usable = policy is not None and (policy["shared"] or policy.project == project) and user.sees(policy)
        if body.get(name) and not usable:
            return {"FirewallPolicyNotFound"}
    return set()


def _change_group(state: State, user: User, item: Item, body: Mapping[str, Any]) -> State:
    reasons = _bad_policies(state, user, item.project, body)
    if item.is_default and (body.keys() & {"name"} if user.is_admin else body.keys() - {"ports"}):
        reasons.add("FirewallDefaultObjectUpdateRestricted")
    after, ports = state, item["ports"]
    if "ports" in body:
        try:
            after, ports = _cover(state, user, item, tuple(body["ports"]))
        except _Refused as refused:
            reasons |= refused.reasons
    _check(reasons)
    new = item.with_values({**body, "ports": ports})
    return after if new == item else after.with_items([new.touched()])


def _cover(state: State, user: User, group: Item, wanted: tuple[str, ...]) -> tuple[State, tuple[str, ...]]:
    """Let ``group`` cover ``wanted``; what was covered by others leaves those, what leaves it goes home."""
    old, reasons, givers = group["ports"], set(), {}
    for port_id in wanted:
        port, owner = state.items.get(port_id), state.group_of(port_id)
        if port is None or (port_id not in old and not user.sees(port)):
            reasons.add("PortNotFound")
        elif port["device_owner"] == OTHER:
            reasons.add("FirewallGroupPortInvalid")
        elif owner is not None and owner.id != group.id:
            givers[owner.id] = owner
            if not owner.is_default:
                reasons.add("FirewallGroupPortInUse")
    _check(reasons)
    leaving = [state.items[port_id] for port_id in old if port_id not in wanted]
    leaving = [port for port in leaving if port["device_owner"] == VM]
    home = [port for port in leaving if not (group.is_default and group.project == port.project)]
    final = (*wanted, *(port.id for port in leaving if port not in home))
    if final == old:
        return state, old
    state = state.with_items([group.with_values({"ports": final})])
    losing = {
        giver.id: giver.with_values({"ports": tuple(one for one in giver["ports"] if one not in wanted)}).touched()
        for giver in givers.values()
    }
    return _enter_default(state.with_items(losing.values()), home, already=set(losing)), final


def _enter_default(state: State, ports: Iterable[Item], already: Iterable[str] = ()) -> State:
    """Let the ports' default groups cover them; each such group is changed once, ``already`` were."""
    changed = set(already)
    for port in ports:
        group = state.default_group(port.project)
        new = group.with_values({"ports": (*group["ports"], port.id)})
        state = state.with_items([new if group.id in changed else new.touched()])
        changed.add(group.id)
    return state


def _leave(state: State, port_id: str) -> State:
    group = state.group_of(port_id)
    if group is None:
        return state
    ports = tuple(one for one in group["ports"] if one != port_id)
    return state.with_items([group.with_values({"ports": ports}).touched()])


def _change_port(state: State, _user: User, item: Item, body: Mapping[str, Any]) -> State:
    new = item.with_values(body)
    if new == item:
        return state
    new = new.touched()
    state = state.with_items([new])
    was, owner = item["device_owner"], new["device_owner"]
    if owner == OTHER or (was == VM and owner != VM):
        return _leave(state, item.id)
    if owner == VM and state.group_of(item.id) is None:
        return _enter_default(state, [new])
    return state


_CHANGES = {RULE: _change_rule, POLICY: _change_policy, GROUP: _change_group, PORT: _change_port}
