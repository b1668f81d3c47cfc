"""The actor pools: the resources of each actor, the nodes it runs on, and the actor counts.

There are three pools, and each step of a recipe names its own (``stages/pipeline.py``): ``cpu``
reads, decodes, fills without models, and stores; ``small_gpu`` removes with a model and encodes
prompts; ``large_gpu`` upscales and refines. The fields of :class:`PoolsOptions` are the defaults. A
TOML file with a table for each pool overrides them (:func:`jobs.driver.placement.load_pools`)::

    wait_s = 600

    [large_gpu]
    max_actors = 16
    gpus = 1
    label_selector = { gpu-tier = "large" }

:func:`cluster.sizing.size_pools` computes the sizes that a run uses from these options and the
cluster's nodes. The deploy files label their nodes to match the default selectors. Each node has
room for at least one actor of its pool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy

#: Per actor. Without restarts a pool shrinks with every actor that dies, and finally hangs. On spot
#: machines actors die often.
_MAX_RESTARTS = 1000

#: What a dead actor had in flight is repeated once in the same pass. Not more often, and not at all
#: where rows go one by one: by Ray's default, a photo that kills its worker is retried forever.
_TASK_RETRIES = 1

#: Blocks that an actor with a GPU works on at once: one's photos are prepared, judged and sent
#: while the other's are computed.
CALLS_PER_GPU_ACTOR = 2

_GIB = 2**30

#: The values that Ray accepts in a label selector: ``a``, ``!a``, ``in(a,b)``, ``!in(a,b)``.
_SELECTOR = re.compile(
    r"(?P<no>!?)(?:in\((?P<any>[\w.-]+(?:, ?[\w.-]+)*)\)|(?P<one>[\w.-]+))", re.ASCII
)


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether the selector matches a node with these labels, by Ray's rules."""
    return all(_matches(value, labels.get(name)) for name, value in selector.items())


def _matches(wanted: str, label: str | None) -> bool:
    parts = _SELECTOR.fullmatch(wanted)
    assert parts, "the pools file was validated"
    values = re.split(", ?", parts["any"]) if parts["any"] else [parts["one"]]
    return (label in values) != bool(parts["no"])


def _is_selector(selector: dict[str, str]) -> dict[str, str]:
    for name, value in selector.items():
        if not _SELECTOR.fullmatch(value):
            raise ValueError(f"{name} = {value!r} is none of a, !a, in(a,b), !in(a,b)")
    return selector


LabelSelector = Annotated[dict[str, str], AfterValidator(_is_selector)]


class _Section(BaseModel):
    """A table of the pools file. It is immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CpuPoolOptions(_Section):
    """Actors that need no GPU."""

    min_actors: int = Field(1, ge=1)
    """A run waits for this number before it begins, and keeps them until it ends. A CPU pool that
    runs all steps starts with an actor for each free CPU, if those are more."""
    max_actors: int | None = Field(None, ge=1)
    """Limit while work queues up. Default: what the cluster and its autoscaler have room for. A CPU
    pool alongside GPU pools has up to 4 actors in each step group for each actor of the GPU pool
    with fewer."""
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


class GpuPoolOptions(CpuPoolOptions):
    """Actors with a model on a GPU; on a cluster without any, their steps run in the CPU pool."""

    gpus: float = Field(1.0, gt=0)
    """Per actor: whole GPUs, or a share of one. If it is not set and there is a single GPU, both
    GPU pools share it."""

    @model_validator(mode="after")
    def _gpus_are_a_share_or_whole(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus = {self.gpus} must be a fraction of one GPU, or a whole number")
        return self


class SmallGpuPoolOptions(GpuPoolOptions):
    """Actors that run removal models and text encoders."""

    label_selector: LabelSelector = {"gpu-tier": "small"}


class LargeGpuPoolOptions(GpuPoolOptions):
    """Actors that run the refiner."""

    label_selector: LabelSelector = {"gpu-tier": "large"}
    memory_gib: float = Field(40.0, ge=0)  # FLUX's weights pass through the host's memory


class NodeType(_Section):
    """A type of node that an autoscaler can add. Ray does not report these."""

    cpus: float = Field(ge=0)
    """Of each node."""
    gpus: float = Field(0.0, ge=0)
    """Of each node."""
    memory_gib: float = Field(0.0, ge=0)
    """Of each node, as Ray gives it to actors: by default 70 % of the machine's; 0: not known."""
    labels: dict[str, str] = {}
    """Of each node."""
    max_nodes: int = Field(1, ge=1)
    """Max number of such nodes at once."""


class PoolsOptions(_Section):
    """All pools of a run.

    A default label selector applies only if a node has a label of that name. Default memory is
    reserved only if a node has that much.
    """

    cpu: CpuPoolOptions = CpuPoolOptions()
    small_gpu: SmallGpuPoolOptions = SmallGpuPoolOptions()
    large_gpu: LargeGpuPoolOptions = LargeGpuPoolOptions()
    nodes: dict[str, NodeType] = {}
    """By the name of the autoscaler's node type (of the worker group, on Kubernetes)."""
    wait_s: float = Field(1800.0, gt=0)
    """Max seconds that a run waits for its first actors, while nodes start and fetch weights."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """The size of one actor pool in a run.

    Attributes:
        min_actors: started with the run, which waits for them.
        max_actors: limit while work queues up.
        cpus: of each actor; fractions are allowed.
        gpus: of each actor; fractions are allowed.
        memory_gib: memory that each actor reserves on its node; 0: none.
        label_selector: labels of the nodes it runs on, in Ray's syntax; empty: any node.
        tasks_in_flight: blocks sent ahead to each actor. With one, Ray never scales up.
        concurrent_calls: blocks that each actor works on at once, in threads.
        task_retries: how often a task is repeated whose actor died.
        actors_that_fit: number of actors for which the nodes that are up have room.
    """

    min_actors: int
    max_actors: int
    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float = 0.0
    label_selector: Mapping[str, str] = field(default_factory=dict)
    tasks_in_flight: int = 2
    concurrent_calls: int = 1
    task_retries: int = _TASK_RETRIES
    actors_that_fit: int = 0

    @property
    def actors_at_start(self) -> int:
        """The number of actors with which a pass starts: those for which nodes are up."""
        return max(self.min_actors, self.actors_that_fit)

    def one_by_one(self, rows: int) -> PoolSize:
        """The same pool for rows that may kill their worker: none is sent ahead or retried.

        It cannot grow, so it starts at its max size, or with an actor for each row.
        """
        start = min(self.actors_at_start, self.max_actors, rows)
        return replace(
            self, min_actors=start, tasks_in_flight=1, concurrent_calls=1, task_retries=0
        )

    def strategy(self) -> ActorPoolStrategy:
        """The ``compute=`` argument for Ray Data."""
        from ray.data import ActorPoolStrategy

        return ActorPoolStrategy(
            min_size=self.min_actors,
            max_size=self.max_actors,
            max_tasks_in_flight_per_actor=self.tasks_in_flight * self.concurrent_calls,
            max_concurrent_calls_per_actor=self.concurrent_calls,
            enable_true_multi_threading=True,
        )

    def actor_options(self) -> dict[str, Any]:
        """The remote arguments of each actor, for Ray Data.

        The ledger shows which rows are pending after the retries.
        """
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "max_restarts": _MAX_RESTARTS,
            "max_task_retries": self.task_retries,
        }
        if self.memory_gib:
            options["memory"] = int(self.memory_gib * _GIB)
        if self.label_selector:
            options["label_selector"] = dict(self.label_selector)
        return options

    def bundle(self) -> dict[str, float]:
        """The resources of one actor, as a bundle of a placement group."""
        options = self.actor_options()
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        return {name: options[each] for name, each in names.items() if options.get(each)}
