"""The user's pages as tests see them: their code blocks, in order."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parents[3]

_TIMEOUT = 120.0
_CHAPTER = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^```([a-z]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A code block.

    Attributes:
        page: its page, from the project's folder
        line: where it begins
        language: what stands behind its first fence
        text: what stands between the fences
        chapter: the heading of the second level that it is below; empty if it is below none
    """

    page: str
    line: int
    language: str
    text: str
    chapter: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def typed(self, environment: Mapping[str, str]) -> str:
        """What its commands print.

        Raises:
            AssertionError: one of them failed
        """
        return typed(self.text, environment, name=str(self))


def typed(
    text: str,
    environment: Mapping[str, str],
    *,
    folder: pathlib.Path | None = None,
    timeout: float = _TIMEOUT,
    name: str = "",
) -> str:
    """What commands print that are typed into a Bash.

    Arguments:
        text: the commands; the first one that fails ends them
        environment: the variables, all of them
        folder: that they are typed in
        timeout: seconds for all
        name: of them in the message, where it is not their text

    Raises:
        AssertionError: one of them failed
    """
    answer = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert answer.returncode == 0, f"{name or text}: {answer.stdout}\n{answer.stderr}"
    return answer.stdout


def blocks(page: str) -> list[Block]:
    """The code blocks of a page.

    Arguments:
        page: from the project's folder
    """
    text = (ROOT / page).read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found[1],
            found[2],
            ["", *_CHAPTER.findall(text, 0, found.start())][-1],
        )
        for found in _FENCE.finditer(text)
    ]
