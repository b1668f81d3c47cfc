"""Runs on one output: numbers that no two have, and which of them may work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.driver import heartbeat as heartbeats
from jobs.driver.heartbeat import Heartbeat
from manifests import runs
from manifests.errors import OutputError
from manifests.runs import RunRecord, claim, latest_by_recipe, raise_if_running, records
from manifests.storage.s3.settings import Settings
from tests.support import wait_until

FACTS = {"recipe_hash": "r", "only_shards": None}


def silent(_: str) -> None:
    pass


def elsewhere(record: RunRecord, **more: Any) -> RunRecord:
    """The record as if a process of another machine had made it."""
    return record.write(host="elsewhere", machine="elsewhere", **more)


def test_of_many_that_begin_at_once_each_has_a_number(tmp_path: Path) -> None:
    assert_each_has_a_number(str(tmp_path))


def assert_each_has_a_number(output: str) -> None:
    """Eight runs claim the output at once; ``tests/storage`` does the same in S3."""
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim(output, FACTS), range(8)))
    assert sorted(record.run_id[:6] for record in claimed) == [f"{n:06d}" for n in range(1, 9)]
    assert [record.run_id for record in records(output)] == sorted(r.run_id for r in claimed)
    assert len(latest_by_recipe(output)) == 1


def test_a_second_run_on_the_same_photos_is_refused(tmp_path: Path) -> None:
    first = claim(str(tmp_path), FACTS)
    second = claim(str(tmp_path), FACTS)
    raise_if_running(first, silent)
    with pytest.raises(OutputError, match=f"Run {first.run_id} is active") as caught:
        raise_if_running(second, silent)
    assert caught.value.code == "output.in_use"
    first.write(status="finished")
    raise_if_running(second, silent)


def test_runs_of_other_shards_or_recipes_work_side_by_side(tmp_path: Path) -> None:
    claim(str(tmp_path), FACTS | {"only_shards": [0, 1]})
    raise_if_running(claim(str(tmp_path), FACTS | {"only_shards": [2, 3]}), silent)
    raise_if_running(claim(str(tmp_path), FACTS | {"recipe_hash": "other"}), silent)
    with pytest.raises(OutputError):
        raise_if_running(claim(str(tmp_path), FACTS | {"only_shards": [3, 1]}), silent)


def test_a_run_whose_process_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    program = (
        "import sys, time; from manifests.runs import claim;"
        "claim(sys.argv[1], {'recipe_hash': 'r'}); print('claimed', flush=True); time.sleep(600)"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with killed:
        assert killed.stdout
        killed.stdout.readline()
        ours = claim(str(tmp_path), FACTS)
        with pytest.raises(OutputError, match=f"process {killed.pid}"):
            raise_if_running(ours, silent)
        killed.kill()
    raise_if_running(ours, silent)


def test_a_run_of_another_machine_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LEASE_S", 2.0)
    monkeypatch.setattr(runs, "_POLL_S", 0.05)
    other = elsewhere(claim(str(tmp_path), FACTS))
    told: list[str] = []
    raise_if_running(claim(str(tmp_path), FACTS), told.append)
    assert told[0].startswith(f"Run {other.run_id} may be active here; waiting ")
    other.beat()
    later = threading.Timer(0.5, other.beat, kwargs={"ok": 5})
    later.start()
    with pytest.raises(OutputError, match="elsewhere"):
        raise_if_running(claim(str(tmp_path), FACTS), silent)
    later.join()
    assert other.progress()["ok"] == 5


def test_a_run_in_a_container_with_the_hosts_name_is_judged_by_its_heartbeat(
    tmp_path: Path,
) -> None:
    """Its process is not visible here, or another one has its number."""
    program = (
        "import sys; from manifests.runs import claim;"
        "claim(sys.argv[1], {'recipe_hash': 'r'}); print('claimed', flush=True); sys.stdin.read()"
    )
    enclosed = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*enclosed, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces can be made here")
    container = subprocess.Popen(
        [*enclosed, sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with container:
        assert container.stdout
        container.stdout.readline()
        (record,) = records(str(tmp_path))
        assert runs.seems_alive(record)


def test_a_run_of_another_container_or_boot_is_not_looked_up_by_its_process(tmp_path: Path) -> None:
    ours = claim(str(tmp_path), FACTS)
    boot, _, space = ours.content["machine"].partition("/")
    for machine in (f"{boot}/pid:[1]", f"elsewhere/{space}", None):
        assert runs.seems_alive(ours.write(machine=machine, process=2**30))
    assert not runs.seems_alive(ours.write(process=2**30))


def test_a_run_that_waits_for_its_storage_is_not_taken_for_dead() -> None:
    patience_s = Settings.model_fields["retry_s"].default
    assert patience_s + 3 * runs.HEARTBEAT_S < runs.LEASE_S


def test_anybody_may_ask_a_run_to_stop(tmp_path: Path) -> None:
    record = claim(str(tmp_path), FACTS)
    assert not record.stop_requested
    records(str(tmp_path))[0].request_stop()
    assert record.stop_requested


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "runs" / "000007").mkdir(parents=True)
    (tmp_path / "runs" / "000007" / "run.json").write_text("[]")
    (tmp_path / "runs" / "notes").mkdir()
    assert records(str(tmp_path)) == []
    assert claim(str(tmp_path), FACTS).run_id.startswith("000008-")


def test_a_run_is_alive_whatever_fails_beside_its_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray may be unreachable for a while; without heartbeats others would take this run's work."""
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.01)
    called = set[str]()

    def fail(name: str) -> None:
        called.add(name)
        raise ConnectionError("Ray is not connected")

    run = claim(str(tmp_path), FACTS)
    with heartbeats.heartbeat(run) as heart:
        heart.on_beat, heart.on_stop = partial(fail, "beat"), partial(fail, "stop")
        heart.request_stop()
        wait_until(lambda: called == {"beat", "stop"})
        at = run.progress().get("at")
        wait_until(lambda: run.progress().get("at", at) != at)


def test_once_a_stop_has_ended_ray_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shuts down then, and a call of one of its actors would start it again."""
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.01)
    called = list[None]()
    run = claim(str(tmp_path), FACTS)
    with heartbeats.heartbeat(run) as heart:
        with heartbeats.graceful_stop(heart, silent):
            heart.on_beat = heart.on_stop = partial(called.append, None)
            heart.request_stop()
            wait_until(lambda: called and run.progress())
        count, at = len(called), run.progress()["at"]
        wait_until(lambda: run.progress()["at"] != at)
    assert len(called) == count


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has this clock")
def test_the_age_of_a_heartbeat_counts_the_time_that_a_machine_was_suspended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To others it was dead meanwhile, so it asks whether one of them took over."""
    ours, _ = (claim(str(tmp_path), FACTS) for _ in range(2))
    suspended_s = 0.0
    read = time.clock_gettime

    def clock_gettime(clock: int) -> float:
        return read(clock) + (suspended_s if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    monkeypatch.setattr(heartbeats, "_POLL_S", 0.01)
    with heartbeats.heartbeat(ours) as heart:
        wait_until(ours.progress)
        assert not heart.is_stopping
        suspended_s = 2 * runs.LEASE_S
        wait_until(partial(getattr, heart, "is_stopping"))


@pytest.mark.parametrize(("lease_s", "stops"), [(0.0, True), (3600.0, False)])
def test_a_run_that_was_taken_for_dead_stops_if_another_took_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease_s: float, stops: bool
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(heartbeats, "LEASE_S", lease_s)
    ours, later = (claim(str(tmp_path), FACTS) for _ in range(2))
    assert (ours.successor(), later.successor()) == (later.run_id, None)
    for run in (ours, later):
        heart = Heartbeat(run)
        beats = threading.Thread(target=heart.run)
        beats.start()
        wait_until(run.progress)
        if run is ours and stops:
            wait_until(partial(getattr, heart, "is_stopping"))
        heart.end()
        beats.join()
        assert heart.is_stopping == (run is ours and stops)
