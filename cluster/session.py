"""Connect to the cluster a job was submitted to, or start a private one on this machine."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from cluster.causes import cause_of
from cluster.listening import check_listening
from cluster.private_ray import first_line, silent_stderr, start, temporary_token

_ENVIRONMENT = {
    # A driver under `uv run` would have Ray copy the working folder and build a second environment
    # for the workers, in which relative paths and edited files are others.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's C++ half logs to the terminal what Ray Data deals with, such as actors that restart.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A pool waits for the next one from the first block on, and not when the object stores are half
    # full. Else it works ahead, grows where it is not the bottleneck, and a lost node costs more.
    "RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0",
}

#: A cluster's workers have its environment and not the driver's, but for these. Those of a private
#: Ray have the driver's anyway.
_FORWARDED_VARIABLES = ("CATALOG_CLEANUP_TRUST",)


@contextmanager
def ray_session(address: str | None = None, wait_s: float = -1.0) -> Iterator[list[str]]:
    """Have Ray within the block, and let go of it after.

    Args:
        address: of a running cluster. None takes the one in ``RAY_ADDRESS``, which ``ray job
            submit`` sets; where that is not set either, a private Ray is started and ended here.
        wait_s: for how long Ray Data waits for the first actors of a pool; -1: it does not.

    Yields:
        A list to which the errors are added that Ray Data goes on after, a line each.

    Raises:
        ConnectionError: there is no cluster at the address, or it does not accept the token.
        StartError: a private Ray does not start on this machine.
    """
    prepare_environment()
    import ray  # slow to load, and it reads its environment when it is

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
    """Connect to a cluster; raises ConnectionError."""
    import ray

    there = _job_config().get("runtime_env", {}).get("env_vars", {})  # Ray refuses them twice
    names = [name for name in _FORWARDED_VARIABLES if name in os.environ and name not in there]
    passed_on = {name: os.environ[name] for name in names}
    try:
        check_listening(address)
        with silent_stderr():
            ray.init(address, runtime_env={"env_vars": passed_on} if passed_on else None, **options)
    except Exception as error:  # Ray raises a dozen kinds, and plain Exceptions
        raise ConnectionError(f"Ray at {address}: {first_line(error)}") from error


def prepare_environment() -> None:
    """Set what Ray reads when it is loaded; to be called before that, by whoever is first."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def address_of(address: str | None) -> str:
    """Where Ray is: as given, or by ``RAY_ADDRESS``, or ``local``, a private one."""
    return address or os.environ.get("RAY_ADDRESS", "local")


def submitted_job() -> str | None:
    """The submission id of the job that this process is the driver of; None if it is of none."""
    job: str | None = _job_config().get("metadata", {}).get("job_submission_id")
    return job


def _job_config() -> dict[str, Any]:
    """What Ray passes to the driver of a submitted job; empty elsewhere."""
    config: dict[str, Any] = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return config


def _configure_data(wait_s: float) -> _Collector:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False  # we print our own
    context.max_errored_blocks = -1  # the rest goes on; what is missing is found by the ledger
    context.target_max_block_size = 32 << 20  # about eight photos between two pools
    context.wait_for_min_actors_s = wait_s  # type: ignore[assignment] # declared whole, used as it is
    logger = logging.getLogger("ray.data")
    for handler in logger.handlers:
        if handler.get_name() != "file":
            handler.setLevel(logging.CRITICAL)  # Ray's own log file keeps everything
    collector = _Collector()
    logger.addHandler(collector)
    return collector


class _Collector(logging.Handler):
    """Keeps the errors that Ray Data logs and goes on after."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.lines.append(cause_of(error) if error else record.getMessage().partition("\n")[0])
