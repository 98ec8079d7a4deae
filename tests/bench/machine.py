"""What the machine and the API server tell about themselves: processor time, memory, requests.

Processes are read from `/proc`; where there is none, what it would tell is missing.
"""

from __future__ import annotations

import asyncio
import collections
import os
import pathlib
import platform
import re
import time
from collections.abc import Iterable

from tests.bench import api

_TICKS = os.sysconf("SC_CLK_TCK")
_QUIET_WINDOW = 0.1
_QUIET_SHARE = 0.15

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def processor_seconds(processes: Iterable[int]) -> float:
    """The processor time that these processes have used so far, as far as it is known.

    That of their children which have ended counts, too: a Sensor runs `argo` for each resume.
    """
    return sum(_processor_seconds(process) for process in processes)


def _processor_seconds(process: int) -> float:
    try:
        text = pathlib.Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0.0
    # The second field is a name in parentheses, which may hold blanks.
    fields = text.rpartition(")")[2].split()
    user, system, childrens_user, childrens_system = map(int, fields[11:15])
    return (user + system + childrens_user + childrens_system) / _TICKS


def all_processor_seconds() -> float:
    """The time that the processors of the machine were busy so far, with whatever."""
    try:
        first = pathlib.Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = map(int, first.split()[1:9])
    # Stolen by other virtual machines is busy, too: it is gone.
    return (user + nice + system + sum(interrupts)) / _TICKS


def cores() -> int:
    """The processors that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return allowed or os.cpu_count() or 1


def memory_bytes(process: int, *, peak: bool = False) -> int | None:
    """The resident memory of a process, or the most it had; None where that is not known."""
    try:
        text = pathlib.Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    field = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


async def quiet(processes: Iterable[int], seconds: float) -> None:
    """Return as soon as these processes have nothing to do any more, or after so many seconds."""
    pids = list(processes)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = processor_seconds(pids)
        await asyncio.sleep(_QUIET_WINDOW)
        if processor_seconds(pids) - before <= _QUIET_WINDOW * _QUIET_SHARE:
            return


def process_of(program: str, folder: pathlib.Path) -> int | None:
    """The process that runs a program of this name with a path in this folder in its command."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        named = pathlib.PurePath(command[0].decode()).name == program
        if named and any(f"{folder}/".encode() in part for part in command):
            return int(entry.name)
    return None


async def calls(server: api.Api) -> collections.Counter[str]:
    """The requests about Argo's and our kinds and about Events that the API server has counted.

    By kind, such as `PATCH workflowresumes/status`; those that it refused are among them.
    """
    text = (await server.call("GET", "/metrics", accept="text/plain")).decode()
    found: collections.Counter[str] = collections.Counter()
    for labels, value in _REQUESTS.findall(text):
        of = dict(_LABEL.findall(labels))
        if of["group"] == "argoproj.io" or of["resource"] == "events":
            subresource = f"/{of['subresource']}" if of["subresource"] else ""
            found[f"{of['verb']} {of['resource']}{subresource}"] += int(float(value))
    return found


def describe() -> dict[str, object]:
    """The machine, for who compares the figures of two runs."""
    return {
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor_name(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def _processor_name() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else platform.processor()
