"""Builds the components of the control plane, once, into the user's cache.

Each component has a folder there whose name holds a digest of all it was built from, so a changed
pin builds anew and leaves what other checkouts use alone. A folder appears by a rename when it is
complete: whoever sees it can use it. Two builds at once are safe, since the second waits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from tests.controlplane import components, progress, toolchain

_LOG_LINES = 30
_POLL = 0.2


class BuildFailed(RuntimeError):
    """A component could not be built; the message names it and holds the end of its log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """A component in the cache."""

    component: components.Component
    folder: pathlib.Path

    @property
    def binary(self) -> pathlib.Path:
        return self.folder / self.component.name

    def data(self, target: str) -> pathlib.Path:
        """A folder of files which were copied beside the binary."""
        return self.folder / target


def ensure(
    wanted: Sequence[components.Component] = components.CONTROL_PLANE,
    *,
    report: progress.Progress | None = None,
) -> Mapping[str, Built]:
    """The components, by name, built first where the cache lacks them.

    Raises:
        BuildFailed: the Go compiler refused one
        toolchain.ToolMissing: there is no Go, and none to be had
    """
    built = {component.name: _in_cache(component) for component in wanted}
    if all(one.binary.exists() for one in built.values()):
        return built
    report = progress.Progress() if report is None else report
    with _lock(toolchain.cache_folder(), report):
        # What another build finished while this one waited is not built again.
        missing = [one for one in built.values() if not one.binary.exists()]
        for position, one in enumerate(missing, start=1):
            report.begin(f"[{position}/{len(missing)}] building {one.component.name}")
            _build(one, report)
            report.end()
    if missing:
        report.total(f"control plane built into {toolchain.cache_folder()}")
    return built


def _in_cache(component: components.Component) -> Built:
    folder = toolchain.cache_folder() / f"{component.name}-{_key(component)}"
    return Built(component, folder)


def _key(component: components.Component) -> str:
    """A digest of all that decides what the component's folder holds."""
    digest = hashlib.sha256(repr((component, toolchain.target())).encode())
    digest.update("".join(map(repr, (*component.replacements, *component.tags))).encode())
    for file in sorted(component.module_folder.iterdir()):
        if file.name in ("go.mod", "go.sum") or file.suffix == ".go":
            digest.update(f"\0{file.name}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _lock(cache: pathlib.Path, report: progress.Progress) -> Iterator[None]:
    """Only one build at a time writes to the cache; the system drops the lock of a dead one."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "build.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            report.begin(f"waiting for another build (process {file.read().strip()})")
            fcntl.flock(file, fcntl.LOCK_EX)
            report.end()
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _build(built: Built, report: progress.Progress) -> None:
    component = built.component
    go = toolchain.go(_oldest_go(component))
    environment = _environment(go)
    cache = built.folder.parent
    log = cache / f"{component.name}.log"
    with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as scratch:
        fresh = pathlib.Path(scratch) / component.name
        fresh.mkdir()
        variables = " ".join(f"-X {name}={value}" for name, value in component.variables)
        command = [
            *(str(go), "build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly"),
            *("-ldflags", f"-s -w {variables}".rstrip()),
            *("-tags", ",".join(component.tags)),
            *("-o", str(fresh / component.name), component.package),
        ]
        if component.replacements:
            go_mod = _patched(component, pathlib.Path(scratch), go, environment)
            command.insert(2, f"-modfile={go_mod}")
        _compile(component, command, environment, log, report)
        for data in component.data:
            _copy(component, data, fresh, go, environment)
        # Left from a build that was cut short, which the lock says is not going on.
        shutil.rmtree(built.folder, ignore_errors=True)
        fresh.rename(built.folder)


def _oldest_go(component: components.Component) -> tuple[int, ...]:
    text = (component.module_folder / "go.mod").read_text()
    match = re.search(r"^go (\d+(?:\.\d+)*)$", text, flags=re.MULTILINE)
    if match is None:
        raise BuildFailed(f"modules/{component.module}/go.mod has no line such as 'go 1.26.0'")
    return tuple(int(part) for part in match[1].split("."))


def _environment(go: pathlib.Path) -> dict[str, str]:
    system, machine = toolchain.target()
    return {
        # GOROOT is found from the binary, unless it is set for another one.
        **{name: value for name, value in os.environ.items() if name != "GOROOT"},
        "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "CGO_ENABLED": "0",
        "GOOS": system,
        "GOARCH": machine,
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _compile(
    component: components.Component,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: pathlib.Path,
    report: progress.Progress,
) -> None:
    # The log goes to a file, so the compiler never waits for somebody to read it.
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=component.module_folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while (code := process.poll()) is None:
                report.tick(f"{_count_lines(log)} packages")
                time.sleep(_POLL)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        lines = log.read_text(errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])
        raise BuildFailed(
            f"building {component.name} failed (exit code {code}); the end of {log}:\n{tail}"
        )


def _patched(
    component: components.Component,
    scratch: pathlib.Path,
    go: pathlib.Path,
    environment: Mapping[str, str],
) -> pathlib.Path:
    """A `go.mod` like the component's, but with copies of the modules that are to be changed."""
    folders: dict[str, pathlib.Path] = {}
    for one in component.replacements:
        if one.module not in folders:
            source = _module_folder(component, one.module, go, environment)
            folders[one.module] = scratch / f"module-{len(folders)}"
            # Not the mode as well: files of the module cache are read-only.
            shutil.copytree(source, folders[one.module], copy_function=shutil.copyfile)
            for folder in (folders[one.module], *folders[one.module].rglob("*/")):
                folder.chmod(0o755)
        file = folders[one.module] / one.file
        text = file.read_text()
        if (found := text.count(one.old)) != 1:
            raise BuildFailed(
                f"{component.name}: {one.file} of {one.module} holds the text {one.old!r} "
                f"{found} times, and it has to be once"
            )
        file.write_text(text.replace(one.old, one.new))
    for name in ("go.mod", "go.sum"):
        if (component.module_folder / name).exists():
            shutil.copyfile(component.module_folder / name, scratch / name)
    replaced = [f"-replace={module}={folder}" for module, folder in folders.items()]
    _ask(component, [str(go), "mod", "edit", *replaced, str(scratch / "go.mod")], environment)
    return scratch / "go.mod"


def _count_lines(file: pathlib.Path) -> int:
    # `go build -v` prints a line for each package that it compiles or downloads.
    return file.read_bytes().count(b"\n")


def _copy(
    component: components.Component,
    data: components.DataFolder,
    folder: pathlib.Path,
    go: pathlib.Path,
    environment: Mapping[str, str],
) -> None:
    source = _module_folder(component, data.module, go, environment) / data.source
    target = folder / data.target
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file():
            # Not the mode as well: files of the module cache are read-only.
            shutil.copyfile(file, target / file.name)
    if data.json:
        _write_json(target.glob("*.yaml"))


def _module_folder(
    component: components.Component,
    module: str,
    go: pathlib.Path,
    environment: Mapping[str, str],
) -> pathlib.Path:
    """Where a Go module of the component lies: in Go's module cache, read-only."""
    command = [str(go), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]
    folder = _ask(component, command, environment)
    if not folder:  # nothing was built of it on this machine yet
        _ask(component, [str(go), "mod", "download", module], environment)
        folder = _ask(component, command, environment)
    return pathlib.Path(folder)


def _ask(
    component: components.Component, command: Sequence[str], environment: Mapping[str, str]
) -> str:
    """What a short Go command prints."""
    answer = subprocess.run(
        command,
        cwd=component.module_folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise BuildFailed(f"{component.name}: {' '.join(command)}: {answer.stderr.strip()}")
    return answer.stdout.strip()


def _write_json(files: Iterable[pathlib.Path]) -> None:
    for file in files:
        if file.name != "kustomization.yaml":
            with file.open("rb") as stream:
                document = yaml.load(stream, Loader=_YAML_LOADER)
            file.with_suffix(".json").write_text(json.dumps(document))


# Argo's CRDs are megabytes of YAML, so the C loader is worth a look.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
