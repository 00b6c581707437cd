"""The golden model: how a packet is decided, as plain code with no optimisation in it.

``decide`` is the verdict of one port for one packet, ``Network`` that of live traffic over changes. Whatever
else decides packets (dataplanes, compilers, explain) is judged by these two; docs/design/semantics.md is the
text that they follow, and its numbers are cited here as "semantics 3".
"""

from portward.semantics.base_traffic import decide_arp, decide_base_traffic
from portward.semantics.decide import decide, first_mismatch
from portward.semantics.decision import Answer, Decision, Field, PassedOver, Reason, Verdict
from portward.semantics.network import Crossing, Network, Outcome

__all__ = [
    "Answer",
    "Crossing",
    "Decision",
    "Field",
    "Network",
    "Outcome",
    "PassedOver",
    "Reason",
    "Verdict",
    "decide",
    "decide_arp",
    "decide_base_traffic",
    "first_mismatch",
]
