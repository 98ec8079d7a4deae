"""A delivery is read in whatever form it was saved."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from resumer.core import deliveries
from resumer.errors import InvalidError
from tests import github

ID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
BODY = github.payload("pull_request.opened")
READ = github.event("pull_request.opened", ID)
HEADERS = {"X-Github-Event": ["pull_request"], "X-Github-Delivery": [ID], "Accept": ["*/*"]}
PLAIN = {"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": ID}

FORMS: dict[str, object] = {
    "as Argo Events cuts it": READ,
    "with headers": {"headers": HEADERS, "body": BODY},
    "with a header": {"header": PLAIN, "body": BODY},
    "with a payload": {"headers": PLAIN, "payload": BODY},
    "of GitHub's interface": {
        "id": 12345,
        "event": "pull_request",
        "request": {"headers": PLAIN, "payload": BODY},
        "response": {"headers": {}, "payload": "ok"},
    },
    "with the body as text": {"headers": HEADERS, "body": json.dumps(BODY)},
    "from the bus": {"context": {"id": "x"}, "data": {"headers": HEADERS, "body": READ}},
    "from the bus as text": {"context": {}, "data": json.dumps({"headers": HEADERS, "body": BODY})},
    "from the Sensor's log": {"event": "pull_request", "taskId": "5", "githubEvent": READ},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_delivery_is_the_payload_with_its_headers(form: str) -> None:
    assert deliveries.read(FORMS[form]) == READ


def test_what_is_said_about_a_bare_payload_is_added_to_it() -> None:
    assert deliveries.read(BODY, name="pull_request", delivery=ID) == READ


def test_what_is_said_wins() -> None:
    read = deliveries.read(FORMS["with headers"], name="push", delivery="1")
    assert (read["X-GitHub-Event"], read["X-GitHub-Delivery"]) == ("push", "1")


def test_the_event_of_a_bare_payload_is_known_by_its_parts() -> None:
    read = deliveries.read(BODY)
    assert read == {"X-GitHub-Event": "pull_request", **BODY}
    assert deliveries.read({"zen": "Keep it."}) == {"zen": "Keep it."}


def _wrapped(times: int) -> object:
    found: object = BODY
    for _ in range(times):
        found = {"headers": {}, "body": found}
    return found


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: None, "a payload of GitHub is a JSON object, this is null"),
        (lambda: [BODY], "a payload of GitHub is a JSON object, this is a list"),
        (lambda: 7, "a payload of GitHub is a JSON object, this is a single value"),
        (lambda: {"headers": {}, "body": None}, "this is null"),
        (lambda: {"headers": {}, "body": "payload=%7B%7D"}, "the payload is a text that is no"),
        (lambda: {"headers": {}, "body": "[" * 100_000}, "the payload is a text that is not JSON"),
        (lambda: _wrapped(9), "more than 4 wrappings are around the payload"),
    ],
)
def test_what_holds_no_payload_is_said(made: Callable[[], object], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        deliveries.read(made())
