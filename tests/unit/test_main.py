"""The entry point starts for whoever runs it."""

from __future__ import annotations

import os
import pathlib

import pytest

from resumer import __main__


def test_a_user_without_a_home_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> pathlib.Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "of-nobody")
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "home", classmethod(fail))
        __main__.ensure_home()
    assert os.environ["HOME"] == "/"


def test_a_home_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    __main__.ensure_home()
    assert os.environ["HOME"] == "/home/alice"
