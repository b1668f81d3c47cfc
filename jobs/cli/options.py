"""The options of ``run``, of which other commands have some, and its command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

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

DashboardOption = typer.Option(
    metavar="http://HEAD:8265",
    envvar="RAY_API_SERVER_ADDRESS",
    help="The dashboard of the Ray cluster. For its token, set RAY_AUTH_MODE=token.",
)


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


def parse_run(
    context: typer.Context, words: Sequence[str], *, resilient: bool = False
) -> typer.Context:
    """Understand words as ``run`` does.

    Args:
        context: of the command that is running, in whose name errors are reported.
        words: arguments and options.
        resilient: leave out what is wrong, instead of raising click's ``UsageError``.
    """
    run: Any = context.find_root().command
    call: typer.Context = run.commands["run"].make_context(
        context.info_name, [*words], parent=context.parent, resilient_parsing=resilient
    )
    return call


def as_words(call: typer.Context, replaced: Mapping[str, str]) -> list[str]:
    """The arguments and options of a call, whichever the command has, as words again.

    Args:
        call: see :func:`parse_run`.
        replaced: name of a parameter -> another value for it.
    """
    words: list[str] = []
    for parameter in call.command.params:
        each: Any = parameter
        value: Any = {**call.params, **replaced}[each.name]
        option = max(each.opts, key=len)
        source = call.get_parameter_source(each.name)
        if not source or source.name == "DEFAULT":
            continue
        if each.param_type_name == "argument":
            words.append(value)
        elif each.is_flag:
            words.append(option if value else max(each.secondary_opts, key=len))
        else:
            words += [f"{option}={one}" for one in (value if each.multiple else [value])]
    return words
