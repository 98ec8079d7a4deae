"""How long nobody works when the leader of two replicas ends: by SIGKILL, and by SIGTERM.

The request is created right after the signal, for a workflow that stands at its gate. So the time
to the opened gate is what a user waits at worst.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.bench import report
from tests.controlplane import client, launcher
from tests.e2e.support import home as homes
from tests.e2e.support import process, written

SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM)
_TIMEOUT = 60.0
_POLL = 0.02


class FailoverFailed(RuntimeError):
    """Nobody led, or a gate was not opened, in time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """What one end of a leader cost, in seconds from the signal on.

    Arguments:
        signal: that ended it
        leads: until the other one leads
        opened: until the gate is open
    """

    signal: str
    leads: float
    opened: float


def run(
    plane: launcher.ControlPlane, rounds: int, folder: pathlib.Path, *, say: Callable[[str], None]
) -> list[Round]:
    """Measure.

    Arguments:
        plane: a control plane without Argo's controller, that takes Workflows of any shape
        rounds: how often the leader ends in each way
        folder: for logs
        say: told how far it is

    Raises:
        FailoverFailed: nobody led, or a gate was not opened, in time
    """
    try:
        return _run(plane, rounds, folder, say)
    except AssertionError as error:
        raise FailoverFailed(str(error)) from error


def _run(
    plane: launcher.ControlPlane, rounds: int, folder: pathlib.Path, say: Callable[[str], None]
) -> list[Round]:
    found: list[Round] = []
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(contextlib.closing(client.Cluster(plane.kubeconfig)))
        home = stack.enter_context(homes.new(cluster))

        def started(number: int) -> process.Operator:
            operator = process.start(
                plane.kubeconfig,
                folder / f"replica-{number}.log",
                [home.namespace],
                options=("--leader-elect", "--leader-elect-namespace", home.namespace),
            )
            stack.callback(operator.kill)
            return operator

        leader = started(0)
        leader.wait_logged("leading", process.START_TIMEOUT)
        for number in range(rounds * len(SIGNALS)):
            other = started(number + 1)
            other.wait_logged("standing by", process.START_TIMEOUT)
            found.append(_round(home, leader, other, SIGNALS[number % len(SIGNALS)], number))
            say(f"{found[-1]}")
            leader.kill()
            leader = other
    return found


def _round(
    home: homes.Home,
    leader: process.Operator,
    other: process.Operator,
    number: signal.Signals,
    index: int,
) -> Round:
    name = f"failover-{index}"
    home.cluster.create(written.standing(name), home.namespace)
    leader.signal(number)
    began = time.monotonic()
    home.ask(written.asks(name))
    leads = opened = 0.0
    while not (leads and opened):
        now = time.monotonic() - began
        assert now < _TIMEOUT, f"after {now:.0f} s: {other.tail()}"
        if not leads and any(line["event"] == "leading" for line in other.log()):
            leads = now
        if not opened and not homes.open_gates(home.workflow(name)):
            opened = now
        time.sleep(_POLL)
    return Round(number.name, leads, opened)


def table(found: Sequence[Round]) -> str:
    """A row for each way to end."""
    rows: list[Sequence[str]] = [
        ("signal", "rounds", "leads p50", "leads max", "opened p50", "opened max")
    ]
    for name in dict.fromkeys(one.signal for one in found):
        some = [one for one in found if one.signal == name]
        leads, opened = [one.leads for one in some], [one.opened for one in some]
        times = (statistics.median(leads), max(leads), statistics.median(opened), max(opened))
        rows.append((name, str(len(some)), *(f"{seconds:.2f} s" for seconds in times)))
    return report.aligned(rows)
