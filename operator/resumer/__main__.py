"""The one entry point: ``resumer`` and ``python -m resumer``.

It ties the command line to the operator, so that neither has to know the other.
"""

from __future__ import annotations

import sys

from resumer.cli import app
from resumer.settings import Settings


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(app.main(sys.argv[1:], operate))


def operate(settings: Settings) -> int:
    """Starts the operator; imported only here, as ``--help`` should not take a second."""
    from resumer.handlers import operation  # noqa: PLC0415 - see above

    return operation.run(settings)


if __name__ == "__main__":
    main()
