"""What `estimate` predicts of a run on a simulated cluster, held against the run.

The cluster is :mod:`cluster.simulate`'s: Ray's real autoscaler and scheduler, pretended nodes, and
stand-ins for the models that wait. How long its nodes and actors take to start is measured by a
short run; a longer one, with other times and more nodes, is then predicted, and run.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from rich.console import Console

from cluster.pools import Pools
from cluster.simulate import POOLS, simulated_cluster
from jobs.bench.judge import load_photo
from jobs.demo import MANIFEST
from jobs.estimate.calibration import Calibration
from jobs.estimate.capacity import site_of
from jobs.estimate.simulation import Simulated, simulate
from jobs.estimate.work import Part, StepTime
from jobs.run import run
from jobs.stand_ins import StandIns, read_traces
from stages.recipe import Recipe

#: Of each shard, and so of each block: few blocks, since on a busy machine it takes Ray up to a
#: second to hand over each.
_ROWS = 10

#: Small ones, so that CPUs are no bottleneck: that is the stand-ins' part.
_PHOTO_PX = (64, 48)

#: Of such a photo, in s: nearly nothing beside a stand-in's.
_CPU_S = 0.02

#: A node that is stopped while its first actor starts is missed for ever.
_IDLE_S = 30.0

#: Which part of the job refines.
_REFINING = 2


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
        stand_ins: for the models; where they leave their traces is chosen here.
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
        assert outcome.exit_code == 0, outcome
        return _trace(folder, began, time.time())


def _trace(folder: Path, began: float, ended: float) -> Trace:
    actors = read_traces(folder)
    firsts = sorted(float(times[0, 0]) - began for times in actors)
    last = max(float(times[-1, 1]) for times in actors)
    return Trace(tuple(firsts), last - began, ended - began)


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


def fixed(large: int) -> Pools:
    """The simulated cluster's pools, with one actor that removes, and so many that refine."""
    sizes = {"min_actors": large, "max_actors": large}
    return POOLS.model_copy(
        update={
            "small_gpu": POOLS.small_gpu.model_copy(update={"max_actors": 1}),
            "large_gpu": POOLS.large_gpu.model_copy(update=sizes),
        }
    )


def predict(photos: int, stand_ins: StandIns, pools: Pools, start_s: float = 0.0) -> Simulated:
    """What `estimate` makes of such a run.

    Args:
        photos: how many.
        stand_ins: for the models.
        pools: with the nodes that there may be.
        start_s: from the command until the first photo is begun.
    """
    parts = [
        Part("cpu", [StepTime("decode", (), _CPU_S)]),
        Part("small_gpu", [StepTime("remove", (), stand_ins.remove_s)]),
        Part("large_gpu", [StepTime("refine", (), stand_ins.refine_s)]),
        Part("cpu", [StepTime("encode", (), _CPU_S)]),
    ]
    steps = stand_ins(Recipe.load("telea"), "")
    site = site_of(
        pools, Calibration.load(), dict.fromkeys(pools.nodes, 0.0), 0.0, steps=steps, rows=photos
    )
    site = replace(
        site,
        nodes=[replace(each, start_s=start_s) for each in site.nodes],
        actor_start_s=dict.fromkeys(site.actor_start_s, 0.0),
        driver_start_s=0.0,
    )
    return simulate(parts, site, photos, _ROWS)


def busy_s(found: Simulated) -> float:
    """From the first refined photo's beginning to the last one's end."""
    began, ended = found.busy[_REFINING]
    return ended - began


def check(photos: int = 90) -> Iterator[Checked]:
    """Predict and run jobs of which either kind of GPU is the bottleneck; some minutes.

    A short run with the same pools tells how long these take to start and to end.
    """
    pools = fixed(3)
    few, short = 30, StandIns(0.1, 0.5)
    known = traced_run(few, short, pools)
    start_s = known.began[0] - predict(few, short, pools).busy[_REFINING][0]
    end_s = known.seconds - known.ended
    for bottleneck, stand_ins in (
        ("refining", StandIns(0.1, 1.5)),
        ("removing", StandIns(0.6, 0.5)),
    ):
        found = predict(photos, stand_ins, pools, start_s)
        measured = traced_run(photos, stand_ins, pools)
        yield Checked(f"{bottleneck}: first photo to last", busy_s(found), measured.busy_s)
        whole_s = found.busy[_REFINING][1] + end_s
        yield Checked(f"{bottleneck}: whole run", whole_s, measured.seconds)
