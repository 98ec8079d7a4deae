"""The command line as a whole: its commands, its help, and how it says that it was used wrongly.

A wrong use is one line on standard error and exit code 2: in a cluster the line ends up in a pod's
log, where a framed message of several lines is hard to find. Each command is a module with a
function to register here; what a command needs beyond the standard library and typer it imports
when it runs, so that ``--help`` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import resumer
from resumer import errors
from resumer.cli import explain, options, replay, run

USAGE = 2
"""The exit code of a wrong use: an unknown option, a value that is not allowed, a setting that
cannot work.
"""

_app = typer.Typer(
    name="resumer",
    help="Resumes suspended Argo Workflows when the thing they wait for happens.",
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_app.command("run")(run.run)
_app.command("explain")(explain.explain)
_app.command("replay")(replay.replay)


@_app.command("version")
def _version() -> None:
    """Print the version and exit."""
    typer.echo(resumer.__version__)


@_app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(resumer.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str], operate: run.Operate) -> int:
    """Runs one command line.

    Args:
        arguments: What stands behind the name of the program.
        operate: Starts the operator and returns its exit code.

    Returns:
        The exit code: that of the command, or `USAGE`.
    """
    known = {command.name for command in _app.registered_commands}
    command = next((one for one in arguments[:1] if one in known), "run")
    try:
        code = _app(args=list(arguments), obj=operate, prog_name="resumer", standalone_mode=False)
    except errors.SettingsError as error:
        return _refuse(f"{options.spelled(error.field)}: {error}", command)
    except typer.BadParameter as error:
        if not error.message:  # something is missing
            return _refuse(error.format_message(), command)
        field = error.param.name if error.param else ""
        where = f"{options.spelled(field)}: " if field else ""
        return _refuse(f"{where}{error.message.removeprefix('Value error, ')}", command)
    except typer.TyperException as error:
        return _refuse(error.format_message(), command)
    return code if isinstance(code, int) else 0


def _refuse(message: str, command: str) -> int:
    hint = f"See 'resumer --help' and 'resumer {command} --help'."
    sys.stderr.write(f"resumer: {message}\n{hint}\n")
    return USAGE
