"""What may not be logged is known by its name or its looks; other things are left alone."""

from __future__ import annotations

import pytest

from resumer.telemetry import redaction


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "Authorization",
        "apiKey",
        "api_key",
        "API-KEY",
        "clientSecret",
        "GITHUB_TOKEN",
        "userPassword",
        "cookie",
        "githubEvent",
        "github_event",
        "body",
        "headers",
        "privateKey",
    ],
)
def test_a_telling_name_hides_its_value(key: str) -> None:
    assert redaction.clean(key, "hunter2") == redaction.HIDDEN
    assert redaction.clean("outer", {key: ["hunter2"]}) == {key: redaction.HIDDEN}


@pytest.mark.parametrize(
    "key", ["stage", "task_id", "author", "tokenizer", "secretary", "keys", "nobody", "key"]
)
def test_a_name_that_only_looks_like_one_hides_nothing(key: str) -> None:
    assert redaction.clean(key, "seen") == "seen"


@pytest.mark.parametrize(
    "secret",
    [
        "Bearer abcdefgh.ijkl",
        "authorization: basic dXNlcjpwYXNzd29yZA==",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a" * 20,
        "xoxb-1234567890-abcdef",
        "AKIAABCDEFGHIJKLMNOP",
        "https://user:pa55word@example.org/x",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE",
    ],
    ids=lambda text: text[:12],
)
def test_what_looks_like_a_credential_is_hidden_inside_a_text(secret: str) -> None:
    shown = redaction.text(f"before {secret} after")
    assert redaction.HIDDEN in shown
    assert shown.startswith("before ")
    for part in ("abcdefgh", "dXNl", "eyJz", "a1B2", "aaaa", "1234", "ABCD", "pa55", "MIIE"):
        assert part not in shown


@pytest.mark.parametrize(
    "text",
    ["the bearer of bad news", "workflow play-abc123", "http://host:8080/path", "a basic check"],
)
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redaction.text(text) == text


def test_numbers_stay_numbers_whatever_they_are_called() -> None:
    assert redaction.clean("tokens", 3) == 3
    assert redaction.clean("ok", True) is True
    assert redaction.clean("nothing", None) is None


def test_deep_nesting_ends_as_text() -> None:
    value: object = "end"
    for _ in range(50):
        value = [value]
    cleaned = redaction.clean("deep", value)
    for _ in range(redaction.DEPTH_LIMIT):
        assert isinstance(cleaned, list)
        (cleaned,) = cleaned
    assert isinstance(cleaned, str)


def test_a_long_mapping_says_how_many_entries_it_had() -> None:
    cleaned = redaction.clean("many", {str(number): number for number in range(1000)})
    assert isinstance(cleaned, dict)
    assert len(cleaned) == redaction.ITEM_LIMIT + 1
    assert cleaned["..."] == 1000


def test_of_a_long_traceback_the_end_is_kept() -> None:
    shown = redaction.exception("a" * 20_000 + "ValueError: it")
    assert shown.endswith("ValueError: it")
    assert len(shown) < redaction.EXCEPTION_LIMIT + 100
