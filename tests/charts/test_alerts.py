"""promtool says what each alert does, on the rules of the chart and on those in `deploy/`.

The cases are in `rules/`, a file for each alert, in promtool's own format: a person may run one by
hand beside a `rules.yaml`. Those in `rules/one` are about the rules of the chart, which look at one
namespace, those in `rules/all` about the ones in `deploy/`, which look at each; all others hold for
both.
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

_FOLDER = pathlib.Path(__file__).parent / "rules"
CASES = {
    scope: sorted([*_FOLDER.glob("*.yaml"), *(_FOLDER / scope).glob("*.yaml")])
    for scope in ("one", "all")
}


def promtool(*args: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    binary = build.ensure(components.MONITORING)[components.PROMTOOL.name].binary
    return subprocess.run(
        [str(binary), *map(str, args)], capture_output=True, text=True, check=False, timeout=60
    )


def write(scope: str, folder: pathlib.Path) -> pathlib.Path:
    """The alerts of one namespace or of all, in a file."""
    groups = monitoring.groups() if scope == "one" else monitoring.groups_of_all()
    return monitoring.write_rules(folder / "rules.yaml", groups)


@pytest.fixture
def rules(built_monitoring: None, tmp_path: pathlib.Path) -> pathlib.Path:
    """The chart's alerts in a file, in a folder of the test's own."""
    return write("one", tmp_path)


def cases(scope: str) -> list[Json]:
    """What is expected of which alert, of all files."""
    return [
        case
        for file in CASES[scope]
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]


@pytest.mark.parametrize("scope", CASES)
@pytest.mark.usefixtures("built_monitoring")
def test_prometheus_takes_the_rules_and_has_nothing_to_say_against_them(
    scope: str, tmp_path: pathlib.Path
) -> None:
    rules = write(scope, tmp_path)
    answer = promtool("check", "rules", "--lint=all", "--lint-fatal", rules)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{len(monitoring.alerts())} rules found" in answer.stdout


@pytest.mark.parametrize(
    ("scope", "file"),
    [
        pytest.param(scope, file, id=f"{scope}-{file.stem}")
        for scope, files in CASES.items()
        for file in files
    ],
)
@pytest.mark.usefixtures("built_monitoring")
def test_an_alert_fires_when_it_should_and_is_silent_when_it_should(
    scope: str, file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    write(scope, tmp_path)
    case = shutil.copy(file, tmp_path / file.name)
    answer = promtool("test", "rules", case)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("scope", CASES)
def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not(scope: str) -> None:
    found = cases(scope)
    fires = {case["alertname"] for case in found if case.get("exp_alerts")}
    silent = {case["alertname"] for case in found if not case.get("exp_alerts")}
    assert fires == silent == set(monitoring.alerts())


def test_a_case_that_does_not_hold_is_noticed(rules: pathlib.Path) -> None:
    rules.write_text(rules.read_text().replace("for: 5m", "for: 25m"))
    case = shutil.copy(_FOLDER / "down.yaml", rules.parent)
    answer = promtool("test", "rules", case)
    assert answer.returncode != 0
    assert "ResumerDown" in answer.stdout + answer.stderr
