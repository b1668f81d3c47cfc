"""``catalog-cleanup stop``: stops a run gracefully, wherever it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import streams

if TYPE_CHECKING:
    from manifests.runs import RunRecord

_POLL_S = 1.0


def stop(
    output: Annotated[str, typer.Argument(metavar="DEST", help="The --output of the run.")],
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds to wait for photos in flight.")
    ] = 300.0,
) -> None:
    """Stop a run gracefully. Photos in flight are finished and recorded, and no others start.

    The run may be on this machine, another one or a cluster. To end a job of a cluster at once:
    ray job stop JOB --address http://HEAD:8265. Exit codes: 0 no run is active; 1 one is still
    running.
    """
    from jobs.results.recipe_results import reading_runs
    from manifests.errors import OutputError
    from manifests.runs import records
    from manifests.storage.path import StoragePath

    streams.tolerate_lost_output()
    with reading_runs(output):
        folder = StoragePath.of(output).uri
        found = records(folder)
    if not found:
        raise OutputError("output.not_found", f"There is no run at {output}.")
    running = _running(folder)
    for run in running.values():
        typer.echo(f"Run {run.run_id}: finishing the photos in flight ...")
        run.request_stop()
    deadline = time.monotonic() + timeout
    while (left := running.keys() & _running(folder).keys()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    typer.echo("The run has not stopped yet." if left else "No run is active there.")
    raise typer.Exit(1 if left else 0)


def _running(output: str) -> dict[str, RunRecord]:
    """Run id -> record of the active runs on an output folder."""
    from manifests.runs import records, seems_alive

    return {run.run_id: run for run in records(output) if seems_alive(run)}
