"""What `estimate` predicts of a run on a simulated cluster, held against the run.

The cluster is :mod:`cluster.simulate`'s: Ray's real autoscaler and scheduler, pretended nodes, and
stand-ins for the models that wait. How long its nodes and actors take to start is measured by a
short run; a longer one, with other times and more nodes, is then predicted, and run.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from rich.console import Console

from cluster.pools import NodeType, Pools
from cluster.simulate import NODE_TYPES, POOLS, simulated_cluster
from jobs.bench.judge import load_photo
from jobs.demo import MANIFEST
from jobs.estimate.calibration import Calibration, Seconds, Value
from jobs.estimate.capacity import Site, site_of
from jobs.estimate.simulation import simulate
from jobs.estimate.work import Part, StepTime
from jobs.run import run
from jobs.stand_ins import StandIns
from stages.recipe import Recipe

#: Of each shard, and so of each block.
_ROWS = 2

#: Small ones, so that CPUs are no bottleneck: that is the stand-ins' part.
_PHOTO_PX = (64, 48)

#: Of such a photo, in s: nearly nothing beside a stand-in's.
_CPU_S = 0.02

_IDLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Trace:
    """What the actors of the large GPUs did in a run, in s from the command.

    Attributes:
        began: when each of them began its first photo, ascending.
        ended: when the last photo was done.
        seconds: until the run had ended.
    """

    began: tuple[float, ...]
    ended: float
    seconds: float

    @property
    def busy_s(self) -> float:
        """From the first photo's beginning to the last one's end."""
        return self.ended - self.began[0]


@dataclass(frozen=True, slots=True)
class Checked:
    """A prediction beside what was measured, s.

    Attributes:
        what: was predicted.
        predicted: by the simulation of the pools.
        measured: of the run.
    """

    what: str
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """By how much the prediction is wrong, as a share of what was measured."""
        return self.predicted / self.measured - 1


def traced_run(photos: int, stand_ins: StandIns, pools: Pools) -> Trace:
    """Run a job on a simulated cluster that begins without workers.

    Args:
        photos: how many, small ones.
        stand_ins: for the models; where they leave traces is chosen here.
        pools: with the nodes that there may be.
    """
    with (
        redirect_stdout(io.StringIO()),  # on which Ray tells of each node that is stopped
        tempfile.TemporaryDirectory(prefix="catalog-cleanup-") as name,
        simulated_cluster(pools.nodes, _IDLE_S) as cluster,
    ):
        folder = Path(name)
        manifest = _write_catalog(folder, photos)
        began = time.time()
        outcome = run(
            manifest,
            f"{folder}/out",
            Recipe.load("telea"),
            Console(quiet=True),
            address=cluster.address,
            pools=pools,
            steps=replace(stand_ins, trace=folder),
            rows_per_shard=_ROWS,
        )
        ended = time.time()
        assert outcome.exit_code == 0, outcome
        spans = [
            [json.loads(line) for line in file.read_text().splitlines()]
            for file in folder.glob("*.jsonl")
        ]
    firsts = sorted(lines[0][0] - began for lines in spans)
    return Trace(tuple(firsts), max(lines[-1][1] for lines in spans) - began, ended - began)


def _write_catalog(folder: Path, photos: int) -> str:
    """Small photos, each with a box to clean."""
    photo = load_photo(MANIFEST.parent / "photos" / "coffee-stray-coins.jpg")
    width, height = _PHOTO_PX
    lines = ["id,image,boxes"]
    for number in range(photos):
        x, y = divmod(number * 5, 300)
        small = photo[y : y + height, x : x + width, ::-1]
        cv2.imwrite(str(folder / f"{number}.png"), small)
        lines.append(f'{number},{number}.png,"[16, 20, 24, 10]"')
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines))
    return str(path)


if __name__ == "__main__":
    import sys

    def more(n: int) -> Mapping[str, NodeType]:
        large = NODE_TYPES["large_gpu"].model_copy(update={"max_nodes": n})
        return {**NODE_TYPES, "large_gpu": large}

    for args in sys.argv[1:]:
        photos, remove, refine, n = args.split(",")
        t = time.time()
        trace = traced_run(
            int(photos),
            StandIns(float(remove), float(refine)),
            POOLS.model_copy(update={"nodes": more(int(n))}),
        )
        sys.stderr.write(f"{args} {trace} busy {trace.busy_s:.1f} all {time.time() - t:.1f}\n")
