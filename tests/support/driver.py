"""A run as a process of its own, so that tests can kill it: ``python -m tests.support.driver``."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from rich.console import Console

from jobs.run import run
from manifests.errors import CatalogCleanupError
from stages.recipe import Recipe
from tests.support import faulty_steps as doubles


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("manifest", "output", "address", "log"):
        parser.add_argument(name)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--rows-per-shard", type=int)
    given = parser.parse_args()
    try:
        outcome = run(
            given.manifest,
            given.output,
            Recipe.load("telea"),
            Console(),
            address=given.address,
            rows_per_shard=given.rows_per_shard,
            steps=partial(doubles.watched, log=given.log, pause_s=given.pause),
        )
    except CatalogCleanupError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
