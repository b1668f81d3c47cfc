"""The pools: what each actor takes of a machine, on which machines, and how many there may be.

Three pools exist, and each step of a recipe names its own (``stages/steps/base.py``): ``cpu``
reads, decodes, fills without models, and stores; ``small_gpu`` removes with LaMa and upscales;
``large_gpu`` refines. Their defaults are the fields of :class:`Pools`; a TOML file with a table for
each pool changes some of them (:func:`jobs.pipeline.placement.load_pools`)::

    wait_s = 600

    [large_gpu]
    max_actors = 16
    gpus = 1
    label_selector = { gpu-tier = "large" }

:func:`cluster.sizing.size_pools` makes of them, and of what a cluster has, the sizes that a run
uses. Deploy files label their nodes as these defaults select them, and give each node room for at
least one actor of its pool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy

#: Of each actor. Without restarts a pool shrinks with every death, and at last hangs; on spot
#: machines deaths are many.
_MAX_RESTARTS = 1000

_GIB = 2**30

#: What Ray takes as the value of a label selector: ``a``, ``!a``, ``in(a,b)``, ``!in(a,b)``.
_SELECTOR = re.compile(
    r"(?P<no>!?)(?:in\((?P<any>[\w.-]+(?:, ?[\w.-]+)*)\)|(?P<one>[\w.-]+))", re.ASCII
)


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is one that Ray would choose by the selector."""
    return all(_matches(value, labels.get(name)) for name, value in selector.items())


def _matches(wanted: str, label: str | None) -> bool:
    parts = _SELECTOR.fullmatch(wanted)
    assert parts, "the pools' file was validated"
    values = re.split(", ?", parts["any"]) if parts["any"] else [parts["one"]]
    return (label in values) != bool(parts["no"])


def _is_selector(selector: dict[str, str]) -> dict[str, str]:
    for name, value in selector.items():
        if not _SELECTOR.fullmatch(value):
            raise ValueError(f"{name} = {value!r} is none of a, !a, in(a,b), !in(a,b)")
    return selector


LabelSelector = Annotated[dict[str, str], AfterValidator(_is_selector)]


class _Section(BaseModel):
    """A table of the pools' file: frozen, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CpuPool(_Section):
    """Actors that need no GPU."""

    min_actors: int = Field(1, ge=1)
    """A run waits for this number before it begins, and keeps them until it ends. If all steps run
    in this pool: as many as the cluster has room for at the start, if that is more."""
    max_actors: int | None = Field(None, ge=1)
    """Limit while work queues up. Default: what the cluster and its autoscaler have room for;
    beside GPU pools, 4 in each part per actor of the smaller GPU pool."""
    cpus: float = Field(1.0, gt=0)
    """Per actor; fractions are allowed."""
    memory_gib: float = Field(0.0, ge=0)
    """Memory that each actor reserves on its node; 0: none."""
    label_selector: LabelSelector = {}
    """Labels of the nodes that its actors run on, in Ray's syntax: ``"a"``, ``"!a"``,
    ``"in(a,b)"``, ``"!in(a,b)"``. Empty: on any."""
    tasks_in_flight: int = Field(2, ge=2)
    """Blocks sent ahead to each actor. Below 2, Ray never scales up."""

    @model_validator(mode="after")
    def _min_is_no_more_than_max(self) -> Self:
        if self.max_actors is not None and self.max_actors < self.min_actors:
            raise ValueError(f"max_actors = {self.max_actors} is less than min_actors")
        return self


class GpuPool(CpuPool):
    """Actors with a model on a GPU; on a cluster without any, their steps run in the CPU pool."""

    gpus: float = Field(1.0, gt=0)
    """Per actor: whole GPUs, or a share of one. If it is not set and there is a single GPU, both
    GPU pools share it."""
    batch_size: int | None = Field(None, ge=1, le=256)
    """Max crops per model call; default: the recipe's. Results do not depend on it."""

    @model_validator(mode="after")
    def _gpus_are_a_share_or_whole(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus = {self.gpus} must be a share of one, or whole ones")
        return self


class SmallGpuPool(GpuPool):
    """LaMa, and what enlarges its fills."""

    label_selector: LabelSelector = {"gpu-tier": "small"}


class LargeGpuPool(GpuPool):
    """The refiner."""

    label_selector: LabelSelector = {"gpu-tier": "large"}
    memory_gib: float = Field(40.0, ge=0)  # FLUX's weights pass through the host's memory


class NodeType(_Section):
    """Nodes that an autoscaler may add: Ray does not report which these are."""

    cpus: float = Field(ge=0)
    """Of each node."""
    gpus: float = Field(0.0, ge=0)
    """Of each node."""
    memory_gib: float = Field(0.0, ge=0)
    """Of each node, as Ray gives it to actors: by default 70 % of the machine's; 0: not known."""
    labels: dict[str, str] = {}
    """Of each node."""
    max_nodes: int = Field(1, ge=1)
    """That there may be at once."""


class Pools(_Section):
    """All pools of a run.

    A label selector that is not set, but comes from here, pins a pool only where a node has a label
    of that name; a memory that is not set is reserved only where a node has as much.
    """

    cpu: CpuPool = CpuPool()
    small_gpu: SmallGpuPool = SmallGpuPool()
    large_gpu: LargeGpuPool = LargeGpuPool()
    nodes: dict[str, NodeType] = {}
    """By the name of the autoscaler's node type (of the worker group, on Kubernetes)."""
    wait_s: float = Field(1800.0, gt=0)
    """For how long a run waits for the first actors: nodes have to come up, and to fetch
    weights."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """One pool of actors, as a run uses it.

    Attributes:
        min_actors: started with the run, which waits for them.
        max_actors: reached when work queues up.
        cpus: of each actor; fractions are allowed.
        gpus: of each actor; fractions are allowed.
        memory_gib: that each actor reserves of its node; 0: none.
        label_selector: of its nodes, as Ray selects them; empty: any.
        tasks_in_flight: shards or blocks sent ahead to each actor. With one, Ray never scales up.
        ready_actors: for how many there is room on the nodes that are up.
    """

    min_actors: int
    max_actors: int
    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float = 0.0
    label_selector: Mapping[str, str] = field(default_factory=dict)
    tasks_in_flight: int = 2
    ready_actors: int = 0

    def without_prefetch(self) -> PoolSize:
        """The pool with no block sent ahead, which cannot grow: it begins as large as it can."""
        start = min(max(self.min_actors, self.ready_actors), self.max_actors)
        return replace(self, min_actors=start, tasks_in_flight=1)

    def strategy(self) -> ActorPoolStrategy:
        """As Ray Data's ``compute=``."""
        from ray.data import ActorPoolStrategy

        return ActorPoolStrategy(
            min_size=self.min_actors,
            max_size=self.max_actors,
            max_tasks_in_flight_per_actor=self.tasks_in_flight,
        )

    def actor_options(self) -> dict[str, Any]:
        """As Ray Data's remote arguments of each actor.

        A dead actor is started again, but its task is not: Ray's default would run a photo that
        kills its worker for ever. The ledger knows which rows are missing.
        """
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "max_restarts": _MAX_RESTARTS,
            "max_task_retries": 0,
        }
        if self.memory_gib:
            options["memory"] = int(self.memory_gib * _GIB)
        if self.label_selector:
            options["label_selector"] = dict(self.label_selector)
        return options

    def bundle(self) -> dict[str, float]:
        """What an actor takes, as a bundle of a placement group."""
        options = self.actor_options()
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        return {name: options[each] for name, each in names.items() if options.get(each)}
