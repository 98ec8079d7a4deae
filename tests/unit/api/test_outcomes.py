"""Outcomes and reasons: each reason has one outcome, and both read well."""

from __future__ import annotations

import pydantic
import pytest

from resumer.api.outcomes import Outcome, Phase, Reason


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_terminal_unless_the_request_waits(outcome: Outcome) -> None:
    waits = {Outcome.WAITING, Outcome.BACKING_OFF, Outcome.CIRCUIT_OPEN}
    assert outcome.terminal is (outcome not in waits)
    assert (outcome.phase is Phase.WAITING) is (outcome in waits)


def test_a_late_a_duplicate_and_a_dry_request_succeed() -> None:
    succeeded = {outcome for outcome in Outcome if outcome.phase is Phase.SUCCEEDED}
    assert succeeded == {
        Outcome.RESUMED,
        Outcome.GATE_FAILED,
        Outcome.ALREADY_RESUMED,
        Outcome.LATE,
        Outcome.DRY_RUN,
    }


def test_only_two_outcomes_say_that_the_workflow_was_changed() -> None:
    written = {outcome for outcome in Outcome if outcome.written}
    assert written == {Outcome.RESUMED, Outcome.GATE_FAILED}


def test_every_outcome_has_a_reason() -> None:
    assert {reason.outcome for reason in Reason} == set(Outcome)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_word_that_conditions_take_and_a_sentence_that_says_it(
    reason: Reason,
) -> None:
    assert reason.value.isalpha()
    assert reason.value[0].isupper()
    assert reason.meaning.endswith(".")
    assert reason.name.replace("_", "") == reason.value.upper()


def test_no_two_reasons_mean_the_same() -> None:
    assert len({reason.meaning for reason in Reason}) == len(Reason)


def test_a_reason_is_found_by_its_word() -> None:
    assert pydantic.TypeAdapter(Reason).validate_python("GateOpened") is Reason.GATE_OPENED
