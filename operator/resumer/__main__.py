"""The one entry point: ``resumer`` and ``python -m resumer``.

It ties the command line to the operator, so that neither has to know the other.
"""

from __future__ import annotations

import os
import pathlib
import sys

from resumer.cli import app
from resumer.settings import Settings


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    ensure_home()
    sys.exit(app.main(sys.argv[1:], operate))


def ensure_home() -> None:
    """Names a home directory where there is none: for a user without a name, as a pod may have.

    The Kubernetes client asks for one while it is imported, and fails otherwise.
    """
    try:
        pathlib.Path.home()
    except RuntimeError:
        # What container runtimes set.
        os.environ["HOME"] = "/"


def operate(settings: Settings) -> int:
    """Starts the operator; imported only here, as ``--help`` should not take a second."""
    from resumer.handlers import operation  # noqa: PLC0415 - see above

    return operation.run(settings)


if __name__ == "__main__":
    main()
