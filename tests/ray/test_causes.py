"""Why workers were lost, as the errors of a real Ray report it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.ray_errors import cause_of
from cluster.session import ray_session

#: A node of which the tests themselves take more memory than its workers may have.
_OUT_OF_MEMORY = """
import time
from cluster.ray_errors import cause_of
from cluster.session import prepare_environment
prepare_environment()
import ray
limits = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 50}
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         object_store_memory=80_000_000, _system_config=limits)
@ray.remote(max_retries=0)
def work():
    time.sleep(600)
try:
    ray.get(work.remote())
except ray.exceptions.OutOfMemoryError as error:
    print("cause", cause_of(error))
"""


def test_of_a_chain_of_exceptions_the_innermost_is_reported(ray_address: str) -> None:
    with ray_session(ray_address):
        import ray  # after the session has set what it reads

        @ray.remote(max_retries=0)
        def fail(outer: str) -> None:
            try:
                int("x")
            except ValueError as error:
                if outer:
                    raise RuntimeError(outer) from error
                raise

        for outer in ("", "no number"):
            with pytest.raises(ray.exceptions.RayTaskError) as caught:
                ray.get(fail.remote(outer))
            line = cause_of(caught.value)
            assert line == "ValueError: invalid literal for int() with base 10: 'x'"


def test_of_an_actor_that_died_its_end_is_reported_without_guesses(ray_address: str) -> None:
    with ray_session(ray_address):
        import ray

        @ray.remote(max_restarts=0)
        class Actor:
            def die(self) -> None:
                os._exit(7)

        with pytest.raises(ray.exceptions.RayActorError) as caught:
            ray.get(Actor.remote().die.remote())  # type: ignore[attr-defined] # Ray adds it
        line = cause_of(caught.value)
    assert re.match(r"Actor(Died|Unavailable)Error: The actor .*\w", line)
    assert "exit" in line or "Socket closed" in line
    assert not re.search(r"causes|OOM|actor_id|\n|\t", line)


def test_of_a_worker_that_ran_out_of_memory_the_figures_are_reported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OUT_OF_MEMORY], capture_output=True, text=True, check=False
    )
    (line,) = re.findall(r"^cause (.*)$", done.stdout, re.MULTILINE)
    assert re.match(r"OutOfMemoryError: 1 worker\(s\) were killed due to .*low on memory", line)
    assert re.search(r"Memory usage \d+B exceeded threshold of \d+B", line)
    assert "Object store" not in line


def test_what_is_reported_is_one_line_of_bounded_length() -> None:
    assert cause_of(OSError("a\n  b\tc")) == "OSError: a b c"
    assert len(cause_of(OSError("long " * 1000))) == 500
