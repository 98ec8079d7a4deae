"""The command line as a whole: help, version, unknown commands, and that it starts quickly."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
import sys

import pytest

import resumer
from resumer import settings
from resumer.cli import app, options


def _never(_: settings.Settings) -> int:
    raise AssertionError("the operator must not be started")


FIELDS = [field.name for field in dataclasses.fields(settings.Settings)]


@pytest.fixture
def run_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert app.main(["run", "--help"], _never) == 0
    return capsys.readouterr().out


def test_the_help_explains_every_option_and_names_its_variable(run_help: str) -> None:
    for field in FIELDS:
        assert re.search(rf"^│ {options.flag(field)} ", run_help, re.MULTILINE), field
        assert re.search(rf"\b{options.variable(field)}\b", run_help), field


def test_the_help_fits_into_80_columns(run_help: str) -> None:
    assert max(len(line) for line in run_help.splitlines()) <= 80


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=["nothing", "--help", "-h"])
def test_asked_for_nothing_it_shows_its_commands(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(arguments, _never) == 0
    shown = capsys.readouterr().out
    assert " run " in shown
    assert " version " in shown


@pytest.mark.parametrize("arguments", [["version"], ["--version"]], ids=" ".join)
def test_the_version_is_all_it_prints(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(arguments, _never) == 0
    assert capsys.readouterr().out == f"{resumer.__version__}\n"


def test_a_mistyped_command_is_refused_with_the_likely_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main(["rum"], _never) == 2
    assert "No such command 'rum'. Did you mean 'run'?" in capsys.readouterr().err


def test_python_m_resumer_gives_the_exit_code_to_the_shell(tmp_path: pathlib.Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "resumer", "run", "--workers", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("resumer: --workers (RESUMER_WORKERS): 0 is not within")


def test_the_help_needs_none_of_the_operators_imports(tmp_path: pathlib.Path) -> None:
    program = """
import contextlib, io, sys
from resumer.cli import app
with contextlib.redirect_stdout(io.StringIO()):
    app.main(["run", "--help"], lambda _: 0)
print(sorted({"aiohttp", "kopf", "kubernetes", "structlog"} & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout == "[]\n"
