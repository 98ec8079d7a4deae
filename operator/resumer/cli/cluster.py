"""The options of the commands that read a cluster, spelled as `resumer run` spells them."""

from __future__ import annotations

from typing import Annotated, Final

import typer

PANEL: Final = "The cluster"
"""Where the help shows them."""

Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        envvar="RESUMER_NAMESPACE",
        help="Where the request is, or would be created.",
        rich_help_panel=PANEL,
    ),
]

Kubeconfig = Annotated[
    str,
    typer.Option(
        metavar="PATH",
        envvar=["RESUMER_KUBECONFIG", "KUBECONFIG"],
        help="As for run.",
        rich_help_panel=PANEL,
    ),
]

Context = Annotated[
    str,
    typer.Option(
        metavar="NAME", envvar="RESUMER_CONTEXT", help="As for run.", rich_help_panel=PANEL
    ),
]

InstanceId = Annotated[
    str,
    typer.Option(
        metavar="ID", envvar="RESUMER_INSTANCE_ID", help="As for run.", rich_help_panel=PANEL
    ),
]
