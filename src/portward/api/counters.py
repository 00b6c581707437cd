"""How often rules decided, for those who own them.

A policy or a rule that is shared decides about other projects' traffic too, and a host counts it all in one number.
So what is counted is for the project that owns the policy, and of a rule for the project that owns the rule; to see
something does not suffice.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from portward.api.attributes import iso
from portward.api.call import Call
from portward.api.resources import POLICIES
from portward.service import counters
from portward.service.counters import RuleCounts

_RULE = "get_firewall_policy_counters"


def policy_counters(call: Call) -> Callable[[Session], Any]:
    """What each rule of a policy counted."""

    def work(session: Session) -> dict[str, Any]:
        policy = call.find(session, POLICIES, [_RULE])
        return {"counters": [_shown(call, counts) for counts in counters.policy_counters(session, policy.id)]}

    return work


def _shown(call: Call, counts: RuleCounts) -> dict[str, Any]:
    rule = {"rule_id": counts.rule_id, "rule_name": counts.rule_name, "action": counts.action}
    if not call.authority.allows(_RULE, counts.project_id):
        return rule | {"packets": None, "bytes": None, "last": None, "since": None}
    return rule | {
        "packets": counts.packets,
        "bytes": counts.bytes,
        "last": None if counts.last is None else iso(counts.last),
        "since": None if counts.since is None else iso(counts.since),
    }
