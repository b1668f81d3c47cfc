"""One run: plan, execute the DAG, reconcile, and leave ``run.json``."""

from __future__ import annotations

import json
import platform
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from rich.console import Console

from cluster.local import address_of, cluster_size, ray_session
from cluster.pools import PoolSize, default_pools
from jobs import clean
from jobs.adapt import Job
from jobs.progress import meter
from jobs.weights import prepare
from manifests.errors import ClusterError, DestinationError
from manifests.files import Place
from manifests.ledger import Goal, Tally, drop_superseded, reconcile
from manifests.plan import Plan, destination, make_plan
from manifests.schema import SHARD_SCHEMA
from stages.recipe import Recipe
from stages.step import Step
from stages.weights import with_absolute_paths

if TYPE_CHECKING:
    from ray.data import Dataset

EXIT_ALL_OK, EXIT_UNFINISHED, EXIT_SOME_FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        tally: of the whole plan, earlier runs' rows included.
        seconds: from the command to the end.
        exit_code: 0 all ok, 2 finished with failed rows, 1 not finished.
    """

    tally: Tally
    seconds: float
    exit_code: int


def run(
    manifest: str,
    output: str,
    recipe: Recipe,
    console: Console,
    *,
    retry: Collection[str] = (),
    strict: bool = False,
    rows_per_shard: int | None = None,
    address: str | None = None,
    pools: Mapping[str, PoolSize] | None = None,
    steps: Callable[[Recipe, str], Sequence[Step]] = clean.steps,
) -> Outcome:
    """Clean the photos of a manifest.

    A run on an output that holds results of the same manifest and recipe goes on with the rest.

    Args:
        manifest: path or URI; see :func:`manifests.plan.make_plan`.
        output: folder, local or ``s3://``, for images, lineage and ``run.json``.
        recipe: how.
        console: where progress and the summary go.
        retry: statuses that are done again, e.g. ``{"failed"}``.
        strict: refuse a manifest with unusable rows.
        rows_per_shard: None chooses by the number of rows.
        address: of a Ray cluster; None: the one of ``RAY_ADDRESS``, or a private one.
        pools: actors by pool; None chooses by the cluster.
        steps: of the recipe; others than :func:`jobs.clean.steps` are for tests.

    Raises:
        ManifestError: the manifest is unusable; nothing was started.
        DestinationError: the output belongs to another run, or cannot be written.
        WeightsError: a model is missing or must not be used; nothing was started.
    """
    started = time.monotonic()
    output = destination(output).uri
    recipe = with_absolute_paths(recipe)
    _refuse_other_recipe(output, recipe)
    plan = make_plan(manifest, output, rows_per_shard=rows_per_shard, strict=strict)
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    models = prepare(recipe, console, here=address_of(address) == "local")
    goal = Goal(recipe.hash, run_id=uuid.uuid4().hex[:12], retry=frozenset(retry))
    job = Job(plan, _extra_schema(plan), recipe, goal, steps)
    record = _RunRecord(job, models)
    record.write("running")
    try:
        tally = _execute(job, console, address, pools)
    except BaseException as error:
        record.write("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    outcome = Outcome(tally, time.monotonic() - started, _exit_code(tally))
    record.write("finished" if not tally.missing_count else "unfinished", outcome)
    return outcome


def _execute(
    job: Job, console: Console, address: str | None, pools: Mapping[str, PoolSize] | None
) -> Tally:
    """Run the DAG over unfinished shards, and again over each row that is still missing, alone.

    A worker that dies takes the rows it had in flight with it; alone, all but the one that killed
    it come through. Ends when nothing is missing, or two such passes, in opposite orders, got
    nowhere.
    """
    plan = job.plan
    tally = reconcile(plan, job.goal)
    if not tally.missing_count:
        console.print(f"All {plan.rows} photos were done before.", highlight=False)
        return tally
    console.print(f"{plan.rows} photos, recipe {job.recipe.name}; starting Ray ...", markup=False)
    work = [clean.WorkUnit(shard=shard, id=None) for shard in tally.unfinished]
    with _ray(address) as trouble:
        cpus, gpus = cluster_size()
        job = replace(job, has_gpus=gpus > 0 or bool(pools and len(pools) > 1))
        used = [pool for pool, _ in job.groups()]
        chosen = pools or default_pools(cpus, gpus, len(work), used)
        in_vain = 0
        while True:
            before = tally.missing_count
            with meter(console, before) as shown:
                _drain(clean.build(job, chosen, work), shown.advance)
            tally = reconcile(plan, job.goal)
            alone = work[0]["id"] is not None
            in_vain = in_vain + 1 if alone and tally.missing_count == before else 0
            if not tally.missing_count or in_vain == 2:
                break
            console.print(f"{tally.missing_count} photos lost their worker; each alone ...")
            # None may wait behind the one that kills its worker: it would be lost with it again.
            chosen = {name: replace(size, tasks_in_flight=1) for name, size in chosen.items()}
            missing = tally.missing[:: -1 if in_vain else 1]
            work = [clean.WorkUnit(shard=shard, id=name) for shard, name in missing]
        if tally.missing_count and trouble:
            console.print(f"Ray tells: {trouble[0]}", markup=False, highlight=False)
    if job.goal.retry:
        drop_superseded(plan)
    return tally


@contextmanager
def _ray(address: str | None) -> Iterator[list[str]]:
    try:
        with ray_session(address) as trouble:
            yield trouble
    except ConnectionError as error:
        raise ClusterError("cluster.unreachable", f"{error}.") from error


def _drain(data: Dataset, advance: Callable[[int, int], None]) -> None:
    """Execute the DAG by taking its progress rows.

    Raises:
        DestinationError: an actor could not store its results.
    """
    blocks = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for block in cast("Iterable[pa.Table]", blocks):
        for row in block.to_pylist():
            if row["problem"]:
                raise DestinationError("output.not_writable", row["problem"])
            advance(row["ok"], row["failed"])


def _exit_code(tally: Tally) -> int:
    if tally.missing_count:
        return EXIT_UNFINISHED
    return EXIT_SOME_FAILED if tally.failed or tally.crashed else EXIT_ALL_OK


def _extra_schema(plan: Plan) -> pa.Schema:
    """Types of the manifest's other columns."""
    schema = plan.shard(0).read_table().schema
    return pa.schema([field for field in schema if field.name not in SHARD_SCHEMA.names])


def _refuse_other_recipe(output: str, recipe: Recipe) -> None:
    place = Place.of(output) / "run.json"
    try:
        earlier = json.loads(place.read())
        name, recipe_hash = earlier["recipe"]["name"], earlier["recipe_hash"]
    except FileNotFoundError:
        return
    except (KeyError, TypeError, ValueError):
        raise DestinationError("output.other_run", f"{place.uri} is not of this program.") from None
    except OSError as error:
        raise DestinationError("output.not_writable", f"{place.uri}: {error}.") from error
    if recipe_hash != recipe.hash:
        raise DestinationError(
            "output.other_run",
            f"{output} holds results of the recipe {name} ({recipe_hash}), not {recipe.name} "
            f"({recipe.hash}).",
        )


class _RunRecord:
    """``run.json``: what was run, with what, and how it ended."""

    def __init__(self, job: Job, models: Mapping[str, Any]) -> None:
        self._place = Place.of(job.plan.output) / "run.json"
        self._facts: dict[str, Any] = {
            "run_id": job.goal.run_id,
            "started_at": datetime.now(UTC).isoformat(),
            "manifest": job.plan.manifest,
            "output": job.plan.output,
            "rows": job.plan.rows,
            "shards": job.plan.shards,
            "notes": job.plan.notes,
            "recipe": job.recipe.model_dump(mode="json"),
            "recipe_hash": job.recipe.hash,
            "models": models,
            "versions": {
                "catalog-cleanup": version("catalog-cleanup"),
                "ray": version("ray"),
                "python": platform.python_version(),
            },
        }

    def write(self, status: str, outcome: Outcome | None = None) -> None:
        facts = self._facts | {"status": status}
        if outcome:
            facts |= {
                "finished_at": datetime.now(UTC).isoformat(),
                "seconds": round(outcome.seconds, 3),
                "exit_code": outcome.exit_code,
                "tally": asdict(outcome.tally),
            }
        self._place.write(json.dumps(facts, indent=2).encode())
