"""The command: `python -m tests.bench`."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib.metadata
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from tests.bench import (
    api,
    contenders,
    driver,
    events,
    failover,
    growth,
    leak,
    machine,
    mass,
    measuring,
    report,
    scale,
    soak,
)
from tests.controlplane import build, components, launcher, toolchain

_ERRORS = (
    api.CallFailed,
    build.BuildFailed,
    contenders.ContenderFailed,
    driver.PassFailed,
    failover.FailoverFailed,
    soak.SoakFailed,
    mass.NotTaken,
    launcher.StartFailed,
    toolchain.ToolMissing,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says, print what was found, and write it to a file.

    Returns:
        the exit code: 0 when everything was measured, whatever the figures are, and no promise was
        found broken; 130 when the user has stopped it
    """
    options = _parser().parse_args(arguments)
    about = machine.describe()
    print(about, flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="resumer-bench-") as scratch:
            found, kept = _section(options)(options, pathlib.Path(scratch))
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    options.json.write_text(f"{json.dumps({'machine': about, **found}, indent=2)}\n")
    print(f"written to {options.json}")
    return 0 if kept else 1


_Section = Callable[[argparse.Namespace, pathlib.Path], tuple[dict[str, object], bool]]
"""Prints its tables; returns its part of the JSON, and whether every promise was kept."""


def _section(options: argparse.Namespace) -> _Section:
    if options.all:
        return _everything
    if options.faults:
        return _soak
    if options.failover:
        return _failover
    if options.scale:
        return _scale
    return _leak if options.leak else _compare


_LEGEND = """\
resumes/s up to the last status written; p50 to p99: from the creation of the request (argo: the
call) to the gate seen open, under load and idle; of floor, to floor: medians of the rounds' own;
by CPU: the floor's processor time, all processes together, as part of the contender's, which
the load of the machine disturbs less than the rate;
writes, reads: calls per resume at the API server, without the creation of the request and Events;
events: per resume when idle (best effort, rate limited, off the path);
CPU: of the contender's own process, per resume; server CPU: API server and etcd.
Argo's controller was not running.
"""

_EVENTS_LEGEND = """\
argo-events: GitHub's webhook through EventSource, bus and the shipped Sensor to the operator;
argo-events-resume: the same to Argo Events' own `operation: resume` (argo: {program}).
Times are from the posting of the webhook; CPU is the operator's, or the Sensor's.
"""


def _compare(options: argparse.Namespace, folder: pathlib.Path) -> tuple[dict[str, object], bool]:
    """The contenders, in turns."""
    plan = measuring.QUICK if options.quick else measuring.FULL
    if options.events:
        plan = dataclasses.replace(plan, contenders=events.CONTENDERS, nodes=(2,))
    chosen = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(plan)
        if getattr(options, field.name, None) is not None
    }
    plan = dataclasses.replace(plan, **chosen)
    versions = {
        "argo-workflows": components.ARGO_VERSION,
        **{
            name: importlib.metadata.version(name)
            for name in ("resumer", "kopf", "aiohttp", "pydantic")
        },
    }
    print(versions, flush=True)
    with launcher.start(argo=False) as plane:
        results = asyncio.run(measuring.run(plane, plan, folder, against=options.against, say=_say))
    print(report.table(results), "", _LEGEND, sep="\n")
    if options.events:
        print(_EVENTS_LEGEND.format(program=events.program()))
    print(*report.verdicts(results), report.disturbance(results), sep="\n")
    of_size = {
        str(nodes): {name: dataclasses.asdict(one) for name, one in each.items()}
        for nodes, each in results.items()
    }
    return {
        "versions": versions,
        "plan": dataclasses.asdict(plan),
        "argo-controller": "not running",
        "results": of_size,
    }, True


def _soak(options: argparse.Namespace, folder: pathlib.Path) -> tuple[dict[str, object], bool]:
    """The fault counts."""
    plan = soak.QUICK if options.quick else soak.FULL
    if options.resumes:
        plan = dataclasses.replace(plan, resumes=options.resumes)
    with launcher.start(crds="minimal") as plane:
        count = soak.run(plane, plan, folder, say=_say)
    print(soak.table(count))
    return {"plan": dataclasses.asdict(plan), "faults": dataclasses.asdict(count)}, count.clean


def _scale(options: argparse.Namespace, folder: pathlib.Path) -> tuple[dict[str, object], bool]:
    """What it takes when many wait."""
    with scale.plane() as plane:
        found = asyncio.run(
            scale.run(plane, options.scale, folder, resumes=options.resumes or 50, say=_say)
        )
    print(growth.table(found), growth.LEGEND, *growth.verdicts(found), sep="\n")
    return {"found": [dataclasses.asdict(one) for one in found]}, True


def _leak(options: argparse.Namespace, folder: pathlib.Path) -> tuple[dict[str, object], bool]:
    """Whether anything stays behind of what has finished."""
    with launcher.start(crds="minimal", argo=False) as plane:
        found = asyncio.run(leak.run(plane, options.leak, folder, say=_say))
    print(leak.table(found), leak.verdict(found), sep="\n")
    return {"found": [dataclasses.asdict(one) for one in found]}, True


def _failover(options: argparse.Namespace, folder: pathlib.Path) -> tuple[dict[str, object], bool]:
    """How long nobody works when a leader ends."""
    with launcher.start(crds="minimal", argo=False) as plane:
        found = failover.run(plane, options.failover, folder, say=_say)
    print(failover.table(found))
    return {"found": [dataclasses.asdict(one) for one in found]}, True


def _everything(
    options: argparse.Namespace, folder: pathlib.Path
) -> tuple[dict[str, object], bool]:
    """One section after the other, each with a control plane of its own."""
    options.scale = options.scale or ([100] if options.quick else [1000, 3000, 10000])
    options.leak = options.leak or (200 if options.quick else 5000)
    options.failover = options.failover or (1 if options.quick else 5)
    found: dict[str, object] = {}
    kept = True
    for name, section in _SECTIONS.items():
        print(f"\n{name}", flush=True)
        (own := folder / name).mkdir()
        found[name], well = section(options, own)
        kept = kept and well
    return found, kept


_SECTIONS: Mapping[str, _Section] = {
    "comparison": _compare,
    "faults": _soak,
    "scale": _scale,
    "leak": _leak,
    "failover": _failover,
}
"""What `--all` measures, in this order."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures the operator, the floor and Argo's own resume on this machine.",
    )
    parser.add_argument("--quick", action="store_true", help="only see that it works: few resumes")
    parser.add_argument(
        "--all",
        action="store_true",
        help="the comparison, then --faults, --scale, --leak and --failover; takes long",
    )
    parser.add_argument(
        "--faults",
        action="store_true",
        help="count instead what is lost or doubled while everything around the operator breaks",
    )
    parser.add_argument(
        "--events",
        action="store_true",
        help="measure the way from a webhook through Argo Events instead, next to its own resume",
    )
    parser.add_argument(
        "--scale",
        type=int,
        nargs="+",
        metavar="COUNT",
        help="measure what it takes when so many workflows and requests wait, for each of these",
    )
    parser.add_argument(
        "--leak",
        type=int,
        metavar="RESUMES",
        help="let one operator resume so many workflows, and see whether its memory grows",
    )
    parser.add_argument(
        "--failover",
        type=int,
        metavar="ROUNDS",
        help="end the leader of two replicas so many times by SIGKILL, and as many by SIGTERM",
    )
    parser.add_argument("--nodes", type=int, nargs="+", help="sizes of workflows, 2 or more")
    parser.add_argument("--rounds", type=int, help="how often each contender has its turn")
    parser.add_argument("--resumes", type=int, help="in a pass under load")
    parser.add_argument("--idle", type=int, help="resumes in an idle pass")
    parser.add_argument("--concurrency", type=int, help="resumes at a time under load")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=(*measuring.CONTENDERS, *events.CONTENDERS),
        help="default: all but those of --events",
    )
    parser.add_argument(
        "--against",
        type=pathlib.Path,
        metavar="CHECKOUT",
        help="also measure the operator of another checkout of the project",
    )
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        default=pathlib.Path("bench.json"),
        help="file to write all figures to (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
