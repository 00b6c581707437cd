"""Networks made of namespaces, for the demo, the packet tests and the benchmarks."""

from portward.lab.connection import Connection, Push
from portward.lab.counters import Counters, Place
from portward.lab.errors import LabError, LabExists, NeedsRoot, NoSuchLab, NotConnected
from portward.lab.host import Host
from portward.lab.lab import Lab
from portward.lab.packets import Datagram
from portward.lab.plan import plan
from portward.lab.probe import Outcome, Probe, ProbeRequest, Protocol, probe_all
from portward.lab.sender import Flow
from portward.lab.state import LabHost, LabPort, LabState
from portward.lab.stream import Count, Stream

__all__ = [
    "Connection",
    "Count",
    "Counters",
    "Datagram",
    "Flow",
    "Host",
    "Lab",
    "LabError",
    "LabExists",
    "LabHost",
    "LabPort",
    "LabState",
    "NeedsRoot",
    "NoSuchLab",
    "NotConnected",
    "Outcome",
    "Place",
    "Probe",
    "ProbeRequest",
    "Protocol",
    "Push",
    "Stream",
    "plan",
    "probe_all",
]
