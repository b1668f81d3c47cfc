"""What can go wrong around a run, done for real: processes killed, storage stalled, full, locked.

After each fault, and where the run itself did not come through a second one, every id is recorded
exactly once, every picture is byte for byte that of an undisturbed run, and no more was done twice
than was in flight. ``jobs/README.md`` has the table.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from jobs.pipeline import recorder
from jobs.pipeline.actor import PREFETCH_PHOTOS
from jobs.run import Outcome, run
from manifests.errors import CatalogCleanupError
from manifests.ledger import Ledger
from manifests.planning.plan import load_plan, make_plan
from manifests.runs import records
from tests.support import beside, wait_until
from tests.support import faulty_steps as doubles
from tests.support.output_folders import clean_here
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, running
from tests.support.small_catalog import TELEA, SmallCatalog, row_count

_PHOTOS = 160
_ROWS_PER_SHARD = 20
_ACTORS = 2

#: Of each actor: what waits to be recorded, what is read ahead and what is written behind.
_IN_FLIGHT = recorder.ROWS_PER_RECORD + 2 * PREFETCH_PHOTOS + 1

#: How much longer a photo takes where something happens meanwhile.
_PAUSE_S = 0.05

Deed = Callable[[], None]

#: How long S3 is away. A run tries again for 60 s here; what ends that is tested in ``storage/``.
_FAULT_S = 1


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setenv("CATALOG_CLEANUP_RETRY_S", "60")
        yield server


@pytest.fixture(scope="module")
def cluster(server: S3Server) -> Iterator[RayCluster]:
    more = {
        "CATALOG_CLEANUP_RETRY_S": "60",
        # Five refused connections in a row are a dead node: after some seconds, not 15.
        "RAY_health_check_period_ms": "500",
    }
    with ray_cluster(server.environment | more) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def catalog(server: S3Server) -> SmallCatalog:
    catalog = SmallCatalog(server, "faults", _PHOTOS)
    catalog.store()
    return catalog


@pytest.fixture(scope="module")
def undisturbed(catalog: SmallCatalog) -> dict[str, str]:
    output = catalog.output("undisturbed")
    clean_here(catalog.manifest, output, TELEA, rows_per_shard=_ROWS_PER_SHARD)
    return catalog.results("undisturbed")


class Scene:
    """One output and what is done to it."""

    def __init__(self, catalog: SmallCatalog, cluster: RayCluster, name: str, log: Path) -> None:
        self.catalog, self.cluster, self.name, self.log = catalog, cluster, name, log
        self.output = catalog.output(name)

    def run(self, output: str = "", *, pause_s: float = 0.0) -> Outcome:
        return run(
            self.catalog.manifest,
            output or self.output,
            TELEA,
            Console(quiet=True),
            address=self.cluster.address,
            rows_per_shard=_ROWS_PER_SHARD,
            steps=partial(doubles.watched, log=str(self.log), pause_s=pause_s),
        )

    def drive(self) -> subprocess.Popen[bytes]:
        """The same in a process of its own, slowly."""
        command = [sys.executable, "-m", "tests.support.driver", self.catalog.manifest, self.output]
        command += [self.cluster.address, str(self.log), f"--pause={_PAUSE_S}"]
        command += [f"--rows-per-shard={_ROWS_PER_SHARD}"]
        return subprocess.Popen(command)

    @property
    def begun(self) -> list[str]:
        """``id process`` of each photo that was begun, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def workers(self) -> set[int]:
        """The processes that have begun a photo."""
        return {int(line.split()[1]) for line in self.begun}

    def await_begun(self, count: int) -> None:
        wait_until(lambda: len(self.begun) >= count)

    def await_recorded(self, count: int) -> None:
        wait_until(lambda: self.recorded() >= count)

    def recorded(self) -> int:
        return self.catalog.recorded(self.name)

    def lineage(self) -> list[str]:
        """The keys of its lineage files."""
        return self.catalog.keys(f"{self.name}/lineage/")

    @contextmanager
    def sabotaged(self, deed: Deed, after: int = 40) -> Iterator[None]:
        """Do something when so many photos were begun, while the block runs."""

        def sabotage() -> None:
            self.await_begun(after)
            deed()

        with beside(sabotage):
            yield


@pytest.fixture
def scene(
    catalog: SmallCatalog,
    cluster: RayCluster,
    undisturbed: dict[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Scene:
    return Scene(catalog, cluster, request.node.name, tmp_path / "log")


def assert_all_is_well(scene: Scene, undisturbed: dict[str, str], again: int) -> None:
    assert scene.catalog.results(scene.name) == undisturbed
    assert len(scene.begun) - _PHOTOS <= again, "done twice"


def test_a_killed_actor(scene: Scene, undisturbed: dict[str, str]) -> None:
    def kill() -> None:
        os.kill(int(scene.begun[-1].split()[1]), signal.SIGKILL)

    with scene.sabotaged(kill):
        assert scene.run(pause_s=_PAUSE_S).exit_code == 0, "the run itself comes through"
    assert_all_is_well(scene, undisturbed, _IN_FLIGHT)


def test_a_killed_node(scene: Scene, undisturbed: dict[str, str]) -> None:
    with scene.cluster.another_node() as node:

        def kill() -> None:
            wait_until(lambda: any(os.getsid(pid) == node.process.pid for pid in scene.workers))
            node.kill()

        with scene.sabotaged(kill):
            assert scene.run(pause_s=_PAUSE_S).exit_code == 0, "the run itself comes through"
    assert_all_is_well(scene, undisturbed, _IN_FLIGHT)


def test_s3_that_answers_503_that_is_killed_and_that_stalls(
    scene: Scene, undisturbed: dict[str, str], server: S3Server
) -> None:
    """One after another in a single run, which comes through all of it."""

    def disturb() -> None:
        for_a_while(30, lambda: server.slow_down(True), lambda: server.slow_down(False))
        for_a_while(80, server.kill, server.revive)
        for_a_while(120, server.pause, server.resume)

    def for_a_while(begun: int, break_it: Deed, mend_it: Deed) -> None:
        scene.await_begun(begun)
        break_it()
        time.sleep(_FAULT_S)
        is_at_work = len(scene.begun) < _PHOTOS
        mend_it()
        assert is_at_work, f"the fault after {begun} photos came too late"

    with beside(disturb):
        assert scene.run(pause_s=_PAUSE_S).exit_code == 0, "the run itself comes through"
    assert_all_is_well(scene, undisturbed, 0)
    assert len(scene.workers) == _ACTORS, "one for each CPU"


def test_credentials_that_expire(
    scene: Scene, undisturbed: dict[str, str], server: S3Server
) -> None:
    """Misses a token that says itself when it expires: this server does not issue any."""
    with (
        scene.sabotaged(lambda: server.remove_credentials(ACCESS_KEY)),
        pytest.raises(CatalogCleanupError) as caught,
    ):
        scene.run(pause_s=_PAUSE_S)
    assert caught.value.code == "storage.credentials"
    server.add_credentials(ACCESS_KEY, SECRET_KEY)
    plan = load_plan(scene.output)
    assert plan
    for shard in range(plan.shards):
        statuses = Ledger(scene.output, TELEA.hash).latest(shard)["status"]
        assert set(statuses.to_pylist()) <= {"ok"}, "no row is blamed"
    assert scene.run().exit_code == 0
    assert_all_is_well(scene, undisturbed, _ACTORS * _IN_FLIGHT)


def test_a_full_disk(scene: Scene, undisturbed: dict[str, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, "size=300k", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(CatalogCleanupError, match="No space left on device"):
            scene.run(str(disk / "out"))
        subprocess.run([*mount, "remount,size=100m", str(disk)], check=True)
        outcome = scene.run(str(disk / "out"))
        assert (outcome.exit_code, outcome.tally.ok) == (0, _PHOTOS)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_photos_removed_and_exchanged_after_planning(
    scene: Scene, undisturbed: dict[str, str]
) -> None:
    client, prefix = scene.catalog.server.client(), scene.catalog.prefix
    keys = [f"{prefix}/{name}" for name in ("000001.jpg", "000002.jpg")]
    make_plan(scene.catalog.manifest, scene.output, rows_per_shard=_ROWS_PER_SHARD)
    removed, exchanged = scene.catalog.read(keys)
    client.delete_object(Bucket=BUCKET, Key=keys[0])
    client.put_object(Bucket=BUCKET, Key=keys[1], Body=removed)
    try:
        outcome = scene.run()
        assert (outcome.exit_code, outcome.tally.failed) == (3, {"image.not_found": 1})
        assert outcome.tally.ok == _PHOTOS - 1
    finally:
        client.put_object(Bucket=BUCKET, Key=keys[0], Body=removed)
        client.put_object(Bucket=BUCKET, Key=keys[1], Body=exchanged)
    assert scene.run().exit_code == 0, "what is back, or another, is new work"
    assert_all_is_well(scene, undisturbed, 2)
    assert scene.run().exit_code == 0
    assert_all_is_well(scene, undisturbed, 2)


def test_sigterm_a_second_run_meanwhile_and_a_half_written_lineage_file(
    scene: Scene, undisturbed: dict[str, str]
) -> None:
    """The driver stands still while the second run looks for it."""
    with scene.drive() as driver:
        scene.await_begun(20)
        driver.send_signal(signal.SIGSTOP)
        with pytest.raises(CatalogCleanupError, match="Run 000001-") as refused:
            scene.run()
        driver.terminate()
        driver.send_signal(signal.SIGCONT)
        assert driver.wait(60) == 1
    assert refused.value.code == "output.in_use"
    assert 0 < scene.recorded() < _PHOTOS
    assert scene.recorded() == len(scene.begun), "what was begun is recorded"
    assert [each.content["status"] for each in records(scene.output)] == ["stopped", "refused"]

    key = scene.lineage()[0]
    (data,) = scene.catalog.read([key])
    client = scene.catalog.server.client()
    client.put_object(Bucket=BUCKET, Key=key, Body=data[: len(data) // 2])
    assert scene.run().exit_code == 0
    (aside,) = [key for key in scene.lineage() if "/.damaged-" in key]
    client.delete_object(Bucket=BUCKET, Key=aside)
    assert_all_is_well(scene, undisturbed, row_count(data))


def test_drivers_killed_one_after_another(scene: Scene, undisturbed: dict[str, str]) -> None:
    """``python -m tests.support.endurance`` does the same with 20,000 photos."""
    with scene.drive() as driver:
        scene.await_begun(25)
        driver.kill()
    with scene.drive() as driver:
        scene.await_recorded(scene.recorded() + 1)
        driver.kill()
    assert 0 < scene.recorded() < _PHOTOS
    assert scene.run().exit_code == 0
    assert_all_is_well(scene, undisturbed, 2 * _ACTORS * _IN_FLIGHT)
