"""kopf's settings: everything off but the watch, and that never gives up."""

from __future__ import annotations

import itertools
from typing import Any

import kopf
import pytest

from resumer.api import constants
from resumer.handlers import embedding
from resumer.settings import Settings
from tests import builders

RESUMES = (constants.GROUP, constants.RESUME_PLURAL)


def test_nothing_is_stored_on_objects_and_nothing_is_kept_of_them() -> None:
    persistence = embedding.kopf_settings().persistence
    progress: Any = persistence.progress_storage
    diffs: Any = persistence.diffbase_storage
    body, patch = builders.a_request().build(), kopf.Patch()

    progress.store(body=body, patch=patch, key="handler", record={"retries": 1})
    progress.touch(body=body, patch=patch, value="now")
    progress.purge(body=body, patch=patch, key="handler")
    diffs.store(body=body, patch=patch, essence=diffs.build(body=body))

    assert not patch
    assert progress.fetch(body=body, key="handler") is None
    assert diffs.fetch(body=body) is None
    assert diffs.build(body=body) == {}
    assert progress.clear(essence=body) is body


def test_what_kopf_does_beyond_watching_is_off() -> None:
    settings = embedding.kopf_settings()
    assert settings.scanning.disabled
    assert settings.peering.standalone
    assert not settings.posting.enabled
    assert settings.persistence.consistency_timeout == 0


def test_a_call_of_kopf_ends_before_health_takes_its_watch_for_dead() -> None:
    timeout = embedding.kopf_settings().networking.request_timeout
    assert timeout is not None
    assert timeout < Settings().stale_seconds / 2


def test_the_pauses_of_a_broken_watch_grow_to_a_bound_never_end_and_begin_anew() -> None:
    pauses: Any = embedding.kopf_settings().networking.error_backoffs
    for _ in range(2):
        first = list(itertools.islice(iter(pauses), 500))
        assert first[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
        assert set(first[10:]) == {10.0}
