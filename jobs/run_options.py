"""The options that say what a run is to do: the same for ``run`` and ``submit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: The best that runs anywhere: no weights, no GPU.
DEFAULT_RECIPE = "patchmatch"

OutputOption = Annotated[
    str,
    typer.Option(
        metavar="DEST",
        help="Folder, local or s3://, for images/, lineage/ and runs/. Run again with the same "
        "one to go on with what is left.",
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME_OR_TOML",
        help="A recipe's name (see `catalog-cleanup recipes`) or the path of a TOML file.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH.TO.OPTION=VALUE",
        help="Change one option of the recipe, e.g. --set mask.dilate_px=6. Repeatable.",
    ),
]
RetryOption = Annotated[
    str,
    typer.Option(
        metavar="STATUSES",
        help="Do again what earlier runs recorded so: failed, crashed, ok, all; comma-separated.",
    ),
]
ShardsOption = Annotated[
    str,
    typer.Option(
        metavar="NUMBERS",
        help="Only these shards, e.g. 0-99,150: so several clusters share a manifest.",
    ),
]
CheckInputsOption = Annotated[
    bool,
    typer.Option(
        help="Do again photos whose files changed since they were done, which takes a look at "
        "each file."
    ),
]

PoolsOption = Annotated[
    str | None,
    typer.Option(
        "--pools",
        metavar="TOML",
        help="What actors take of a cluster, and how many there may be; see cluster/README.md.",
    ),
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="TOML",
        exists=True,
        dir_okay=False,
        help="Dollars for an hour of a node, a line for each group of nodes: large-gpu = 3.9. "
        "The run then tells what it costs.",
    ),
]


def parse_statuses(retry: str) -> frozenset[str]:
    """What ``--retry`` names.

    Raises:
        BadParameter: a status that there is not.
    """
    statuses = frozenset(filter(None, retry.replace(" ", "").split(",")))
    if "all" in statuses:
        statuses = statuses - {"all"} | {"ok", "failed", "crashed"}
    if unknown := statuses - {"ok", "failed", "crashed"}:
        raise typer.BadParameter(
            f"unknown status {', '.join(sorted(unknown))}", param_hint="--retry"
        )
    return statuses
