"""The local control plane for a person: `python -m tests.controlplane up`, Ctrl-C to stop it."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from typing import get_args

from tests.controlplane import build, components, launcher, toolchain

_CHECK_INTERVAL = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        the exit code
    """
    options = _parser().parse_args(arguments)
    # SIGTERM and a closed terminal end it in order, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        match options.command:
            case "build":
                wanted = components.HELM if options.helm else components.CONTROL_PLANE
                built = build.ensure((*wanted, *(components.OTHERS if options.all else ())))
                for one in built.values():
                    print(one.binary)
                return 0
            case "up":
                return _up(options)
            case other:
                raise AssertionError(f"argparse let the command {other!r} through")
    except (build.BuildFailed, launcher.StartFailed, toolchain.ToolMissing) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.controlplane",
        description="A Kubernetes control plane with Argo Workflows on this machine, "
        "without Docker and without nodes.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start one and keep it until Ctrl-C")
    up.add_argument(
        "--crds",
        choices=get_args(launcher.Crds),
        default="full",
        help="Argo's CRDs with full schemas or minimal ones (default: %(default)s)",
    )
    up.add_argument(
        "--requeue",
        default="100ms",
        metavar="DURATION",
        help="how long Argo lets a changed Workflow wait for more changes; Argo's own default "
        "is 10s (default: %(default)s)",
    )
    up.add_argument("--audit", action="store_true", help="keep an audit log of all requests")
    builder = commands.add_parser(
        "build", help="build what is missing, and print where the binaries are"
    )
    builder.add_argument(
        "--all",
        action="store_true",
        help="what tests need as well: Argo Events, its bus, Helm, Prometheus",
    )
    builder.add_argument("--helm", action="store_true", help="Helm and helm-docs alone")
    return parser


def _up(options: argparse.Namespace) -> int:
    build.ensure()
    began = time.monotonic()
    with launcher.start(crds=options.crds, requeue=options.requeue, audit=options.audit) as plane:
        print(f"ready after {time.monotonic() - began:.1f} s\n")
        print(_how_to_use(plane), flush=True)
        try:
            while not (ended := plane.ended()):
                time.sleep(_CHECK_INTERVAL)
        except KeyboardInterrupt:
            print("\nstopping …", flush=True)
            return 0
        for name, code in ended.items():
            print(
                f"error: {name} ended with exit code {code}; the end of its log:\n"
                f"{plane.log_tail(name)}",
                file=sys.stderr,
            )
        return 1


def _how_to_use(plane: launcher.ControlPlane) -> str:
    kubectl = toolchain.kubectl()
    lines = [
        f"export KUBECONFIG={plane.kubeconfig}",
        f"{kubectl} api-resources --api-group=argoproj.io",
        f"{kubectl} create -f WORKFLOW.yaml && {kubectl} get workflows --watch",
        f"tail -f {plane.workdir}/{components.ARGO.name}.log",
    ]
    if plane.audit_log is not None:
        lines.append(f"tail -f {plane.audit_log}")
    return "\n".join([*(f"  {line}" for line in lines), "", "Ctrl-C stops it and removes all."])


if __name__ == "__main__":
    sys.exit(main())
