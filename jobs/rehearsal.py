"""A run on a simulated cluster, to look at: its pools grow and shrink, and its nodes with them."""

from __future__ import annotations

import csv
import io
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from rich.console import Console

from cluster.simulate import POOLS, SimulatedCluster, simulated_cluster
from jobs.demo import MANIFEST
from jobs.run import Outcome, run
from jobs.stand_ins import StandIns
from stages.recipe import Recipe

_LOOK_EVERY_S = 0.5


def rehearse(console: Console, photos: int, stand_ins: StandIns) -> Outcome:
    """Clean the demo photos over and over on a simulated cluster, and tell which nodes there are.

    Args:
        console: where progress goes; not the standard output as it is looked up when used, on which
            Ray tells at length of each node that is stopped.
        photos: how many.
        stand_ins: for the models.
    """
    with (
        redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory(prefix="catalog-cleanup-") as folder,
        simulated_cluster() as cluster,
        _nodes_told(cluster, console),
    ):
        outcome = run(
            _write_manifest(Path(folder), photos),
            f"{folder}/out",
            Recipe.load("telea"),
            console,
            address=cluster.address,
            pools=POOLS,
            steps=stand_ins,
            rows_per_shard=2,  # tasks enough for several actors
        )
        while cluster.counts():
            time.sleep(_LOOK_EVERY_S)
    return outcome


def _write_manifest(folder: Path, photos: int) -> str:
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "mask"])
        for number in range(photos):
            row = rows[number % len(rows)]
            files = (MANIFEST.parent / row[name] for name in ("image", "mask"))
            writer.writerow([f"{number:05d}", *files])
    return str(path)


@contextmanager
def _nodes_told(cluster: SimulatedCluster, console: Console) -> Iterator[None]:
    """Tell the nodes of each type whenever they change, within the block and at its end."""
    ended = threading.Event()

    def tell() -> None:
        told = ""
        while not ended.wait(_LOOK_EVERY_S):
            counts = sorted(cluster.counts().items())
            text = ", ".join(f"{count} x {name}" for name, count in counts) or "no workers"
            if text != told:
                console.print(f"nodes: {text}", highlight=False)
            told = text

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
        time.sleep(2 * _LOOK_EVERY_S)
    finally:
        ended.set()
        thread.join()
