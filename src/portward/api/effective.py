"""Which groups decide for a port; rules as ``GET /v2.0/fwaas/firewall_rules`` has them, hidden ones as "admin"."""

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from portward.api.call import Call
from portward.api.collection import shown
from portward.api.resources import PORTS, RULES, narrowing
from portward.model import Direction
from portward.service import ports
from portward.service.effective import HIDDEN_NAME, Decider, effective_groups
from portward.service.errors import PortNotFound

#: What of a group is shown, beside its rules.
_SHOWN = ("id", "name", "position", "admin_state_up", "ingress_firewall_policy_id", "egress_firewall_policy_id")
_HIDDEN: dict[str, Any] = {"id": None, "name": HIDDEN_NAME}


def effective(call: Call) -> Callable[[Session], Any]:
    """The groups that decide for a port, in their order."""

    def work(session: Session) -> dict[str, Any]:
        port_id = call.path["port_id"]
        port = ports.find_port(session, call.context, port_id)
        if not call.authority.sees(PORTS.schema.singular, port):
            raise PortNotFound(port_id)
        call.authority.require(["get_effective"], port.project_id)
        found = effective_groups(session, call.context, port.id, narrowing(call.authority))
        show = shown(RULES, call)
        return {"effective": {"port_id": port.id, "groups": [_group(decider, show) for decider in found]}}

    return work


def _group(decider: Decider, show: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    row = decider.row
    group = {name: None if row is None else getattr(row, name) for name in _SHOWN}
    if row is None:
        group |= _HIDDEN
    rules = {
        f"{direction}_rules": [_HIDDEN if view is None else show(view) for view in decider.rules[direction]]
        for direction in Direction
    }
    return {"stratum": decider.stratum, **group, **rules}
