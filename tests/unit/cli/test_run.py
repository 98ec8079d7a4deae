"""`resumer run`: every option and variable ends up in the settings; a wrong one ends the run."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from resumer import errors, settings
from resumer.cli import app, options
from resumer.telemetry import logs

VALUES: dict[str, tuple[str, Any]] = {
    "namespaces": ("team-a", ("team-a",)),
    "instance_id": ("blue.1", "blue.1"),
    "kubeconfig": ("/etc/kube/config", "/etc/kube/config"),
    "context": ("staging", "staging"),
    "log_format": ("console", settings.LogFormat.CONSOLE),
    "log_level": ("debug", settings.LogLevel.DEBUG),
    "tracing": ("true", True),
    "metrics_host": ("::1", "::1"),
    "metrics_port": ("0", 0),
    "workers": ("7", 7),
    "api_connections": ("9", 9),
    "api_rate": ("12.5", 12.5),
    "api_burst": ("30", 30),
    "request_timeout": ("2.5", 2.5),
    "reconcile_timeout": ("45", 45.0),
    "cleanup_interval": ("0", 0.0),
    "drain_seconds": ("3", 3.0),
    "stale_seconds": ("90", 90.0),
    "leader_elect": ("true", True),
    "leader_elect_lease_name": ("blue", "blue"),
    "leader_elect_namespace": ("home", "home"),
    "lease_seconds": ("20", 20.0),
    "lease_renew_seconds": ("8", 8.0),
    "lease_retry_seconds": ("1", 1.0),
}
"""For each field of the settings: a text that differs from the default, and what it means."""

FIELDS = [field.name for field in dataclasses.fields(settings.Settings)]


class Factory:
    """Stands where the operator would start: keeps the settings and gives back an exit code."""

    def __init__(self) -> None:
        self.started: list[settings.Settings] = []
        self.run: Callable[[settings.Settings], int] = self.succeed

    def succeed(self, chosen: settings.Settings) -> int:
        self.started.append(chosen)
        return 0


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    for name in os.environ:
        if name.startswith(options.PREFIX) or name == "KUBECONFIG":
            monkeypatch.delenv(name)
    fake = Factory()
    names = ["", "kopf", "kopf.objects", logs.ROOT]
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = logging.getLogger().handlers[:]
    yield fake
    for logger, level in levels:
        logger.setLevel(level)
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()


def test_every_setting_has_a_value_to_try_here() -> None:
    assert sorted(VALUES) == sorted(FIELDS)


def test_without_options_the_settings_are_the_defaults(factory: Factory) -> None:
    assert app.main(["run"], factory.run) == 0
    assert factory.started == [settings.Settings()]


@pytest.mark.parametrize("field", FIELDS)
def test_an_option_sets_its_field_and_no_other(factory: Factory, field: str) -> None:
    text, meant = VALUES[field]
    # A switch takes no value.
    given = [options.flag(field), *([text] if meant is not True else [])]
    assert app.main(["run", *given], factory.run) == 0
    assert factory.started == [dataclasses.replace(settings.Settings(), **{field: meant})]


@pytest.mark.parametrize("field", FIELDS)
def test_a_variable_sets_its_field_and_no_other(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    text, meant = VALUES[field]
    monkeypatch.setenv(options.variable(field), text)
    assert app.main(["run"], factory.run) == 0
    assert factory.started == [dataclasses.replace(settings.Settings(), **{field: meant})]


def test_a_switch_can_be_taken_back(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUMER_LEADER_ELECT", "true")
    assert app.main(["run", "--no-leader-elect"], factory.run) == 0
    assert factory.started == [settings.Settings()]


def test_an_option_wins_over_its_variable(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUMER_WORKERS", "3")
    assert app.main(["run", "--workers", "4"], factory.run) == 0
    assert factory.started[0].workers == 4


def test_an_empty_variable_counts_as_not_set(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUMER_NAMESPACE", "")
    monkeypatch.setenv("RESUMER_WORKERS", "")
    assert app.main(["run"], factory.run) == 0
    assert factory.started == [settings.Settings()]


def test_the_usual_variable_names_the_kubeconfig_unless_ours_does(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/usual")
    assert app.main(["run"], factory.run) == 0
    monkeypatch.setenv("RESUMER_KUBECONFIG", "/ours")
    assert app.main(["run"], factory.run) == 0
    assert [chosen.kubeconfig for chosen in factory.started] == ["/usual", "/ours"]


@pytest.mark.parametrize(
    "text", ["a,b,c", "a b c", "a, b , c", "\na\nb\nc\n"], ids=["commas", "spaces", "both", "lines"]
)
def test_the_variable_takes_several_namespaces(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("RESUMER_NAMESPACE", text)
    assert app.main(["run"], factory.run) == 0
    assert factory.started[0].namespaces == ("a", "b", "c")


def test_the_namespace_option_may_be_repeated(factory: Factory) -> None:
    assert app.main(["run", "--namespace", "a", "--namespace", "b,c"], factory.run) == 0
    assert factory.started[0].namespaces == ("a", "b", "c")


def test_none_switches_the_metrics_off(factory: Factory) -> None:
    assert app.main(["run", "--metrics-port", "none"], factory.run) == 0
    assert factory.started[0].metrics_port is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--namespace", "Team_A"], "--namespace (RESUMER_NAMESPACE): 'Team_A' is not the name"),
        (["--workers", "many"], "--workers (RESUMER_WORKERS): 'many' is not a whole number"),
        (["--workers", "0"], "--workers (RESUMER_WORKERS): 0 is not within 1 and 1000"),
        (["--request-timeout", "1m"], "(RESUMER_REQUEST_TIMEOUT): '1m' is not a number of seconds"),
        (["--metrics-port", "http"], "'http' is neither a port, 0 to 65535, nor 'none'"),
        (["--metrics-port", "-1"], "'-1' is neither a port, 0 to 65535, nor 'none'"),
        (["--log-format", "xml"], "--log-format (RESUMER_LOG_FORMAT): 'xml' is not one of 'json'"),
        (["--log-level", "all"], "--log-level (RESUMER_LOG_LEVEL): 'all' is not one of 'debug'"),
        (["--colour"], "No such option: --colour"),
        (["now"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_ends_with_2_and_one_line_that_names_it(
    factory: Factory,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    assert app.main(["run", *arguments], factory.run) == app.USAGE == 2
    first, hint = capsys.readouterr().err.splitlines()
    assert first.startswith("resumer: ")
    assert complaint in first
    assert "resumer run --help" in hint
    assert factory.started == []


def test_a_wrong_variable_is_named_too(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESUMER_DRAIN_SECONDS", "soon")
    assert app.main(["run"], factory.run) == 2
    assert "RESUMER_DRAIN_SECONDS): 'soon' is not a number" in capsys.readouterr().err


def test_the_exit_code_is_that_of_the_operator(factory: Factory) -> None:
    factory.run = lambda _: 3
    assert app.main(["run"], factory.run) == 3


def test_a_setting_that_fails_only_at_the_start_is_said_the_same_way(
    factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: settings.Settings) -> int:
        raise errors.SettingsError("metrics_port", "cannot listen on all addresses, port 1: taken")

    factory.run = run
    assert app.main(["run"], factory.run) == 2
    assert "--metrics-port (RESUMER_METRICS_PORT): cannot listen" in capsys.readouterr().err


def test_an_error_that_nobody_expected_is_one_log_line_and_exit_code_1(
    factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: settings.Settings) -> int:
        raise ZeroDivisionError("nobody expected this")

    factory.run = run
    assert app.main(["run"], factory.run) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: nobody expected this" in line
