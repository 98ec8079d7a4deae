"""The bench itself: that it runs, that it counts rightly, and what a resume costs in API calls.

No test looks at a time: how long anything takes on a shared machine says nothing.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.bench import __main__ as command
from tests.bench import driver, objects, report
from tests.controlplane import launcher

Bench = Callable[..., tuple[Any, str]]


@pytest.fixture
def bench(
    built_components: None, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> Bench:
    """Runs the command with these arguments: what it wrote to its file, and what it printed."""

    def run(*arguments: str) -> tuple[Any, str]:
        file = tmp_path / "bench.json"
        assert command.main([*arguments, "--json", str(file)]) == 0
        return json.loads(file.read_text()), capsys.readouterr().out

    return run


@pytest.mark.timeout(900)
def test_a_resume_takes_two_writes_and_at_most_one_read_as_the_api_server_counts(
    bench: Bench,
) -> None:
    """The quick bench runs to its end, and its table and its JSON say so for both sizes."""
    found, printed = bench("--quick")

    assert found["machine"]["cores"] >= 1
    assert found["versions"]["argo-workflows"].startswith("v4.")
    for nodes in ("2", "50"):
        of_size = found["results"][nodes]
        assert set(of_size) == {"operator", "floor", "argo"}
        operator, floor, argo = of_size["operator"], of_size["floor"], of_size["argo"]
        assert operator["calls"]["POST workflowresumes"] == 1
        assert operator["calls"]["PATCH workflows"] == 1
        assert operator["calls"]["PATCH workflowresumes/status"] == 1
        assert operator["writes"] == 2
        assert operator["reads"] <= 1
        assert (floor["writes"], floor["reads"]) == (2, 0)
        assert (argo["writes"], argo["reads"]) == (1, 1)
        assert f"{nodes} nodes: 2.00 writes" in printed


@pytest.mark.timeout(300)
def test_the_soak_counts_what_it_breaks_and_finds_nothing_lost_or_doubled(
    bench: Bench,
) -> None:
    """A small one: `make bench BENCH_ARGS=--faults` does the one whose figures are in the pages."""
    written, printed = bench("--faults", "--quick")

    found = written["faults"]
    assert (found["gates"], found["requests"], found["kills"]) == (20, 24, 2)
    assert found["outcomes"] == {"AlreadyResumed": 4, "Resumed": 20}
    assert (found["lost"], found["doubled"], found["wrong"], found["contradicted"]) == (0, 0, 0, 0)
    assert found["workflow_writes"] == 1
    # A watch is broken by each second kill, whatever becomes of the writes.
    assert any(number for kind, number in found["injected"].items() if kind != "watch broken")
    assert "opened twice" in printed


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("built_events")
def test_a_webhook_opens_a_gate_by_the_shipped_sensor_and_by_argo_events_own_trigger(
    bench: Bench,
) -> None:
    """Both are measured from the webhook on, and each takes the writes that it should."""
    found, printed = bench(
        *("--events", "--quick", "--resumes", "4", "--idle", "2", "--concurrency", "2")
    )

    of_size = found["results"]["2"]
    assert set(of_size) == {"argo-events", "argo-events-resume"}
    creating, resuming = of_size["argo-events"], of_size["argo-events-resume"]
    # The bus hands out an event again if a trigger is slow: then the second creation is refused.
    assert creating["calls"]["POST workflowresumes"] >= 1
    assert creating["calls"]["PATCH workflows"] == 1
    assert creating["writes"] == 2
    assert resuming["calls"]["PUT workflows"] == 1
    assert resuming["calls"]["GET workflows"] >= 1
    assert "argo-events-resume" in printed


@pytest.mark.timeout(900)
def test_a_resume_costs_no_read_while_hundreds_wait_and_each_of_them_little_memory(
    bench: Bench,
) -> None:
    """The bench of scale, with few: what waits is known from the watch, and nobody asks again."""
    found, printed = bench("--scale", "50", "300", "--resumes", "5")

    few, many = found["found"]
    assert [few["count"], many["count"]] == [50, 300]
    for one in (few, many):
        assert one["calls"]["PATCH workflows"] == 1
        assert one["calls"]["PATCH workflowresumes/status"] == 1
        assert not [kind for kind in one["calls"] if kind.startswith(("GET", "LIST"))]
        assert one["idle_calls"] == 0
    # As they are sent they are 37 KB; as Python's objects, 200 KiB.
    assert (many["memory"] - few["memory"]) / 250 < 100 * 1024
    assert "300" in printed


@pytest.mark.timeout(900)
def test_nothing_stays_behind_of_what_has_finished(
    bench: Bench,
) -> None:
    """The bench of leaks, with few: after each pass the stores of the operator become empty."""
    written, printed = bench("--leak", "160")

    found = written["found"]
    assert [one["resumes"] for one in found] == list(range(16, 161, 16))
    assert not any(value for one in found for value in one["known"].values())
    assert set(found[0]["known"]) == {"workflows", "unread", "requests", "finished"}
    assert "bytes more for each resume" in printed


@pytest.mark.parametrize("nodes", [2, 50])
def test_a_gate_is_seen_open_only_once_it_is(nodes: int) -> None:
    """The driver reads events without parsing them: what it concludes has to be what they say."""
    names = objects.Names(7)
    workflow = objects.workflow(names, nodes)
    gate = workflow["status"]["nodes"][f"{names.workflow}-4222222222"]

    assert objects.opened(_event("ADDED", workflow)) is None
    assert objects.opened(_event("MODIFIED", workflow)) is None
    gate["phase"] = "Succeeded"
    assert objects.opened(_event("MODIFIED", workflow)) == names.workflow
    assert objects.opened(_event("DELETED", workflow)) is None


def test_a_workflow_has_as_many_nodes_as_asked_for() -> None:
    """The gate and the root of the tree are among them."""
    assert len(objects.workflow(objects.Names(1), 50)["status"]["nodes"]) == 50
    assert len(objects.workflow(objects.Names(1), 2)["status"]["nodes"]) == 2


def test_percentiles_are_values_that_were_measured() -> None:
    """By nearest rank, in whatever order they came."""
    assert report.Percentiles.of(range(100, 0, -1)) == report.Percentiles(50, 95, 99)
    assert report.Percentiles.of([3.0]) == report.Percentiles(3.0, 3.0, 3.0)


def test_a_comparison_is_the_median_of_those_made_within_each_round() -> None:
    """A round in which the machine was slow counts like any other."""
    floor = [_round(rate) for rate in (100, 10, 100)]
    operator = [_round(rate) for rate in (90, 11, 95)]

    found = report.figures(operator, floor)

    assert found.rate_to_floor == pytest.approx(0.95)
    assert found.rates_to_floor == pytest.approx([0.9, 1.1, 0.95])
    assert found.rate == pytest.approx(90)


def test_events_and_the_request_itself_are_no_writes_of_a_resume() -> None:
    """They are counted, but apart."""
    calls = {
        "PATCH workflows": 4,
        "POST events": 8,
        "POST workflowresumes": 4,
        "PATCH workflowresumes/status": 4,
        "GET workflows": 2,
    }
    found = report.figures([_round(10, calls)], None)

    assert (found.writes, found.reads, found.events) == (2, 0.5, 2)


def _event(kind: str, body: objects.Json) -> bytes:
    # As the API server does: the type first, and the keys of the object sorted.
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return f'{{"type":"{kind}","object":{text}}}'.encode()


def _round(rate: float, calls: dict[str, int] | None = None) -> report.Round:
    of_four = driver.Pass(
        latencies=[0.01] * 4,
        opening=4 / rate,
        recording=4 / rate,
        calls=calls or {},
        processor=0.01,
        all_processor=0.02,
        server_processor=0.01,
        others=0.0,
        memory=None,
    )
    return report.Round(busy=of_four, idle=of_four)


@pytest.mark.timeout(240)
def test_when_a_leader_ends_either_way_another_one_opens_the_gate(
    bench: Bench,
) -> None:
    written, printed = bench("--failover", "1")

    killed, left = written["found"]
    assert (killed["signal"], left["signal"]) == ("SIGKILL", "SIGTERM")
    # Three seconds at least are left of the lease of a leader: it ends before, by itself.
    assert killed["leads"] > 2
    assert "SIGTERM" in printed


@pytest.mark.parametrize(
    "section",
    [[], ["--faults"], ["--scale", "1"], ["--leak", "16"], ["--failover", "1"], ["--all"]],
)
@pytest.mark.parametrize(
    ("error", "code"),
    [(launcher.StartFailed("etcd", "ended", "no disk"), 1), (KeyboardInterrupt(), 130)],
)
def test_each_section_tells_by_its_exit_code_that_it_did_not_come_to_its_end(
    section: list[str],
    error: BaseException,
    code: int,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever runs it may rely on the file, which is there only if everything was measured."""
    file = tmp_path / "bench.json"

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(launcher, "start", fail)

    assert command.main([*section, "--json", str(file)]) == code
    assert not file.exists()
    assert ("no disk" in capsys.readouterr().err) is (code == 1)


@pytest.mark.parametrize("broken", [None, "faults"])
def test_all_sections_are_measured_and_a_broken_promise_of_one_is_told_in_the_end(
    broken: str | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each measures is tried by the tests above."""
    asked: dict[str, argparse.Namespace] = {}

    def stand_in(name: str) -> Callable[..., tuple[dict[str, object], bool]]:
        def section(options: argparse.Namespace, folder: pathlib.Path) -> Any:
            assert list(folder.iterdir()) == []
            asked[name] = options
            return {"of": name}, name != broken

        return section

    names = ["comparison", "faults", "scale", "leak", "failover"]
    assert list(command._SECTIONS) == names
    monkeypatch.setattr(command, "_SECTIONS", {name: stand_in(name) for name in names})
    file = tmp_path / "bench.json"
    assert command.main(["--all", "--json", str(file)]) == (1 if broken else 0)
    found = json.loads(file.read_text())
    assert {name: found[name] for name in names} == {name: {"of": name} for name in names}
    assert asked["scale"].scale == [1000, 3000, 10000]
    assert (asked["leak"].leak, asked["failover"].failover) == (5000, 5)
