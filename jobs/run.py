"""One run: plan, execute the DAG, reconcile, and write the run's record."""

from __future__ import annotations

import platform
import re
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

from rich.console import Console

from cluster.pools import PoolSize, PoolsOptions
from cluster.session import address_of, submitted_job
from jobs.driver.cost import Cost, node_groups_up
from jobs.driver.heartbeat import Heartbeat, graceful_stop, heartbeat
from jobs.driver.passes import execute
from jobs.driver.placement import connected, fit_to_cluster, start_timeout_s
from jobs.driver.progress import format_count
from jobs.pipeline.changed_inputs import mark_stale
from jobs.pipeline.pending import count_unusable, extra_schema, limit_rows
from jobs.pipeline.spec import RunSpec
from jobs.preflight import check_weights, to_download
from manifests import runs
from manifests.errors import CatalogCleanupError, OutputError
from manifests.ledger import Ledger, RetryPolicy, Tally, reconcile, set_aside
from manifests.planning.pairing import UnmarkedPolicy
from manifests.planning.plan import Plan, load_plan, make_plan, resolve_output
from stages.pipeline import steps as steps_of_recipe
from stages.recipe import Recipe
from stages.steps.base import Step
from stages.weights.resolve import with_absolute_paths

#: Up to this number of finished rows, changed inputs are detected before Ray starts: if nothing is
#: pending, it need not start.
_MAX_CHECKED_HERE = 5000
_CHECK_THREADS = 8

#: 2 is wrong usage.
EXIT_ALL_OK, EXIT_UNFINISHED, EXIT_SOME_FAILED = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run.

    Attributes:
        tally: counts of its shards, including rows of earlier runs.
        seconds: duration of the command.
        exit_code: 0 all ok, 3 finished with failed rows, 1 not finished.
        recipe_hash: of the recipe, with the content of its weights.
    """

    tally: Tally
    seconds: float
    exit_code: int
    recipe_hash: str


def run(
    manifest: str,
    output: str,
    recipe: Recipe,
    console: Console,
    *,
    retry: Collection[str] = (),
    limit: int | None = None,
    shards: str = "",
    check_inputs: bool = True,
    strict: bool = False,
    rows_per_shard: int | None = None,
    unmarked: UnmarkedPolicy | None = None,
    mask: str = "",
    masks: str = "",
    address: str | None = None,
    pools: PoolsOptions | Mapping[str, PoolSize] | None = None,
    prices: Mapping[str, float] | None = None,
    steps: Callable[[Recipe, str], Sequence[Step]] = steps_of_recipe,
) -> Outcome:
    """Clean the photos of a manifest.

    If the output folder has results of the same manifest and recipe, the run continues with the
    pending rows. Results of other recipes have their own folders.

    Args:
        manifest: path or URI; see :func:`manifests.planning.plan.make_plan`.
        output: folder, local or ``s3://``, for images, lineage and the run's record.
        recipe: the recipe to apply.
        console: where to print progress; without markup, since ids may look like it.
        retry: statuses of rows to redo, e.g. ``{"failed"}``.
        limit: max number of pending photos to clean, spread evenly over the shards; None: all.
        shards: the shards to process, as ``0-99,150``; empty: all. With it, several runs can share
            a manifest.
        check_inputs: redo photos whose files changed since they were done.
        strict: refuse a manifest with unusable rows.
        rows_per_shard: None chooses by the number of rows.
        unmarked: what becomes of rows without marks; None: they are searched if the recipe detects,
            otherwise they fail.
        mask: one mask for rows without marks, see :func:`manifests.planning.plan.make_plan`.
        masks: masks to pair with them by name, likewise.
        address: of a Ray cluster; None: the one of ``RAY_ADDRESS``, or a private one.
        pools: resources and max number of actors; None: the defaults. Fixed sizes by pool are for
            tests.
        prices: node group -> dollars per node-hour; None: costs are not reported.
        steps: builds the steps of the recipe; replaced only in tests.

    Raises:
        ManifestError: the manifest is unusable; nothing was started.
        OutputError: the output belongs to another manifest, cannot be written, or is in use by
            another run.
        StorageError: a storage does not respond, or denies access.
        WeightsError: a model is missing or must not be used, and nothing was started; or it cannot
            be loaded, and no row was processed.
        ClusterError: the cluster cannot be reached, or is too small; no row was processed.
    """
    started = time.monotonic()
    output = resolve_output(output).uri
    pools = pools or PoolsOptions()
    recipe = with_absolute_paths(recipe)
    plan = make_plan(
        manifest,
        output,
        rows_per_shard=rows_per_shard,
        strict=strict,
        unmarked=unmarked or recipe.unmarked_policy,
        mask=mask,
        masks=masks,
    )
    numbers = parse_shards(shards, plan) if shards else range(plan.shards)
    for note in plan.notes:
        console.print(f"note: {note}")
    recipe, models = check_weights(recipe, console, here=address_of(address) == "local")
    images = f"{output}/images/{recipe.label}"
    content = {
        "manifest": plan.manifest,
        "mask": mask,
        "masks": masks,
        "unmarked": plan.unmarked,
        "output": output,
        "rows": plan.rows,
        "shards": plan.shards,
        "only_shards": numbers if shards else None,
        "limit": limit,
        "retry": sorted(retry),
        "notes": plan.notes,
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash,
        "images": images,
        "models": models,
        "job": submitted_job(),
        "versions": {
            "catalog-cleanup": version("catalog-cleanup"),
            "ray": version("ray"),
            "python": platform.python_version(),
        },
    }
    if retry and recipe.hash not in runs.latest_by_recipe(output):
        text = (
            f"note: {output} has no results of this recipe and its options: --retry has no effect."
        )
        console.print(text, highlight=False)
    record = runs.claim(output, content)
    cost = Cost(prices, node_groups_up) if prices else None
    status = "failed"
    try:
        with heartbeat(record) as heart:
            runs.raise_if_running(record, console.print)
            retry_policy = RetryPolicy(record.run_id, frozenset(retry))
            extra = extra_schema(plan.shard_file(0).read_table().schema)
            spec = RunSpec(plan, extra, recipe, retry_policy, steps, check_inputs=check_inputs)
            beyond = 0
            if limit is not None:
                spec, beyond = limit_rows(spec, numbers, limit)
                numbers = numbers if spec.plan.only is None else sorted(spec.plan.only)
            tally = _execute(spec, numbers, console, address, pools, heart=heart, cost=cost)
            if beyond:
                console.print(f"--limit left out {format_count(beyond, 'photo')} without a result.")
        status = "unfinished" if tally.pending_count or tally.superseded_by_shard else "finished"
        if tally.pending_count and heart.is_stopping:
            status = "stopped"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except CatalogCleanupError as error:
        status = "refused" if error.code == "output.in_use" else "failed"
        raise
    finally:
        runs.release(record)
        if status in ("failed", "refused", "interrupted"):
            with suppress(CatalogCleanupError):  # the first error is the one to report
                record.write(status=status, finished_at=_now())
    outcome = Outcome(tally, time.monotonic() - started, _exit_code(tally), recipe.hash)
    record.write(
        status=status,
        finished_at=_now(),
        seconds=round(outcome.seconds, 3),
        exit_code=outcome.exit_code,
        tally=_counts(tally),
        cost_usd=round(cost.total_usd, 4) if cost else None,
    )
    return outcome


def dry_run(
    manifest: str,
    output: str,
    recipe: Recipe,
    console: Console,
    *,
    retry: Collection[str] = (),
    limit: int | None = None,
    shards: str = "",
    check_inputs: bool = True,
    strict: bool = False,
    rows_per_shard: int | None = None,
    unmarked: UnmarkedPolicy | None = None,
    mask: str = "",
    masks: str = "",
    address: str | None = None,
) -> None:
    """Print what :func:`run` would do with the same arguments; stores and starts nothing.

    Raises:
        ManifestError: as :func:`run`.
        OutputError: likewise.
        WeightsError: likewise, as far as can be checked without downloading weights.
    """
    path = resolve_output(output)
    here = address_of(address) == "local"
    recipe, used = check_weights(with_absolute_paths(recipe), console, here=here, download=False)
    with tempfile.TemporaryDirectory() as folder:
        where = path.uri if load_plan(path.uri) else folder
        plan = make_plan(
            manifest,
            where,
            rows_per_shard=rows_per_shard,
            strict=strict,
            unmarked=unmarked or recipe.unmarked_policy,
            mask=mask,
            masks=masks,
            results=path.uri,
        )
        numbers = parse_shards(shards, plan) if shards else range(plan.shards)
        ledger, policy = Ledger(path.uri, recipe.hash), RetryPolicy("", frozenset(retry))
        tally = reconcile(plan, ledger, policy, numbers)
        usable = tally.pending_count - count_unusable(plan, ledger, policy, tally.pending_by_shard)
    count = min(limit or usable, usable)
    verb = "cleaned" if recipe.fills else "searched"
    names = [f"  {count:>8}  {code}" for code, count in sorted(plan.rejected.items())]
    lines = [f"note: {note}" for note in plan.notes]
    lines += [f"manifest: {format_count(plan.rows, 'row')} in {format_count(plan.shards, 'shard')}"]
    lines += [f"unusable, would be recorded as failed: {sum(plan.rejected.values())}", *names]
    lines += [f"to download first: {each}" for each in to_download(used, here=here)]
    known = all(each["pin"] for each in used.values())
    if not known:
        lines += ["not known before that: what is already done, and the folder of the results"]
    lines += [f"already done: {tally.ended} of {tally.rows}"] if known else []
    lines += [f"would be {verb} by recipe {recipe.name}: {count}"]
    if check_inputs and tally.ended:
        lines += [f"not checked: photos that are done and have changed would be {verb} again"]
    folder = f"{path.uri}/{'images' if recipe.fills else 'masks'}/{recipe.label}/"
    lines += [f"results: {folder}"] if known else []
    for line in lines:
        console.print(line)


def _execute(
    spec: RunSpec,
    shards: Collection[int],
    console: Console,
    address: str | None,
    pools: PoolsOptions | Mapping[str, PoolSize],
    *,
    heart: Heartbeat,
    cost: Cost | None,
) -> Tally:
    """Reconcile, run the passes if rows are pending, and reconcile again."""
    tally = _repair(
        spec, shards, reconcile(spec.plan, spec.ledger, spec.retry_policy, shards), console
    )
    if spec.check_inputs and tally.ended <= _MAX_CHECKED_HERE:
        with ThreadPoolExecutor(_CHECK_THREADS) as pool:
            changed = sum(pool.map(lambda shard: mark_stale(spec, shard), shards))
        if changed:
            tally = reconcile(spec.plan, spec.ledger, spec.retry_policy, shards)
        spec = replace(spec, check_inputs=False)
    if not tally.pending_count and not spec.check_inputs:
        console.print(f"0 of {format_count(tally.rows, 'photo')} are left to do.")
        return tally
    photos = f"{tally.pending_count} of {tally.rows} photos"
    console.print(f"{photos}, recipe {spec.recipe.name}; starting Ray ...")
    with (
        connected(address, start_timeout_s(pools)) as ray_errors,
        graceful_stop(heart, console.print),
    ):
        if cost:
            heart.on_beat = cost.accrue
        spec, size_pools = fit_to_cluster(spec, pools, console.print)
        tally = execute(
            spec,
            shards,
            tally,
            size_pools=size_pools,
            ray_errors=ray_errors,
            heartbeat=heart,
            console=console,
        )
        tally = _repair(spec, shards, tally, console)
        if tally.pending_count and ray_errors:
            console.print(f"Ray reported: {ray_errors[0]}")
        if cost:
            cost.accrue()
            console.print(f"The nodes cost ${cost.total_usd:.2f} during the run.")
    return tally


def _repair(spec: RunSpec, shards: Collection[int], tally: Tally, console: Console) -> Tally:
    """Repair what a killed run left: set damaged files aside, remove superseded rows."""
    for file in tally.damaged:
        text = f"note: {file.uri} is damaged; it is set aside, and its photos are redone."
        console.print(text)
        set_aside(file)
    for shard in tally.superseded_by_shard:
        spec.ledger.compact(shard)
    if not tally.damaged and not tally.superseded_by_shard:
        return tally
    return reconcile(spec.plan, spec.ledger, spec.retry_policy, shards)


def parse_shards(text: str, plan: Plan) -> list[int]:
    """Parse a selection of a plan's shards.

    Args:
        text: numbers and ranges, such as ``0-99,150``; ranges include both ends.
        plan: the plan that has the shards.

    Returns:
        Their numbers, ascending and unique.

    Raises:
        OutputError: ``output.no_such_shard``: there is no such shard, or the text is invalid.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < plan.shards:
            raise OutputError(
                "output.no_such_shard",
                f"{part.strip()!r} is not a shard of {plan.output}, which has {plan.shards}.",
            )
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def _exit_code(tally: Tally) -> int:
    if tally.pending_count or tally.superseded_by_shard:
        return EXIT_UNFINISHED
    return EXIT_SOME_FAILED if tally.failed or tally.crashed else EXIT_ALL_OK


def _counts(tally: Tally) -> dict[str, object]:
    """The counts of a tally, for ``run.json``."""
    pending = {"missing": tally.pending, "missing_count": tally.pending_count}
    return tally.ended_counts() | pending | {"superseded": tally.superseded_by_shard}


def _now() -> str:
    return datetime.now(UTC).isoformat()
