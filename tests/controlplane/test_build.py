"""Building the components: what is built when, and what a person is told meanwhile."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.controlplane import build, components, progress, toolchain

# Small and without dependencies, so that it is built in a moment.
GO_MOD = "module example.test/hello\n\ngo 1.21\n"
MAIN_GO = 'package main\n\nfunc main() { println("hello") }\n'


@pytest.fixture
def component(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> components.Component:
    """A component of its own, in a cache of its own."""
    monkeypatch.setattr(components, "MODULES", tmp_path / "modules")
    monkeypatch.setattr(toolchain, "cache_folder", lambda: tmp_path / "cache")
    folder = tmp_path / "modules" / "hello"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(GO_MOD)
    (folder / "main.go").write_text(MAIN_GO)
    return components.Component(name="hello", module="hello", package="example.test/hello")


def ensure(component: components.Component) -> tuple[build.Built, str]:
    """The built component, and what was told meanwhile."""
    told = io.StringIO()
    built = build.ensure((component,), report=progress.Progress(told))
    return built[component.name], told.getvalue()


def test_a_component_is_built_once_and_runs(component: components.Component) -> None:
    first, told = ensure(component)
    assert told.startswith("[1/1] building hello …\n")
    answer = subprocess.run([first.binary], capture_output=True, text=True, check=True)
    assert answer.stderr == "hello\n"

    second, told = ensure(component)
    assert (second, told) == (first, "")


def test_a_changed_pin_or_row_builds_anew_and_leaves_the_old_one(
    component: components.Component,
) -> None:
    first, _ = ensure(component)
    go_mod = component.module_folder / "go.mod"
    go_mod.write_text(GO_MOD.replace("1.21", "1.22"))
    second, _ = ensure(component)
    changed = dataclasses.replace(component, variables=(("main.version", "2"),))
    third, _ = ensure(changed)
    assert len({first.folder, second.folder, third.folder}) == 3
    assert all(one.binary.exists() for one in (first, second, third))


def test_a_failing_build_is_named_with_the_end_of_its_log_and_leaves_no_half_one(
    component: components.Component,
) -> None:
    (component.module_folder / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(build.BuildFailed, match=r"building hello failed(.|\n)*nonsense"):
        ensure(component)
    names = {entry.name for entry in toolchain.cache_folder().iterdir()}
    assert names == {"build.lock", "hello.log"}


def test_a_second_build_at_the_same_time_waits_and_says_so(
    component: components.Component, tmp_path: pathlib.Path
) -> None:
    holder = """
import fcntl, os, pathlib, sys
file = pathlib.Path(sys.argv[1]).open("w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid()))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""
    lock = tmp_path / "cache" / "build.lock"
    lock.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        told = _LetGo(other)
        build.ensure((component,), report=progress.Progress(told))
    assert f"waiting for another build (process {other.pid}) …\n" in told.getvalue()


@pytest.fixture
def patched(component: components.Component) -> components.Component:
    """A component with a module that it needs, in which a text is replaced."""
    folder = component.module_folder
    dependency = folder.parent / "words"
    dependency.mkdir()
    (dependency / "go.mod").write_text("module example.test/words\n\ngo 1.21\n")
    (dependency / "words.go").write_text('package words\n\nconst Greeting = "hello"\n')
    own = "require example.test/words v0.0.0\n\nreplace example.test/words => ../words\n"
    (folder / "go.mod").write_text(f"{GO_MOD}\n{own}")
    (folder / "main.go").write_text(
        'package main\n\nimport "example.test/words"\n\nfunc main() { println(words.Greeting) }\n'
    )
    replacement = components.Replacement("example.test/words", "words.go", "hello", "good morning")
    return dataclasses.replace(component, replacements=(replacement,))


def test_a_replaced_text_is_in_the_program_and_not_in_the_module(
    patched: components.Component,
) -> None:
    built, _ = ensure(patched)
    answer = subprocess.run([built.binary], capture_output=True, text=True, check=True)
    assert answer.stderr == "good morning\n"
    assert "hello" in (patched.module_folder.parent / "words" / "words.go").read_text()
    plain, _ = ensure(dataclasses.replace(patched, replacements=()))
    assert plain.folder != built.folder


def test_a_text_is_replaced_in_a_module_that_was_never_downloaded(
    patched: components.Component, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (require, _) = (patched.module_folder / "go.mod").read_text().split("replace")
    (patched.module_folder / "go.mod").write_text(require.replace("v0.0.0", "v1.0.0"))
    publish("example.test/words@v1.0.0", tmp_path / "modules" / "words", tmp_path / "proxy")
    monkeypatch.setenv("GOPROXY", (tmp_path / "proxy").as_uri())
    monkeypatch.setenv("GONOSUMDB", "*")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "another-machine"))
    tidy = [str(toolchain.go((1, 21))), "mod", "tidy"]
    subprocess.run(tidy, cwd=patched.module_folder, check=True, capture_output=True)

    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "this-machine"))
    built, _ = ensure(patched)
    answer = subprocess.run([built.binary], capture_output=True, text=True, check=True)
    assert answer.stderr == "good morning\n"


def publish(name: str, folder: pathlib.Path, proxy: pathlib.Path) -> None:
    """Puts a module into a folder that Go takes for a module proxy."""
    module, _, version = name.partition("@")
    versions = proxy / module / "@v"
    versions.mkdir(parents=True)
    (versions / "list").write_text(f"{version}\n")
    (versions / f"{version}.info").write_text(json.dumps({"Version": version}))
    shutil.copyfile(folder / "go.mod", versions / f"{version}.mod")
    with zipfile.ZipFile(versions / f"{version}.zip", "w") as packed:
        for file in folder.iterdir():
            packed.write(file, f"{name}/{file.name}")


def test_a_text_to_replace_that_is_not_there_is_named(patched: components.Component) -> None:
    (wanted,) = patched.replacements
    missing = dataclasses.replace(wanted, old="goodbye")
    with pytest.raises(build.BuildFailed, match=r"words\.go of example.test/words .* 'goodbye'"):
        ensure(dataclasses.replace(patched, replacements=(missing,)))


class _LetGo(io.StringIO):
    """Ends the other process as soon as it is told that it is being waited for."""

    def __init__(self, other: subprocess.Popen[str]) -> None:
        super().__init__()
        self._other = other

    def write(self, text: str) -> int:
        if "waiting" in text and self._other.stdin is not None:
            self._other.stdin.close()
        return super().write(text)
