"""Tells a person what happens, while it happens: coloured on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich import console, rule, table, text

from resumer.core import rules

_LOG_WIDTH = 150
_STYLES = {
    "Resumed": "bold green",
    "AlreadyResumed": "bold cyan",
    "Waiting": "bold yellow",
    "Rejected": "bold red",
}


class Account:
    """What is told, line by line; each line says who speaks."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else _LOG_WIDTH
        self._console = console.Console(highlight=False, width=width)
        self._scenes = 0

    def title(self, what: str) -> None:
        """The first line of all."""
        self._console.print(text.Text(what, style="bold"))

    def scene(self, what: str) -> None:
        """A new scene begins."""
        self._scenes += 1
        self._console.print()
        heading = text.Text(f"{self._scenes}. {what} ", style="bold")
        self._console.print(rule.Rule(heading, align="left", style="dim", characters="─"))

    def note(self, what: str) -> None:
        """What to know or to look at."""
        self._line("", text.Text(what, style="italic"))

    def event(self, what: str) -> None:
        """Something happened outside of the cluster."""
        self._line("event", text.Text(what))

    def typed(self, command: str, answer: str) -> None:
        """A person, or a Sensor, typed a command."""
        self._line("$", text.Text(command, style="bold"))
        for line in answer.strip().splitlines():
            self._line("", text.Text(line, style="dim"))

    def operator(self, outcome: str, reason: str, message: str) -> None:
        """The operator answered a request."""
        answer = text.Text(outcome, style=_STYLES.get(outcome, "bold"))
        answer.append(f" ({reason})", style="not bold")
        self._line("operator", answer)
        self._line("", text.Text(message))

    def compared(self, check: Mapping[str, object]) -> None:
        """One comparison of a rule with what was found."""
        mark, found = "FAILED", f", found '{check.get('actual', '')}'"
        if check.get("actual") == rules.UNSTATED:
            mark, found = "passed over", f" {rules.UNSTATED}"
        elif check["passed"]:
            mark = "passed"
        words = f"{mark}: {check['field']} {check['operator']} '{check['expected']}'{found}"
        self._line("", text.Text(words, style="dim" if check["passed"] else "red"))

    def workflow(self, what: str) -> None:
        """Something changed in the workflow."""
        self._line("workflow", text.Text(what))

    def state(self, subject: str, state: str) -> None:
        """What something has come to, at the end."""
        self._line("state", text.Text.assemble((f"{subject}: ", ""), (state, "bold")))

    def plain(self, what: str) -> None:
        """Something that is copied: not wrapped, not indented by more than two."""
        self._console.print(text.Text(f"  {what}"), soft_wrap=True)

    def line(self) -> None:
        """Room."""
        self._console.print()

    def failed(self, error: BaseException, log: str) -> None:
        """The demo cannot go on."""
        self._console.print()
        self._console.print(text.Text(f"The demo failed: {error}", style="bold red"))
        self._console.print(text.Text("The end of the operator's log:"))
        self._console.print(text.Text(log or "(empty)"), soft_wrap=True)

    def _line(self, who: str, what: text.Text) -> None:
        grid = table.Table.grid(padding=(0, 1))
        grid.add_column(width=8, justify="right", style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(who, what)
        self._console.print(grid)
