"""Connects to a Ray cluster, or starts a private one on this machine."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from cluster.private_ray import first_line, silent_stderr, start, temporary_token
from cluster.probe import check_is_ray
from cluster.ray_errors import cause_of

#: Max growth factor of each request for nodes, and max additional GPUs and CPUs: from 1 to 221 GPUs
#: takes 5 requests, not 11, each of which waits until the nodes of the previous one are up. The
#: pools' max_actors limit the total.
MAX_GROWTH, MAX_MORE_GPUS, MAX_MORE_CPUS = 4, 256, 2048

_ENVIRONMENT = {
    # Under `uv run`, Ray would copy the working folder and build a second environment for the
    # workers, in which relative paths and edited files differ.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's C++ part logs to the terminal what Ray Data handles, such as actors that restart.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Apply backpressure from the first block on, not when the object stores are half full. Else a
    # pool runs ahead and grows though it is not the bottleneck, and a lost node costs more work.
    "RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0",
    "RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_FACTOR": str(MAX_GROWTH),
    "RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_MAX_GPU_RESOURCE_DELTA": str(MAX_MORE_GPUS),
    "RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_MAX_CPU_RESOURCE_DELTA": str(MAX_MORE_CPUS),
}


@contextmanager
def ray_session(address: str | None = None, wait_s: float = -1.0) -> Iterator[list[str]]:
    """Connect to Ray within the block, and disconnect after it.

    Args:
        address: address of a running cluster. None uses ``RAY_ADDRESS``, which ``ray job submit``
            sets. If that is not set either, a private Ray is started, and stopped at the end.
        wait_s: max seconds that Ray Data waits for the first actors of a pool; -1: do not wait.

    Yields:
        A list to which errors are added that Ray Data logs and continues after, one line each.

    Raises:
        ConnectionError: there is no cluster at the address, or it does not accept the token.
        StartError: a private Ray cannot be started on this machine.
    """
    prepare_environment()
    import ray  # slow to import; reads its environment at import

    address = address_of(address)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with temporary_token() if address == "local" else nullcontext():
        if address == "local":
            start(options)
        else:
            _join(address, options)
        collector = _configure_data(wait_s)
        try:
            yield collector.lines
        finally:
            logging.getLogger("ray.data").removeHandler(collector)
            ray.shutdown()


def _join(address: str, options: Mapping[str, Any]) -> None:
    """Connect to a cluster.

    Raises:
        ConnectionError: see :func:`ray_session`.
    """
    import ray

    try:
        check_is_ray(address)
        with silent_stderr():
            ray.init(address, **options)
    except Exception as error:  # Ray raises a dozen kinds, and plain Exceptions
        raise ConnectionError(f"Ray at {address}: {first_line(error)}") from error


def prepare_environment() -> None:
    """Set the environment variables that Ray reads at import; call this before importing it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def address_of(address: str | None) -> str:
    """The address to use: the argument, else ``RAY_ADDRESS``, else ``local`` (a private Ray).

    An empty value is none.
    """
    return address or os.environ.get("RAY_ADDRESS") or "local"


def submitted_job() -> str | None:
    """The submission id of the job whose driver this process is; None outside of a job."""
    job: str | None = _job_config().get("metadata", {}).get("job_submission_id")
    return job


def _job_config() -> dict[str, Any]:
    """The configuration that Ray passes to the driver of a submitted job; empty elsewhere."""
    config: dict[str, Any] = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return config


def _configure_data(wait_s: float) -> _Collector:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False  # this program prints its own
    context.max_errored_blocks = -1  # continue; the ledger finds the pending rows
    context.target_max_block_size = 32 << 20  # about eight photos
    context.wait_for_min_actors_s = wait_s  # type: ignore[assignment] # declared int, but floats work
    logger = logging.getLogger("ray.data")
    for handler in logger.handlers:
        if handler.get_name() == "console":
            handler.setLevel(logging.CRITICAL)  # Ray's own log file keeps everything
    collector = _Collector()
    logger.addHandler(collector)
    return collector


class _Collector(logging.Handler):
    """Collects the errors that Ray Data logs and continues after."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.lines.append(cause_of(error) if error else record.getMessage().partition("\n")[0])
        # Other handlers may keep the record, as pytest's does. The frames of its traceback refer to
        # this pass's actors, which would stay alive and hold the CPUs that the next pass needs.
        record.exc_info = None
