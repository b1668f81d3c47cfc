"""The actor pools: how many actors, and what each one takes of its machine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy


#: Of each actor. Without restarts a pool shrinks with every death, and at last hangs; on spot
#: machines deaths are many.
_MAX_RESTARTS = 1000


@dataclass(frozen=True, slots=True)
class PoolSize:
    """One pool of actors.

    Attributes:
        min_actors: started with the run.
        max_actors: reached when work queues up.
        cpus: of each actor; fractions are allowed.
        gpus: of each actor; fractions are allowed.
        tasks_in_flight: shards or blocks sent ahead to each actor. With one, Ray never scales up.
    """

    min_actors: int
    max_actors: int
    cpus: float = 1.0
    gpus: float = 0.0
    tasks_in_flight: int = 2

    def strategy(self) -> ActorPoolStrategy:
        """As Ray Data's ``compute=``."""
        from ray.data import ActorPoolStrategy  # noqa: PLC0415 - slow to load

        return ActorPoolStrategy(
            min_size=self.min_actors,
            max_size=self.max_actors,
            max_tasks_in_flight_per_actor=self.tasks_in_flight,
        )

    def actor_options(self) -> dict[str, Any]:
        """As Ray Data's remote arguments of each actor.

        A dead actor is started again, but its task is not: Ray's default would run a photo that
        kills its worker for ever. The ledger tells which rows are still missing.
        """
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "max_restarts": _MAX_RESTARTS,
            "max_task_retries": 0,
        }


def default_pools(
    cpus: float, gpus: float, shards: int, used: Collection[str]
) -> dict[str, PoolSize]:
    """Pools for a cluster.

    Where only CPUs are used, one actor on each, but no more than there are shards. Of GPUs a fifth
    removes and the others refine, which takes far longer; a single one does both. The CPUs that
    GPU actors leave are shared by the two CPU pools, before and behind the models.

    Args:
        cpus: of the whole cluster.
        gpus: of the whole cluster.
        shards: to be worked on.
        used: names of the pools that the recipe's steps run in.
    """
    if set(used) == {"cpu"}:
        actors = max(min(int(cpus), shards), 1)
        return {"cpu": PoolSize(min_actors=actors, max_actors=actors)}
    small = max(int(gpus) // 5, 1) if gpus >= 2 else 1
    large = max(int(gpus) - small, 1)
    share = 1.0 if gpus >= 2 else 0.5
    left = max(int(cpus - small - large) // 2, 1)
    return {
        "cpu": PoolSize(1, left),
        "small_gpu": PoolSize(1, small, gpus=share),
        "large_gpu": PoolSize(1, large, gpus=share),
    }
