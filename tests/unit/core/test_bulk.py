"""How much memory JSON takes: never less than it really does, and counted no further than asked."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from resumer.core import bulk
from resumer.errors import InvalidError
from tests.builders import a_request


@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join(["{}"] * 5000) + "]",
        "[" + ",".join(['{"a":{}}'] * 5000) + "]",
        "[" + ",".join(["[[]]"] * 5000) + "]",
        "[" + ",".join(["1.5"] * 5000) + "]",
        '["' + "a" * 5000 + '"]',
        json.dumps({f"key-{number}": number for number in range(5000)}),
    ],
    ids=["dicts", "nested", "lists", "numbers", "text", "keys"],
)
def test_json_takes_no_more_than_the_estimate(text: str) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        body = json.loads(text)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < bulk.estimate(body, 10**9) + 10_000


def test_the_count_stops_beyond_the_bound_at_any_width_and_depth() -> None:
    assert bulk.estimate([{}] * 1000, 1000) == 1001
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep]
    assert bulk.estimate(deep, 1000) <= 1200
    assert bulk.estimate(deep, 10**9) == 50_001 * 200
    while isinstance(deep, list):  # taken apart, as its end would else go as deep
        deep = deep.pop()


def test_texts_and_keys_count_with_their_length() -> None:
    assert bulk.estimate({"four": "text"}, 10**9) == 2 * 200 + 8
    assert bulk.estimate(None, 10**9) == 200


@pytest.mark.parametrize(("values", "passes"), [(41_000, True), (42_000, False)])
def test_an_event_may_have_some_forty_thousand_values(values: int, passes: bool) -> None:
    request = a_request().saying(commits=[0] * values).model()
    if passes:
        bulk.refuse_too_large(request)
        return
    with pytest.raises(InvalidError, match="about 40000 values are allowed") as raised:
        bulk.refuse_too_large(request)
    assert raised.value.field == "spec.correlationData.githubEvent"
