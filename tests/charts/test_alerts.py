"""promtool says what each alert does, on the rules as the chart makes them.

The cases are in `rules/`, a file for each alert, in promtool's own format: a person may run one by
hand beside a `rules.yaml`.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest
import yaml

from tests.charts import monitoring
from tests.charts.charts import Json
from tests.controlplane import build, components

pytestmark = pytest.mark.timeout(120)

CASES = sorted((pathlib.Path(__file__).parent / "rules").glob("*.yaml"))


def promtool(*args: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    binary = build.ensure(components.MONITORING)[components.PROMTOOL.name].binary
    return subprocess.run(
        [str(binary), *map(str, args)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def rules(built_monitoring: None, tmp_path: pathlib.Path) -> pathlib.Path:
    """The chart's alerts in a file, in a folder of the test's own."""
    return monitoring.write_rules(tmp_path / "rules.yaml")


def cases() -> list[Json]:
    """What is expected of which alert, of all files."""
    return [
        case
        for file in CASES
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]


def test_prometheus_takes_the_rules_and_has_nothing_to_say_against_them(
    rules: pathlib.Path,
) -> None:
    answer = promtool("check", "rules", "--lint=all", "--lint-fatal", rules)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{len(monitoring.alerts())} rules found" in answer.stdout


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_an_alert_fires_when_it_should_and_is_silent_when_it_should(
    file: pathlib.Path, rules: pathlib.Path
) -> None:
    case = shutil.copy(file, rules.parent / file.name)
    answer = promtool("test", "rules", case)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    fires = {case["alertname"] for case in cases() if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases() if not case.get("exp_alerts")}
    assert fires == silent == set(monitoring.alerts())


def test_a_case_that_does_not_hold_is_noticed(rules: pathlib.Path) -> None:
    rules.write_text(rules.read_text().replace("for: 5m", "for: 25m"))
    case = shutil.copy(CASES[0].with_name("down.yaml"), rules.parent)
    answer = promtool("test", "rules", case)
    assert answer.returncode != 0
    assert "ResumerDown" in answer.stdout + answer.stderr
