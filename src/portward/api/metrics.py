"""What a process of the API counts and measures, in Prometheus' words, in a registry of its own.

Labels are bounded whatever strangers ask: a request counts under its route's template, never under its path; what
leads to no route counts together. What it refuses: names, ids and addresses; nothing here says who did what.
"""

import time
from collections.abc import Iterable

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portward import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says. The three kinds of hosts are disjoint."""

    generation: int
    polling: int  # hosts whose agents ask
    silent: int  # hosts whose agents have not asked for 75 s, or never
    revoked: int


class Metrics:
    """The counters of one process, and how they are shown."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        labels = ("listener", "method", "route")
        self._requests = Counter(
            "portward_http_requests",
            "Requests answered, by route template; status none: the client left before the answer.",
            (*labels, "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "portward_http_request_seconds",
            "From a request to the end of its answer; polls of agents wait for news in it.",
            labels,
            buckets=_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def measured(self, app: ASGIApp, listener: str) -> ASGIApp:
        """``app``, whose requests count for ``listener``. It leaves its route in ``scope["route"]``."""

        async def measure(scope: Scope, receive: Receive, send: Send) -> None:
            began, status = time.perf_counter(), "none"

            async def note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            try:
                await app(scope, receive, note)
            finally:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = getattr(scope.get("route"), "path", "none")
                self._requests.labels(listener, method, route, status).inc()
                self._seconds.labels(listener, method, route).observe(time.perf_counter() - began)

        return measure

    def show(self, reading: Reading | None, *, waiting: int, repeated: int) -> bytes:
        """All of it as text. ``reading`` is ``None`` while the database cannot be read.

        ``waiting``: polls that wait for news; ``repeated``: transactions tried again since the process began.
        """
        state = _State(reading, waiting, repeated)
        return generate_latest(self._registry) + generate_latest(_only(state))


class _State(Collector):
    """What is so at the time of asking."""

    def __init__(self, reading: Reading | None, waiting: int, repeated: int) -> None:
        self._reading = reading
        self._waiting = waiting
        self._repeated = repeated

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("portward_build_info", "Which Portward this is; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily("portward_polls_waiting", "Agents that wait for news here.", self._waiting)
        yield CounterMetricFamily(
            "portward_transactions_repeated", "Transactions tried again: another was in the way.", self._repeated
        )
        up = self._reading is not None
        yield GaugeMetricFamily("portward_database_up", "Whether the database could be read just now.", int(up))
        if self._reading is not None:
            yield GaugeMetricFamily("portward_generation", "The database's generation.", self._reading.generation)
            hosts = GaugeMetricFamily("portward_hosts", "Hosts, by what their agents do.", labels=["state"])
            for state in ("polling", "silent", "revoked"):
                hosts.add_metric([state], getattr(self._reading, state))
            yield hosts


def _only(state: _State) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(state)
    return registry
