"""Checks and makes a release: `python -m release check`, `python -m release dist`."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from release import artifacts, changelog, packages, versions


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns:
        the exit code
    """
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "check":
                found = versions.problems(options.tag)
                for one in found:
                    print(f"error: {one}", file=sys.stderr)
                return 1 if found else 0
            case "dist":
                artifacts.write(options.folder, options.repository, options.source)
            case "sbom":
                options.file.parent.mkdir(parents=True, exist_ok=True)
                packages.bill_of_materials(options.file)
            case "licenses":
                print(packages.licences(), end="")
            case other:
                raise AssertionError(f"argparse let the command {other!r} through")
    except (packages.Refused, changelog.Malformed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what is in the way of a release")
    check.add_argument("--tag", help="that is released, as v1.2.3; the changelog has to have it")
    dist = commands.add_parser("dist", help="write all files of a release")
    dist.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("dist"))
    dist.add_argument("--repository", default="resumer", help="of the image, without a tag")
    dist.add_argument("--source", default="", help="URL of the project")
    sbom = commands.add_parser("sbom", help="write a CycloneDX bill of materials")
    sbom.add_argument("--file", type=pathlib.Path, default=pathlib.Path("dist/sbom.cdx.json"))
    commands.add_parser("licenses", help="print the licences of all packages that run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
