"""Makes the writes of a resume, one after the other, as fast as asyncio can: the floor, a process.

    python -m tests.bench.writer KUBECONFIG NAMESPACE TEMPLATES [--create-only]

It reads lines of `NUMBER WORKFLOW_UID` from its standard input, starts on each at once, and writes
a line of JSON for each that is done, as `argo-resume` does: name, start, end (nanoseconds since
1970) and error. What it sends are texts in which only names and uids are filled in: it decides
nothing. With `--create-only` it creates the request and leaves the rest to the operator.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import pathlib
import sys
import time

import aiohttp

from tests.bench import api, objects


@dataclasses.dataclass(frozen=True, slots=True)
class Templates:
    """The three bodies as text, with the words of `Words` for what differs between resumes."""

    request: str
    patch: str
    status: str

    @classmethod
    def load(cls, file: pathlib.Path) -> Templates:
        return cls(**json.loads(file.read_text()))

    def save(self, file: pathlib.Path) -> None:
        file.write_text(json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """What stands in the templates for what differs."""

    workflow: str = "WORKFLOW-NAME"
    request: str = "REQUEST-NAME"
    task: str = "TASK-ID"
    workflow_uid: str = "WORKFLOW-UID"
    request_uid: str = "REQUEST-UID"


WORDS = Words()


def replaced(text: str, before: Words, after: Words) -> str:
    """A text with each of the words replaced by the other's."""
    for field in dataclasses.fields(Words):
        text = text.replace(getattr(before, field.name), getattr(after, field.name))
    return text


class Writer:
    """Writes.

    Arguments:
        calls: to the API server
        namespace: of the workflows and requests
        templates: what to write
        create_only: leave it at the request
    """

    def __init__(
        self, calls: api.Api, namespace: str, templates: Templates, *, create_only: bool
    ) -> None:
        self._calls = calls
        self._templates = templates
        self._create_only = create_only
        self._workflows = api.collection("workflows", namespace)
        self._requests = api.collection("workflowresumes", namespace)

    async def resume(self, names: objects.Names, workflow_uid: str) -> None:
        """One resume.

        Raises:
            CallFailed: one of the writes was refused
        """
        words = Words(names.workflow, names.request, names.task, workflow_uid)
        body = replaced(self._templates.request, WORDS, words)
        answer = await self._calls.call("POST", self._requests, body.encode(), accept=api.METADATA)
        if self._create_only:
            return
        words = dataclasses.replace(words, request_uid=json.loads(answer)["metadata"]["uid"])
        await self._calls.call(
            "PATCH",
            f"{self._workflows}/{names.workflow}",
            replaced(self._templates.patch, WORDS, words).encode(),
            content_type=api.JSON_PATCH,
            accept=api.METADATA,
        )
        await self._calls.call(
            "PATCH",
            f"{self._requests}/{names.request}/status",
            replaced(self._templates.status, WORDS, words).encode(),
            content_type=api.JSON_PATCH,
        )


async def _main(options: argparse.Namespace) -> None:
    calls = api.Api(options.kubeconfig)
    writer = Writer(
        calls,
        options.namespace,
        Templates.load(options.templates),
        create_only=options.create_only,
    )
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with asyncio.TaskGroup() as running:
        while line := await lines.readline():
            number, uid = line.decode().split()
            running.create_task(_one(writer, objects.Names(int(number)), uid))
    await calls.close()


async def _one(writer: Writer, names: objects.Names, uid: str) -> None:
    start, error = time.time_ns(), ""
    try:
        await writer.resume(names, uid)
    except (api.CallFailed, aiohttp.ClientError, OSError) as problem:
        error = str(problem)
    done = {"name": names.workflow, "start": start, "end": time.time_ns(), "error": error}
    sys.stdout.write(f"{json.dumps(done)}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.writer")
    parser.add_argument("kubeconfig", type=pathlib.Path)
    parser.add_argument("namespace")
    parser.add_argument("templates", type=pathlib.Path)
    parser.add_argument("--create-only", action="store_true")
    return parser


if __name__ == "__main__":
    asyncio.run(_main(_parser().parse_args()))
