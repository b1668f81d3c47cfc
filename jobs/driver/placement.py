"""Sizes the pools of a run for its cluster, and explains what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cluster.nodes import node_groups, used_cpus, wait_for_room
from cluster.pools import PoolSize, PoolsOptions
from cluster.private_ray import StartError
from cluster.session import ray_session
from cluster.sizing import has_gpus, size_pools, unplaced
from jobs.pipeline.spec import RunSpec
from manifests.errors import ClusterError
from manifests.toml_files import load_toml

#: The options of a pools' file, or fixed sizes.
RequestedPools = PoolsOptions | Mapping[str, PoolSize]

PoolSizer = Callable[[RunSpec, int], Mapping[str, PoolSize]]


def load_pools(path: Path | str) -> PoolsOptions:
    """Read a TOML file with tables and keys as in :class:`cluster.pools.PoolsOptions`.

    Raises:
        ClusterError: ``cluster.bad_pools``: the file is missing or invalid.
    """
    return load_toml(PoolsOptions, Path(path), "cluster.bad_pools")


def start_timeout_s(pools: RequestedPools) -> float:
    """How long a run waits for its first actors, s."""
    return (pools if isinstance(pools, PoolsOptions) else PoolsOptions()).wait_s


@contextmanager
def connected(address: str | None, wait_s: float = -1.0) -> Iterator[list[str]]:
    """Connect to Ray within the block, see :func:`cluster.session.ray_session`.

    Raises:
        ClusterError: ``cluster.unreachable``: there is no cluster, or it denies access;
            ``cluster.not_started``: a private Ray does not start here.
    """
    try:
        with ray_session(address, wait_s) as ray_errors:
            yield ray_errors
    except ConnectionError as error:
        raise ClusterError("cluster.unreachable", f"{error}.") from error
    except StartError as error:
        raise ClusterError("cluster.not_started", f"Ray: {error}.") from error


def fit_to_cluster(
    spec: RunSpec, pools: RequestedPools, log: Callable[[str], None]
) -> tuple[RunSpec, PoolSizer]:
    """Fit a run to the cluster that this process is connected to.

    Args:
        spec: the run.
        pools: the requested pools.
        log: called with each note for the user, once.

    Returns:
        The spec with ``has_gpus`` set; and a function that sizes the pools for a spec and a number
        of rows, by the nodes at the time of the call.
    """
    if not isinstance(pools, PoolsOptions):
        return replace(spec, has_gpus=len(pools) > 1), lambda *_: pools
    spec = replace(spec, has_gpus=has_gpus(node_groups(pools.nodes)))
    taken = used_cpus()
    logged: set[str] = set()

    def sizer(spec: RunSpec, rows: int) -> Mapping[str, PoolSize]:
        step_groups = [pool for pool, _ in spec.step_groups()]
        sizing = size_pools(pools, node_groups(pools.nodes), step_groups, rows, taken)
        if sizing.problems:
            raise ClusterError("cluster.too_small", " ".join(sizing.problems))
        for note in sizing.notes:
            if note not in logged:
                log(f"note: {note}")
        logged.update(sizing.notes)
        if _missing(sizing.sizes, step_groups):
            log("Waiting for nodes ...")
            if not wait_for_room(sizing.sizes, step_groups, pools.wait_s):
                raise _start_timeout(sizing.sizes, step_groups)
        return sizing.sizes

    return spec, sizer


@contextmanager
def explain_start_timeout(spec: RunSpec, sizes: Mapping[str, PoolSize]) -> Iterator[None]:
    """Report what is missing when Ray Data times out waiting for the first actors."""
    from ray.exceptions import GetTimeoutError

    try:
        yield
    except GetTimeoutError as error:
        raise _start_timeout(sizes, [pool for pool, _ in spec.step_groups()]) from error


def _missing(sizes: Mapping[str, PoolSize], step_groups: Sequence[str]) -> list[str]:
    """Problems of placing the pools on the nodes that are up now."""
    up = [replace(node, max_nodes=node.up) for node in node_groups({})]
    return unplaced(sizes, up, step_groups)


def _start_timeout(sizes: Mapping[str, PoolSize], step_groups: Sequence[str]) -> ClusterError:
    reason = (
        " ".join(_missing(sizes, step_groups)) or "The nodes are up, but busy or loading models."
    )
    return ClusterError("cluster.too_small", f"The first actors did not start in time. {reason}")
