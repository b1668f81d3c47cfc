"""The options of ``run``, some shared with other commands, and the parsing of its command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from manifests.planning.pairing import UnmarkedPolicy
    from stages.recipe import Recipe

#: Needs no weights and no GPU.
DEFAULT_RECIPE = "patchmatch"

ManifestArgument = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST",
        help="Photos: a folder of pictures or a quoted pattern such as 'photos/**/*.jpg' (the id "
        "is the path below the folder); or CSV, JSON Lines or Parquet with the columns id, image "
        "and mask (or boxes, polygons, rle): a file, a folder of files or a quoted pattern, with "
        "paths that may be relative to it. Local or s3://.",
    ),
]
MasksOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="Masks for photos without marks: a folder or a quoted pattern, local or s3://. A mask "
        "has the path of its photo, or the row's id, with any suffix, and may end in _mask, -mask "
        "or .mask.",
    ),
]
MaskOption = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="One mask for all photos without marks. It is scaled to photos of the same aspect "
        "ratio, or placed by the recipe's mask.anchor and mask.anchor_width.",
    ),
]
UnmatchedOption = Annotated[
    Literal["fail", "pass", "detect"] | None,
    typer.Option(
        show_default=False,
        help="What to do with photos without marks or mask: record them as failed, pass them "
        "on unchanged, or search them with the recipe's detector. Default: detect if the recipe "
        "has a section [detect], otherwise fail.",
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Reject a manifest with unusable rows instead of recording them as failed.",
    ),
]
RowsPerShardOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Rows per shard. Default: by the manifest's size."),
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="DEST",
        help="Folder for the results, local or s3://. Run again with the same folder to resume.",
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        "-r",
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
        help="Redo rows that earlier runs recorded with these statuses: failed, crashed, ok, all; "
        "comma-separated.",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Process at most N of the remaining photos, spread evenly over the manifest: a pilot "
        "run. `estimate --from DEST` extrapolates from it.",
    ),
]
ShardsOption = Annotated[
    str,
    typer.Option(
        metavar="NUMBERS",
        help="Process only these shards, e.g. 0-99,150, so that several clusters share a manifest.",
    ),
]
CheckInputsOption = Annotated[
    bool,
    typer.Option(help="Redo photos whose files changed since they were done. Checks every file."),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what the run would do; store and start nothing."),
]
PoolsOption = Annotated[
    str | None,
    typer.Option(
        "--pools",
        metavar="TOML",
        help="Resources and number of actors of each pool; see cluster/README.md.",
    ),
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="TOML",
        exists=True,
        dir_okay=False,
        help="Dollars per node-hour, to compute the cost; one line for each node group: "
        "large-gpu = 3.9.",
    ),
]

DashboardOption = typer.Option(
    metavar="http://HEAD:8265",
    envvar="RAY_API_SERVER_ADDRESS",
    help="The dashboard of the Ray cluster. For its token, set RAY_AUTH_MODE=token.",
)


def parse_statuses(retry: str) -> frozenset[str]:
    """Parse ``--retry``.

    Raises:
        BadParameter: an unknown status.
    """
    statuses = frozenset(filter(None, retry.replace(" ", "").split(",")))
    if "all" in statuses:
        statuses = statuses - {"all"} | {"ok", "failed", "crashed"}
    if unknown := statuses - {"ok", "failed", "crashed"}:
        raise typer.BadParameter(
            f"unknown status {', '.join(sorted(unknown))}", param_hint="--retry"
        )
    return statuses


class ManifestCommand(TyperCommand):
    """A command that takes one MANIFEST; of several, it explains how they came about."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, as click does, after the number of arguments is checked."""
        _, extra, _ = self.make_parser(ctx).parse_args([*args])
        if extra:
            ctx.fail(
                f"Unexpected extra arguments: {' '.join(extra[:3])}. If a pattern expanded to "
                "them, quote it: 'photos/*.jpg'."
            )
        return super().parse_args(ctx, args)


def parse_marking(
    recipe: Recipe, masks: str, mask: str, unmatched: UnmarkedPolicy | None
) -> tuple[Recipe, UnmarkedPolicy, str]:
    """Parse ``--masks``, ``--mask`` and ``--unmatched``.

    Returns:
        The recipe, which with ``--mask`` scales masks unless it says otherwise; what becomes of
        photos without marks; and a sentence on the change of the recipe, which may be empty.

    Raises:
        BadParameter: the options contradict each other or the recipe.
    """
    if mask and (masks or unmatched):
        other = "--masks" if masks else "--unmatched"
        raise typer.BadParameter(
            f"{other} cannot be combined with --mask, which marks all photos", param_hint="--mask"
        )
    if unmatched == "detect" and not recipe.detect:
        raise typer.BadParameter(
            f"the recipe {recipe.name} does not detect anything; add --set detect.method=text",
            param_hint="--unmatched",
        )
    policy = unmatched or recipe.unmarked_policy
    if not mask or recipe.mask.anchor or "scale_to_photo" in recipe.mask.model_fields_set:
        return recipe, policy, ""
    note = "note: with --mask, mask.scale_to_photo=true is set: the mask is scaled to each photo."
    return recipe.with_options(["mask.scale_to_photo=true"]), policy, note


def parse_run(context: typer.Context, words: Sequence[str], *, name: str = "run") -> typer.Context:
    """Parse arguments and options as ``run`` does.

    Args:
        context: of the running command, which usage errors name.
        words: arguments and options.
        name: of the command: ``run`` or ``detect``.
    """
    run: Any = context.find_root().command
    call: typer.Context = run.commands[name].make_context(
        context.info_name, [*words], parent=context.parent
    )
    return call


def to_words(call: typer.Context, replaced: Mapping[str, str]) -> list[str]:
    """Convert a parsed call back to command line words.

    Args:
        call: see :func:`parse_run`.
        replaced: name of a parameter -> its new value.
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
