"""The Python packages that the operator runs with: their licences, and a bill of materials.

Both are read from the metadata of installed packages. `requirements/dev.txt` holds all that
`requirements/run.txt` holds, in the same versions, so a bare environment with copies of that
metadata says what the image holds without a registry. They differ with the Python version and the
system, as the image does, so they are made at a release and not kept in the tree.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator

from packaging.requirements import Requirement

import resumer
from release.versions import ROOT

ALLOWED = (
    *("Apache-2.0", "Apache Software License", "Apache-2.0 AND MIT", "Apache-2.0 AND BSD-2-Clause"),
    *("BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "BSD License"),
    *("MIT", "MIT License", "MIT OR Apache-2.0", "ISC License (ISCL)"),
    # certifi: a list of certificates, used as it is.
    "Mozilla Public License 2.0 (MPL 2.0)",
    *("PSF-2.0", "Python Software Foundation License"),
)
"""Licences of packages that an image under Apache-2.0 may hold, as packages name them."""

_RUN = ROOT / "requirements" / "run.txt"
_TIMEOUT = 300.0


class Refused(RuntimeError):
    """A tool found something wrong; the message is what it said."""


@contextlib.contextmanager
def environment() -> Iterator[pathlib.Path]:
    """An environment of the packages that run here, with their metadata and without their code."""
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder)
        venv.create(made, symlinks=True)
        (site,) = made.glob("lib/python*/site-packages")
        for name in names():
            distribution = importlib.metadata.distribution(name)
            metadata = next(
                file
                for file in distribution.files or ()
                if file.name == "METADATA" and file.parent.suffix == ".dist-info"
            )
            source = pathlib.Path(str(distribution.locate_file(metadata))).parent
            shutil.copytree(source, site / source.name)
        yield made


def names() -> list[str]:
    """The packages of `requirements/run.txt` that are needed on this system and this Python."""
    lines = re.findall(r"^[A-Za-z0-9][^\\\n]*", _RUN.read_text(), re.MULTILINE)
    wanted = [Requirement(line.strip()) for line in lines]
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate()]


def licences() -> str:
    """All packages with licence and its text, to be passed on with the image.

    Raises:
        Refused: one has a licence that is not `ALLOWED`, or no text of it
    """
    with environment() as made:
        told = _run(
            *("pip-licenses", f"--python={made / 'bin' / 'python'}", "--from=mixed"),
            *("--with-license-file", "--no-license-path", "--with-notice-file", "--with-urls"),
            *("--format=plain-vertical", f"--allow-only={';'.join(ALLOWED)}"),
        )
    without = re.findall(r"^(\S+)\n\S+\n.*\n.*\nUNKNOWN$", told, re.MULTILINE)
    if without:
        raise Refused(f"no text of the licence of {', '.join(without)}")
    return told


def bill_of_materials(file: pathlib.Path) -> None:
    """Writes a CycloneDX file that is the same from the same tree and environment.

    Raises:
        Refused: it could not be made, or is not valid
    """
    with environment() as made:
        # The version is not in pyproject.toml, where the tool looks for it.
        project = made / "pyproject.toml"
        text = (ROOT / "pyproject.toml").read_text()
        project.write_text(
            text.replace('dynamic = ["version"]', f'version = "{resumer.__version__}"')
        )
        _run(
            *("cyclonedx-py", "environment", "--output-reproducible", "--output-format=JSON"),
            *(f"--pyproject={project}", f"--output-file={file}", str(made)),
        )


def _run(*command: str) -> str:
    program, *arguments = command
    answer = subprocess.run(
        [str(pathlib.Path(sys.executable).with_name(program)), *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if answer.returncode != 0:
        raise Refused(f"{program}: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout
