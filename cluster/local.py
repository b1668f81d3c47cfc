"""Connect to the cluster a job was submitted to, or start a private one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from manifests.errors import ClusterError


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Have Ray within the block, and let go of it after.

    Args:
        address: of a running cluster. None takes the one in ``RAY_ADDRESS``, which ``ray job
            submit`` sets; where that is not set either, a private Ray is started and ended here.

    Raises:
        ClusterError: ``cluster.unreachable``.
    """
    import ray  # noqa: PLC0415 - slow to load

    # A driver under `uv run` would have Ray build a second environment for the workers, in which
    # relative paths and edited files are others.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(
            address,
            include_dashboard=False if address == "local" else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, ray.exceptions.RaySystemError, ValueError) as error:
        raise ClusterError("cluster.unreachable", f"Ray at {address}: {error}.") from error
    _configure_data()
    try:
        yield
    finally:
        ray.shutdown()


def cluster_cpus() -> float:
    """CPUs of all nodes that are up now."""
    import ray  # noqa: PLC0415 - as above

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 1.0)


def _configure_data() -> None:
    from ray.data import DataContext  # noqa: PLC0415 - as above

    context = DataContext.get_current()
    context.enable_progress_bars = False  # we print our own
    context.max_errored_blocks = -1  # the rest goes on; what is missing is found by the ledger
    context.target_max_block_size = 32 << 20  # about eight photos between two pools
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its own log file keeps the rest
