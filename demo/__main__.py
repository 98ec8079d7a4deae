"""`python -m demo`: a control plane, the operator, one play, and everything stopped again.

The exit code is 0 if all came out as it must, 1 if not (the end of the operator's log says more),
130 after Ctrl-C. `--keep` leaves everything up after the play, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence

import urllib3

from demo import account, operation, play
from tests.controlplane import build, client, launcher, supervised, toolchain

_CHECK_INTERVAL = 0.5
_PROBLEMS = (
    AssertionError,
    client.ApiError,
    operation.OperatorFailed,
    supervised.SupervisorGone,
    urllib3.exceptions.HTTPError,
)
"""What the operator's log may explain; anything else is a defect of the demo, with a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        the exit code
    """
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Show what Resumer does, on a cluster on this machine."
    )
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    keep = parser.parse_args(arguments).keep
    # SIGTERM and a closed terminal end it in order, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    teller = account.Account()
    try:
        build.ensure()
        return _show(teller, keep=keep)
    except (build.BuildFailed, launcher.StartFailed, toolchain.ToolMissing) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _show(teller: account.Account, *, keep: bool) -> int:
    began = time.monotonic()
    teller.title("Starting a control plane: etcd, kube-apiserver, Argo's workflow-controller …")
    with (
        launcher.start(crds="minimal") as plane,
        contextlib.closing(client.Cluster(plane.kubeconfig)) as cluster,
        operation.Operator(plane.kubeconfig, play.NAMESPACE) as operator,
    ):
        teller.note(f"ready after {time.monotonic() - began:.1f} s")
        try:
            play.Play(cluster, operator, teller).perform()
            if keep:
                _keep(teller, plane, operator)
            operator.stop()
        except _PROBLEMS as problem:
            teller.failed(problem, operator.log_tail())
            return 1
    teller.line()
    teller.state("control plane and operator", "stopped")
    return 0


def _keep(
    teller: account.Account, plane: launcher.ControlPlane, operator: operation.Operator
) -> None:
    """Leaves everything up until Ctrl-C.

    Raises:
        OperatorFailed: a part of the control plane ended by itself
    """
    kubectl = f"{toolchain.kubectl()} -n {play.NAMESPACE}"
    teller.line()
    teller.title("Everything is still running. Look around in another terminal:")
    for command in (
        f"export KUBECONFIG={plane.kubeconfig}",
        f"{kubectl} get workflowresumes -o wide",
        f"{kubectl} describe wres resume-after-pr-approved-by-mallory",
        f"{kubectl} get events",
        f"{kubectl} get workflow {play.WORKFLOW} -o yaml",
        f"tail -f {operator.log}",
    ):
        teller.plain(command)
    teller.line()
    teller.title("Ctrl-C stops everything and removes it.")
    # Interrupted or not, what is next is to stop in order.
    with contextlib.suppress(KeyboardInterrupt):
        while not (ended := plane.ended()):
            time.sleep(_CHECK_INTERVAL)
        raise operation.OperatorFailed(f"{', '.join(ended)} ended though nobody stopped it")


if __name__ == "__main__":
    sys.exit(main())
