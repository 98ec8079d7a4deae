"""A Prometheus that scrapes an operator, and what it answers."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.controlplane import build, components, processes
from tests.e2e.support import waiting
from tests.e2e.support.manifests import Json

SCRAPE_SECONDS = 1

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_QUERY_TIMEOUT = 30.0
_TAIL = 40


class Prometheus:
    """A running one; `running` makes it.

    Attributes:
        url: of its web server
    """

    def __init__(self, popen: subprocess.Popen[bytes], port: int, log: pathlib.Path) -> None:
        self.url = f"http://{processes.HOST}:{port}"
        self._popen = popen
        self._log = log
        self._began = time.time()

    def query(self, query: str) -> list[Json]:
        """The series of an instant query.

        Raises:
            AssertionError: Prometheus refuses it; the message holds why
        """
        return self._series("query", {"query": query})

    def history(self, query: str) -> list[Json]:
        """The series of a range query from the start of this Prometheus until now.

        Raises:
            AssertionError: Prometheus refuses it; the message holds why
        """
        now = time.time()
        # Counted back from now, so that the last moment is one of them.
        start = now - math.ceil(now - self._began)
        times = {"start": f"{start:.3f}", "end": f"{now:.3f}", "step": "1"}
        return self._series("query_range", {"query": query, **times})

    def rules(self) -> list[Json]:
        """Its alerting rules with their state and their health."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def wait_for(self, query: str, timeout: float = waiting.TIMEOUT) -> None:
        """Returns as soon as an instant query has a result.

        Raises:
            AssertionError: it had none in time
        """
        waiting.eventually(
            lambda: self.query(query), lambda: f"no result of {query}\n{self.tail()}", timeout
        )

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL:])

    def wait_ready(self) -> None:
        """For `running` alone."""
        waiting.eventually(self._is_ready, self.tail, _START_TIMEOUT)

    def _is_ready(self) -> bool:
        assert self._popen.poll() is None, self.tail()
        url = f"{self.url}/-/ready"
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(url, timeout=_QUERY_TIMEOUT) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def _series(self, path: str, parameters: Mapping[str, str]) -> list[Json]:
        found: list[Json] = self._get(path, parameters)["result"]
        return found

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_QUERY_TIMEOUT) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None


def values(series: Sequence[Json]) -> list[float]:
    """All numbers of an answer, instant or over time, without those that are none."""
    samples = [sample for one in series for sample in one.get("values") or [one["value"]]]
    return [number for _, text in samples if not math.isnan(number := float(text))]


@contextlib.contextmanager
def running(
    folder: pathlib.Path, targets: Mapping[str, Mapping[str, str]], groups: Sequence[Json] = ()
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes each second and evaluates its rules as often.

    Args:
        folder: For its data and its log.
        targets: By host and port, the labels of what is scraped, `job` among them.
        groups: Of rules.
    """
    (port,) = processes.free_ports(1)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(groups)}))
    every = f"{SCRAPE_SECONDS}s"
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": "operator",
                "static_configs": [
                    {"targets": [target], "labels": dict(labels)}
                    for target, labels in targets.items()
                ],
            }
        ],
    }
    file, log = folder / "prometheus.yaml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(config))
    binary = build.ensure(components.MONITORING)[components.PROMETHEUS.name].binary
    argv = [
        *(str(binary), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={processes.HOST}:{port}", "--log.level=warn"),
    ]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
    started = Prometheus(popen, port, log)
    try:
        started.wait_ready()
        yield started
    finally:
        popen.terminate()
        try:
            popen.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
