"""The list of all metrics: their names, types, labels and meaning.

`resumer.telemetry.metrics` makes each metric from its row here, and a page that lists them reads
the same rows, so that neither can say something else. It needs nothing but the standard library.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
# From one quick write to a gate that opens an hour after the event that asked for it.
_PASSES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
# From a pass that changes nothing to one that waits for several requests that time out.


class Kind(enum.StrEnum):
    """The Prometheus type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric, as the documentation lists it and as it is made."""

    name: str
    """The full name, as it is queried."""

    kind: Kind
    """Its type; a histogram is queried by its name with ``_bucket``, ``_sum`` and ``_count``."""

    labels: tuple[str, ...]
    """The names of its labels."""

    help: str
    """What it counts or measures, in one sentence."""

    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram, in seconds."""


METRICS = (
    Row(
        "resumer_requests_total",
        Kind.COUNTER,
        ("stage", "outcome", "reason"),
        "WorkflowResumes that got a new outcome or a new reason; one may pass through several.",
    ),
    Row(
        "resumer_attempts_total",
        Kind.COUNTER,
        ("stage", "result"),
        "Attempts to write to a Workflow, by what they ended in.",
    ),
    Row(
        "resumer_resume_latency_seconds",
        Kind.HISTOGRAM,
        ("stage",),
        "From the creation of a WorkflowResume to the resume, the wait for its gate included.",
        _LATENCIES,
    ),
    Row(
        "resumer_gate_wait_seconds",
        Kind.HISTOGRAM,
        ("stage",),
        "How long a WorkflowResume that resumed waited for its gate; 0 if the gate was open first.",
        _LATENCIES,
    ),
    Row(
        "resumer_reaction_seconds",
        Kind.HISTOGRAM,
        ("stage",),
        "From when both the WorkflowResume and the open gate were there to the resume: what the "
        "operator took. Kubernetes and Argo write whole seconds, so it may be up to 1 s too long.",
        _LATENCIES,
    ),
    Row(
        "resumer_breaker_state",
        Kind.GAUGE,
        ("workflow_namespace", "stage", "state"),
        "1 for the state a circuit breaker is in, 0 for the others, whoever brought it there; one "
        "that has no WorkflowResumeBreaker, because it never failed or was reset, is not shown.",
    ),
    Row(
        "resumer_breaker_transitions_total",
        Kind.COUNTER,
        ("workflow_namespace", "stage", "to"),
        "Changes of state of the circuit breakers that this process made, by the state they went "
        "to.",
    ),
    Row(
        "resumer_queue_depth",
        Kind.GAUGE,
        ("state",),
        "WorkflowResumes in the reconcile queue: ready and waiting for a worker, delayed until "
        "their time comes, or running.",
    ),
    Row(
        "resumer_reconcile_seconds",
        Kind.HISTOGRAM,
        (),
        "How long one pass over one WorkflowResume took, its requests to the API server included.",
        _PASSES,
    ),
    Row(
        "resumer_reconcile_errors_total",
        Kind.COUNTER,
        ("error",),
        "Passes over a WorkflowResume that ended in an error, by its class.",
    ),
    Row(
        "resumer_leader",
        Kind.GAUGE,
        (),
        "1 while this process works, 0 while it stands by for another one that leads.",
    ),
    Row(
        "resumer_api_calls_total",
        Kind.COUNTER,
        ("verb", "code"),
        "Calls to the API server by HTTP method or `watch`, and by the status of the answer, "
        "`none` where there was no answer. Not counted are calls that still wait for their turn.",
    ),
    Row(
        "resumer_api_call_seconds",
        Kind.HISTOGRAM,
        ("verb",),
        "How long calls to the API server took until the head of the answer was there; of a watch, "
        "until it was open.",
        _PASSES,
    ),
    Row(
        "resumer_api_wait_seconds",
        Kind.HISTOGRAM,
        ("rank",),
        "How long calls to the API server were held back by the limits on calls or by a pause "
        "that the API server asked for: writes, reads, or Events. Calls that went at once are "
        "not counted.",
        _PASSES,
    ),
    Row(
        "resumer_api_turned_away_total",
        Kind.COUNTER,
        (),
        "Answers 429 of the API server: it had too much to do, as its priority and fairness sees "
        "it. Such a call is made again after a pause of all.",
    ),
    Row(
        "resumer_known_objects",
        Kind.GAUGE,
        ("kind",),
        "What is kept in memory: workflows that have not finished, the `unread` ones among them, "
        "known by their metadata only as yet, requests that have not finished, and finished "
        "requests that the watch may still show as unfinished, for some milliseconds.",
    ),
    Row(
        "resumer_unfinished_requests",
        Kind.GAUGE,
        ("stage", "outcome", "age"),
        "WorkflowResumes that have not finished, by what they last came to (`Pending`: not looked "
        "at yet) and by how long ago they were created: `0-1m`, `1m-5m`, `5m-15m`, `15m-1h`, "
        "`1h-6h`, `6h-1d` or `over-1d`; what there is none of is not shown.",
    ),
    Row(
        "resumer_watch_age_seconds",
        Kind.GAUGE,
        ("resource",),
        "Since when nothing has been heard on the watches of a resource; the most silent counts.",
    ),
    Row(
        "resumer_events_dropped_total",
        Kind.COUNTER,
        (),
        "Kubernetes Events that were not written, because too many came at once or the API "
        "server refused them.",
    ),
    Row(
        "resumer_build_info",
        Kind.GAUGE,
        ("version", "python"),
        "Always 1; the labels say what is running.",
    ),
)
"""All metrics of our own. The process, the garbage collector and the Python version add their usual
ones.
"""


def row(name: str) -> Row:
    """The row of a metric that is in the list, by its full name."""
    return next(row for row in METRICS if row.name == name)
