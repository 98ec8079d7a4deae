"""Counting and measuring: the one implementation of `resumer.ports.Telemetry`, for Prometheus.

Each metric is made from its row in `resumer.telemetry.catalog`. Labels hold names from closed sets
only. A stage is named by whoever writes a policy, which is bounded by nothing; here the first so
many are kept and all others are `OTHER`, so that no user can fill the memory of Prometheus.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import prometheus_client as prometheus
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import resumer
from resumer.api import breaker
from resumer.telemetry import catalog

OTHER = "other"
"""The label value for whatever is not counted under a name of its own."""

STAGE_LIMIT = 100
"""Stages counted by name. The seeds have four; a large platform has a few dozen."""

WORD_LIMIT = 200
"""Outcomes, reasons, results or classes of errors counted by name; the code has less than half as
many.
"""

BREAKER_LIMIT = 500
"""Pairs of namespace and stage whose breaker is shown; only those that ever failed count."""

BREAKER_STATES = tuple(breaker.BreakerState)
"""The values of the label ``state`` of ``resumer_breaker_state``."""


class Metrics:
    """Counts and measures for one process; implements `resumer.ports.Telemetry`.

    Args:
        watch_ages: Asked at each scrape: for each watched resource, the seconds since it was last
            heard of.
        exemplar: Asked at each resume: the ids of the trace that shows it, or None for none.
    """

    def __init__(
        self,
        watch_ages: Callable[[], Mapping[str, float]] = dict,
        exemplar: Callable[[], dict[str, str] | None] = lambda: None,
    ) -> None:
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus.CollectorRegistry()
        self._requests = self._counter("resumer_requests_total")
        self._attempts = self._counter("resumer_attempts_total")
        self._latency = self._histogram("resumer_resume_latency_seconds")
        self._gate_wait = self._histogram("resumer_gate_wait_seconds")
        self._reaction = self._histogram("resumer_reaction_seconds")
        self._breakers = self._gauge("resumer_breaker_state")
        self._transitions = self._counter("resumer_breaker_transitions_total")
        self._queue = self._gauge("resumer_queue_depth")
        self._passes = self._histogram("resumer_reconcile_seconds")
        self._errors = self._counter("resumer_reconcile_errors_total")
        self._calls = self._counter("resumer_api_calls_total")
        self._call_times = self._histogram("resumer_api_call_seconds")
        self._held = self._histogram("resumer_api_wait_seconds")
        self._turned_away = self._counter("resumer_api_turned_away_total")
        self._dropped = self._counter("resumer_events_dropped_total")
        self._leader = self._gauge("resumer_leader")
        build = self._gauge("resumer_build_info")
        build.labels(version=resumer.__version__, python=platform.python_version()).set(1)
        self._at_scrape("resumer_watch_age_seconds", lambda: _alone(watch_ages()))
        prometheus.ProcessCollector(registry=self.registry)
        prometheus.PlatformCollector(registry=self.registry)
        prometheus.GCCollector(registry=self.registry)
        self._stage = _Bounded(STAGE_LIMIT)
        self._word = _Bounded(WORD_LIMIT)
        self._shown: set[tuple[str, str]] = set()
        self._exemplar = exemplar

    def decided(self, stage: str, outcome: str, reason: str) -> None:
        """A WorkflowResume got a new outcome or a new reason."""
        self._requests.labels(
            stage=self._stage(stage), outcome=self._word(outcome), reason=self._word(reason)
        ).inc()

    def attempted(self, stage: str, result: str) -> None:
        """One attempt to write to a Workflow ended."""
        self._attempts.labels(stage=self._stage(stage), result=self._word(result)).inc()

    def resumed(self, stage: str, since_created: float, since_open: float) -> None:
        """A request resumed, so many seconds after it was made and after its gate was ready.

        Clocks of several machines are compared here: what would be negative counts as 0.
        """
        name, shown = self._stage(stage), self._exemplar()
        waited = since_created - since_open
        self._latency.labels(stage=name).observe(max(0.0, since_created), shown)
        self._gate_wait.labels(stage=name).observe(max(0.0, waited), shown)
        self._reaction.labels(stage=name).observe(max(0.0, min(since_created, since_open)), shown)

    def breaker_changed(self, namespace: str, stage: str, before: str, after: str) -> None:
        """This process brought a circuit breaker from one state to another."""
        if before != after:
            self._transitions.labels(*self._breaker(namespace, stage), self._word(after)).inc()

    def breaker_in_force(self, namespace: str, stage: str, state: str | None) -> None:
        """A circuit breaker is in this state, whoever brought it there; None: it was deleted.

        With it go its series, as its namespace may be gone, too.
        """
        pair = self._breaker(namespace, stage)
        if pair not in self._shown:
            return
        for one in BREAKER_STATES:
            if state is None:
                self._breakers.remove(*pair, one)
                self._transitions.remove(*pair, one)
            else:
                self._breakers.labels(*pair, one).set(state == one)
        if state is None:
            self._shown.discard(pair)

    def queue_changed(self, ready: int, delayed: int, running: int) -> None:
        """The reconcile queue's depth."""
        self._queue.labels(state="ready").set(ready)
        self._queue.labels(state="delayed").set(delayed)
        self._queue.labels(state="running").set(running)

    def reconciled(self, seconds: float, error: str) -> None:
        """One pass took so long; ``error`` is the class of what it raised, or ``""``."""
        self._passes.observe(seconds)
        if error:
            self._errors.labels(error=self._word(error)).inc()

    def called(self, verb: str, code: str, seconds: float) -> None:
        """A call to the API server was answered, or got no answer, after so many seconds."""
        self._calls.labels(verb=verb, code=self._word(code)).inc()
        self._call_times.labels(verb=verb).observe(seconds)

    def call_held(self, rank: str, seconds: float) -> None:
        """A call to the API server had to wait for its turn."""
        self._held.labels(rank=rank).observe(seconds)

    def call_turned_away(self) -> None:
        """The API server answered 429."""
        self._turned_away.inc()

    def event_dropped(self) -> None:
        """A Kubernetes Event was not written."""
        self._dropped.inc()

    def leading(self, leads: bool) -> None:
        """This process began to work, or stands by."""
        self._leader.set(leads)

    def show_known(self, sizes: Callable[[], Mapping[str, int]]) -> None:
        """Shows from now on how many objects are known, by kind; asked at each scrape."""
        self._at_scrape("resumer_known_objects", lambda: _alone(sizes()))

    def show_unfinished(self, counts: Callable[[], Mapping[tuple[str, str, str], int]]) -> None:
        """Shows from now on how many requests have not finished; asked at each scrape.

        Args:
            counts: By stage, outcome and age, as the catalog lists them. The stages are those of
                policies, or ``other``.
        """

        def bounded() -> Mapping[tuple[str, ...], float]:
            found: Counter[tuple[str, ...]] = Counter()
            for (stage, outcome, age), count in counts().items():
                found[self._stage(stage), outcome, age] += count
            return found

        self._at_scrape("resumer_unfinished_requests", bounded)

    def _breaker(self, namespace: str, stage: str) -> tuple[str, str]:
        """The labels of a breaker; beyond `BREAKER_LIMIT` all have the same."""
        pair = (namespace, stage)
        if pair not in self._shown:
            if len(self._shown) >= BREAKER_LIMIT:
                return (OTHER, OTHER)
            self._shown.add(pair)
        return pair

    def _at_scrape(self, name: str, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        self.registry.register(_AtScrape(name, read))

    def _counter(self, name: str) -> prometheus.Counter:
        row = catalog.row(name)
        return prometheus.Counter(row.name, row.help, row.labels, registry=self.registry)

    def _gauge(self, name: str) -> prometheus.Gauge:
        row = catalog.row(name)
        return prometheus.Gauge(row.name, row.help, row.labels, registry=self.registry)

    def _histogram(self, name: str) -> prometheus.Histogram:
        row = catalog.row(name)
        return prometheus.Histogram(
            row.name, row.help, row.labels, buckets=row.buckets, registry=self.registry
        )


def _alone(values: Mapping[str, float]) -> Mapping[tuple[str, ...], float]:
    """Values by their only label."""
    return {(label,): value for label, value in values.items()}


class _Bounded:
    """Lets the first so many label values through; all others, and what is no name, are `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if not value or len(value) > 63 or len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value


class _AtScrape(Collector):
    """A gauge that is read when somebody looks, as it changes without anything that happens.

    Args:
        name: Of its row in the catalog.
        read: Its values by their labels.
    """

    def __init__(self, name: str, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        self._name = name
        self._read = read

    def collect(self) -> Iterable[Metric]:
        row = catalog.row(self._name)
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for labels, value in self._read().items():
            family.add_metric(labels, value)
        yield family
