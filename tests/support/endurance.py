"""20,000 photos from S3 to S3, and a driver that is killed: ``python -m tests.support.endurance``.

At the end nothing is lost, nothing is there twice, and nothing differs from an undisturbed run of
the same photos. ``tests/faults/test_faults.py`` does the same in small.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.ray_cluster import ray_cluster
from tests.support.s3_server import running
from tests.support.small_catalog import SmallCatalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with running() as server, tempfile.TemporaryDirectory() as name:
        os.environ.update(server.environment)
        catalog = SmallCatalog(server, "endurance", given.photos)
        catalog.store()
        with ray_cluster(server.environment) as cluster:
            first, log = Path(name) / "first", Path(name) / "log"
            started = time.monotonic()
            _finish(catalog, "undisturbed", cluster.address, first)
            seconds = time.monotonic() - started
            _tell(f"{given.photos} photos, undisturbed: {seconds:.0f} s")
            for kill in range(given.kills):
                with _drive(catalog, "disturbed", cluster.address, log) as driver:
                    moment = moments.uniform(0.1, 1.9) * seconds / (given.kills + 1)
                    time.sleep(moment)
                    driver.kill()
                _tell(f"kill {kill + 1} after {moment:.0f} s, {_lines(log)} photos begun so far")
            _finish(catalog, "disturbed", cluster.address, log)
        assert catalog.results("disturbed") == catalog.results("undisturbed")
        _tell(
            f"nothing lost, nothing twice, nothing different; {_lines(log) - given.photos} redone"
        )


def _drive(catalog: SmallCatalog, name: str, address: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.driver", catalog.manifest, catalog.output(name)]
    return subprocess.Popen([*command, address, str(log)], stdout=subprocess.DEVNULL)


def _finish(catalog: SmallCatalog, name: str, address: str, log: Path) -> None:
    with _drive(catalog, name, address, log) as driver:
        assert driver.wait() == 0


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
