"""A store with Argo's CRDs in it, kept in the cache, since installing them takes ten seconds.

The API server spends those on checking the full schemas, again at each step of establishing them.
A copy of the store, made once per build and flavour, spares every later control plane the wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterable

from tests.controlplane import build, toolchain

# etcd keeps an empty file ready for its next log; it makes a new one.
_SPARE = shutil.ignore_patterns("*.tmp")


def location(built: Iterable[build.Built], flavour: str) -> pathlib.Path:
    """Where the seed is or would be.

    Arguments:
        built: the components that wrote it, whose folders tell all that they were built from
        flavour: of Argo's CRDs
    """
    names = " ".join(sorted(one.folder.name for one in built))
    digest = hashlib.sha256(f"{names} {flavour}".encode()).hexdigest()[:16]
    return toolchain.cache_folder() / f"seed-{digest}"


def plant(seed: pathlib.Path, data: pathlib.Path) -> bool:
    """Copy the seed to where etcd will look for its data, if there is one."""
    if not seed.exists():
        return False
    shutil.copytree(seed, data)
    return True


def harvest(data: pathlib.Path, seed: pathlib.Path) -> None:
    """Keep a copy of etcd's data as the seed.

    etcd must not write meanwhile. What it wrote before is as after a kill, which it recovers from.
    """
    with tempfile.TemporaryDirectory(dir=seed.parent, prefix=".seed-") as scratch:
        fresh = pathlib.Path(scratch) / "etcd"
        shutil.copytree(data, fresh, ignore=_SPARE)
        # Where another process was first, its seed is as good.
        with contextlib.suppress(OSError):
            fresh.rename(seed)
