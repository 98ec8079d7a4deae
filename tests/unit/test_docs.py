"""The user's pages agree with the code and with each other."""

from __future__ import annotations

import ast
import datetime
import itertools
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from resumer.api import outcomes
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Phase
from resumer.core import breaker

_ROOT = pathlib.Path(__file__).parents[2]
_PAGES = [
    *(_ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((_ROOT / "docs").glob("*.md")),
    *sorted((_ROOT / "charts").glob("*/README.md")),
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def test_the_tables_are_what_the_code_says() -> None:
    check = [sys.executable, str(_ROOT / "docs" / "generate.py"), "--check"]
    answer = subprocess.run(check, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_troubleshooting_has_a_part_for_every_reason_below_its_outcome() -> None:
    text = (_ROOT / "docs" / "troubleshooting.md").read_text()
    found, outcome = [], ""
    for level, heading in re.findall(r"^(##|###) (\w+)$", text, re.MULTILINE):
        if level == "##":
            outcome = heading
        else:
            found.append((outcome, heading))
    wanted = [(str(reason.outcome), str(reason)) for reason in outcomes.Reason]
    assert sorted(found) == sorted(wanted)


def test_troubleshooting_shows_for_every_reason_a_message_that_the_code_can_write() -> None:
    """As far as the message is written beside its reason; other parts of it match anything."""
    text = (_ROOT / "docs" / "troubleshooting.md").read_text()
    templates = _messages()
    for heading, part in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        shown = re.findall(r"^> (`+) ?(.+?) ?\1(?:<br>)?$", part, re.MULTILINE)
        assert shown, heading
        for _, message in shown:
            possible = [
                one for reason, ones in templates.items() if reason == heading for one in ones
            ]
            assert any(re.fullmatch(one, message) for one in possible), f"{heading}: {message}"


def _messages() -> dict[outcomes.Reason, list[str]]:
    """What the code writes for each reason, as patterns: whatever is filled in matches anything."""
    found: dict[outcomes.Reason, list[str]] = {one: [] for one in outcomes.Reason}
    for file in (_ROOT / "operator").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                for reason in (name for one in given for name in _reasons(one)):
                    found[reason] += [pattern for one in given if (pattern := _pattern(one))]
    return found


def _reasons(node: ast.expr) -> list[outcomes.Reason]:
    match node:
        case ast.Attribute(value=ast.Name(id="Reason"), attr=name):
            return [outcomes.Reason[name]]
        case ast.IfExp(body=one, orelse=other):
            return [*_reasons(one), *_reasons(other)]
        case ast.Call(func=ast.Name(id="refusal")):
            return [outcomes.Reason.FORBIDDEN, outcomes.Reason.API_REFUSED]
        case ast.Name(id="reason"):
            return [outcomes.Reason.API_UNAVAILABLE, outcomes.Reason.RATE_LIMITED]
        case _:
            return []


def _pattern(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(part) or ".*" for part in parts)
        case ast.BinOp(left=left, right=right):
            return (_pattern(left) or ".*") + (_pattern(right) or ".*")
        case ast.Name(id="message" | "what" | "told") | ast.Call(func=ast.Name(id="str")):
            return ".+"
        case _:
            return ""


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: pathlib.Path) -> None:
    for link in _LINK.findall(re.sub(r"`[^`\n]+`", "", _prose(page))):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {link}"


def test_the_life_of_a_request_is_drawn_with_every_outcome_on_its_side() -> None:
    (drawn,) = (text for text in _drawings("concepts.md") if "undecided" in text)
    found = {
        name: set(re.findall(r"^ +(\w+)$", text, re.MULTILINE))
        for name, text in re.findall(r"as (\w+) \{\n(.*?)\n    \}", drawn, re.DOTALL)
    }
    sides = {"undecided": Phase.WAITING, "well": Phase.SUCCEEDED, "badly": Phase.FAILED}
    assert found == {
        name: {str(one) for one in outcomes.Outcome if one.phase is phase}
        for name, phase in sides.items()
    }


def test_the_breaker_is_drawn_with_the_changes_that_it_can_make() -> None:
    (drawn,) = (text for text in _drawings("concepts.md") if "HalfOpen" in text)
    found = re.findall(r"^ +(\w+) --> (\w+):", drawn, re.MULTILINE)
    assert sorted(found) == sorted(_changes_of_a_breaker())


def _changes_of_a_breaker() -> set[tuple[str, str]]:
    """From which state to which a breaker goes, whatever happens to it."""
    start = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    settings, probe = breaker.BreakerSettings(), breaker.Probe("uid", start)
    found = set()
    for state, failures, after in itertools.product(BreakerState, (0, 4), (0, 30, 60)):
        now = start + datetime.timedelta(seconds=after)
        before = breaker.Breaker(
            state=state,
            consecutive_failures=failures,
            opened_at=start,
            open_until=start + datetime.timedelta(seconds=30),
            probes=(probe,),
        )
        admitted = breaker.admit(before, settings, "uid", now)
        for what in (
            admitted.breaker if isinstance(admitted, breaker.Admitted) else before,
            breaker.on_success(before, "uid", now),
            breaker.on_failure(before, settings, "uid", "Timeout", now),
            breaker.on_ignored(before, "uid"),
        ):
            found.add((str(state), str(what.state)))
    return {(before, after) for before, after in found if before != after}


def test_the_site_is_built_without_a_warning_and_its_menu_has_every_page(
    tmp_path: pathlib.Path,
) -> None:
    """Zensical follows every link, to the anchor; as `make docs` calls it, in another folder."""
    shutil.copy(_ROOT / "mkdocs.yml", tmp_path)
    for command in (
        [sys.executable, str(_ROOT / "docs" / "staging.py"), str(tmp_path / "build" / "pages")],
        [str(pathlib.Path(sys.executable).parent / "zensical"), "build", "--strict"],
    ):
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
    menu = re.findall(r"^ +- [^:]+: (\S+\.md)$", (_ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(menu) == sorted(str(page.relative_to(_ROOT)) for page in _PAGES)
    drawn = (tmp_path / "build" / "site" / "docs" / "concepts" / "index.html").read_text()
    assert drawn.count('<pre class="mermaid">') == len(_drawings("concepts.md"))


def test_every_test_that_proves_a_promise_exists() -> None:
    named = _TEST.findall((_ROOT / "docs" / "reliability.md").read_text())
    assert len(named) > 40
    for path, name in named:
        assert (_ROOT / path).is_file(), path
        assert f"def {name}(" in (_ROOT / path).read_text() or not name, f"{path}: {name}"


def _drawings(page: str) -> list[str]:
    return re.findall(
        r"^```mermaid$(.*?)^```$", (_ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL
    )


def _prose(page: pathlib.Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: pathlib.Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    headings = (heading.lower() for heading in _HEADING.findall(_prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
