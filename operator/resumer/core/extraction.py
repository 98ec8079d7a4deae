"""What an event says about its task and its type, by rules that a policy can set.

The task is in the event's labels, its branch, its title or its text (`TaskSource`). Labels and the
branch are looked at wherever they are asked for, and have to agree; a title or a text is written
for people and can mention other tasks, so it counts only where the sources before it name none.

The type is the name of the first `TypeRule` that the event fulfils. The built-in rules are those of
the requirements (seed 000, section 3) and more of their sort for the other events that GitHub
sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from resumer.api import base
from resumer.api.policy import TaskIdPlace
from resumer.core import events, patterns
from resumer.core.paths import Path
from resumer.core.patterns import Effort
from resumer.errors import InvalidError

MAX_TEXT: Final = 4096
"""Characters of a title or a text that are searched for a task."""

_STEPS_OF_LOOKUP: Final = 300_000
"""What it takes to gather the texts of one place, as `patterns` counts."""

_TASK_ID: Final = re.compile(base.LABEL_VALUE)


def _paths(*texts: str) -> tuple[Path, ...]:
    return tuple(map(Path.parse, texts))


_LABELS: Final = _paths(
    "labels[]", "labels[].name", "pull_request.labels[].name", "issue.labels[].name"
)
_BRANCHES: Final = _paths(
    *("pull_request.head.ref", "branch", "headRef", "check_suite.head_branch"),
    *("check_run.check_suite.head_branch", "workflow_run.head_branch"),
)
_TITLES: Final = _paths("pull_request.title", "issue.title", "workflow_run.display_title", "title")
_BODIES: Final = _paths(
    *("pull_request.body", "issue.body", "head_commit.message", "body"),
    *("check_suite.head_commit.message", "workflow_run.head_commit.message"),
)


@dataclass(frozen=True, slots=True)
class TaskSource:
    """One place of an event to look for the task, and how it is written there."""

    place: TaskIdPlace
    pattern: str
    """RE2 with one group, which captures the task's id; it is searched for."""
    field: str
    """Where the user wrote the pattern, for errors."""

    @property
    def is_prose(self) -> bool:
        """True if people write there what they like."""
        return self.place in (TaskIdPlace.TITLE, TaskIdPlace.BODY)

    def texts(self, event: Mapping[str, object]) -> tuple[str, ...]:
        """What stands at that place of an event."""
        match self.place:
            case TaskIdPlace.LABELS:
                return tuple(_texts(event, _LABELS))
            case TaskIdPlace.BRANCH:
                return (*_texts(event, _BRANCHES), *events.pushed_branches(event))
            case TaskIdPlace.TITLE:
                return tuple(text[:MAX_TEXT] for text in _texts(event, _TITLES))
            case TaskIdPlace.BODY:
                return tuple(text[:MAX_TEXT] for text in _texts(event, _BODIES))
            case _:
                assert_never(self.place)

    def task_ids(self, texts: tuple[str, ...], effort: Effort) -> tuple[str, ...]:
        """The different tasks that such texts name.

        Raises:
            InvalidError: They are too long, or too much was searched before.
        """
        found = patterns.captured(self.pattern, texts, self.field, effort)
        return tuple(dict.fromkeys(task for task in found if _TASK_ID.fullmatch(task)))


@dataclass(frozen=True, slots=True)
class TypeRule:
    """Which of GitHub's events are of a type; a condition that is None or empty always holds."""

    type: str
    event: str
    """GitHub's name of the event, as in the header ``X-GitHub-Event``."""
    action: str = ""
    label: str = ""
    """The label that was set or removed."""
    review_state: str = ""
    merged: bool | None = None
    """Whether the pull request was merged."""
    conclusion: str = ""
    """Of the check suite, the check run or the workflow run."""

    def holds(self, seen: _Seen) -> bool | None:
        """Whether an event is of this type; None where its short form leaves that open."""
        answers = [seen.is_called(self.event)]
        if self.action:
            answers.append(seen.action == self.action)
        if self.label:
            answers.append(seen.says(_LABEL, self.label))
        if self.review_state:
            answers.append(seen.says_word(_REVIEW_STATE, self.review_state))
        if self.merged is not None:
            answers.append(seen.says(_MERGED, self.merged))
        if self.conclusion:
            answers.append(seen.says_word(_CONCLUSION, self.conclusion))
        if False in answers:
            return False
        return None if None in answers else True


@dataclass(frozen=True, slots=True)
class _Seen:
    """An event that is compared with one rule after the other."""

    event: Mapping[str, object]
    name: str | None
    action: str | None
    is_short: bool

    @classmethod
    def of(cls, event: Mapping[str, object]) -> _Seen:
        return cls(event, events.name(event), events.action(event), events.is_short(event))

    def is_called(self, wanted: str) -> bool | None:
        return None if self.name is None and self.is_short else self.name == wanted

    def says(self, path: Path, wanted: str | bool) -> bool | None:
        found = events.find(self.event, path)
        if not found:
            return None if self.is_short else False
        return any(value == wanted and type(value) is type(wanted) for value in found)

    def says_word(self, path: Path, wanted: str) -> bool | None:
        """The same for GitHub's words, which its other interfaces write in capitals."""
        found = events.find(self.event, path)
        if not found:
            return None if self.is_short else False
        return any(isinstance(value, str) and value.lower() == wanted.lower() for value in found)


_LABEL: Final = Path.parse("label.name")
_REVIEW_STATE: Final = Path.parse("review.state")
_CONCLUSION: Final = Path.parse("conclusion")
_MERGED: Final = Path.parse("pull_request.merged")


@dataclass(frozen=True, slots=True)
class Extraction:
    """How the task and the type of an event are found."""

    sources: tuple[TaskSource, ...]
    """In the order in which they are looked at."""
    types: tuple[TypeRule, ...]
    """The first that holds gives the type."""


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What the built-in checks need to know of an event; None where it does not say."""

    name: str | None = None
    """GitHub's name of the event."""
    action: str | None = None
    event_type: str | None = None
    """The type that the rules give it."""
    task_ids: tuple[str, ...] = ()
    """All different tasks that it names; more than one is a contradiction."""
    has_task_source: bool = False
    """Whether it has any of the places at all, so that its task can be expected there."""
    sender: str | None = None


def read(
    event: Mapping[str, object], extraction: Extraction, effort: Effort | None = None
) -> EventFacts:
    """Reads the facts out of an event of any shape.

    Args:
        event: The event as the user gave it.
        extraction: Where and how to look.
        effort: What is left for all rules that the event is read by; None for one that stand alone.

    Raises:
        InvalidError: It holds more labels or text than a lookup may reach.
    """
    effort = effort or Effort()
    task_ids: dict[str, None] = {}
    has_task_source = False
    for source in extraction.sources:
        if source.is_prose and task_ids:
            continue
        effort.spend(_STEPS_OF_LOOKUP, source.field)
        texts = source.texts(event)
        task_ids |= dict.fromkeys(source.task_ids(texts, effort))
        has_task_source = has_task_source or bool(texts)
    seen = _Seen.of(event)
    fitting = (rule.type for rule in extraction.types if rule.holds(seen))
    return EventFacts(
        name=seen.name,
        action=seen.action,
        event_type=next(fitting, None),
        task_ids=tuple(task_ids),
        has_task_source=has_task_source,
        sender=events.sender(event),
    )


def contradicts(event: Mapping[str, object], event_type: str, extraction: Extraction) -> bool:
    """Whether an event says that it is not of a type that the rules know.

    An event that says neither its name nor its action contradicts nothing.
    """
    seen = _Seen.of(event)
    if seen.name is None and seen.action is None:
        return False
    answers = [rule.holds(seen) for rule in extraction.types if rule.type == event_type]
    return bool(answers) and all(answer is False for answer in answers)


def check(extraction: Extraction) -> None:
    """Finds what is wrong with the patterns.

    Raises:
        InvalidError: One is not accepted; names its field.
    """
    for source in extraction.sources:
        try:
            patterns.check_group(source.pattern, source.field)
        except InvalidError as error:
            raise InvalidError(source.field, f"{source.field}: {error}") from None


def _texts(event: Mapping[str, object], paths: tuple[Path, ...]) -> Iterator[str]:
    inner = events.payload(event)
    for path in paths:
        yield from events.texts(path.find(inner))


_CHECKS: Final = ("check_suite", "workflow_run")
_FAILED_CHECKS: Final = ("failure", "timed_out", "startup_failure")

DEFAULT: Final = Extraction(
    sources=(
        TaskSource(TaskIdPlace.LABELS, "^task-([0-9]{1,63})$", "labels"),
        TaskSource(TaskIdPlace.BRANCH, "^task-([0-9]{1,63})(?:-|$)", "branch"),
    ),
    types=(
        TypeRule("pr-created", "pull_request", "opened"),
        TypeRule("pr-labeled-ready", "pull_request", "labeled", label="ready-for-qa"),
        TypeRule("pr-labeled", "pull_request", "labeled"),
        TypeRule("task-completed", "pull_request", "closed", merged=True),
        TypeRule("pr-closed", "pull_request", "closed", merged=False),
        TypeRule("pr-approved", "pull_request_review", "submitted", review_state="approved"),
        TypeRule(
            "pr-changes-requested",
            "pull_request_review",
            "submitted",
            review_state="changes_requested",
        ),
        TypeRule("pr-reviewed", "pull_request_review", "submitted"),
        TypeRule("pr-commented", "issue_comment", "created"),
        *(TypeRule("checks-passed", one, "completed", conclusion="success") for one in _CHECKS),
        *(
            TypeRule("checks-failed", one, "completed", conclusion=how)
            for one in _CHECKS
            for how in _FAILED_CHECKS
        ),
        TypeRule("branch-pushed", "push"),
    ),
)
"""The rules where a policy has none of its own."""

UNWELCOME: Final = frozenset({"pr-closed", "pr-changes-requested", "checks-failed"})
"""The types of these rules that mean "do not resume": they open nothing unasked."""
