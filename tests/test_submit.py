"""Runs as jobs of a real Ray cluster that asks for a token, on photos in a real S3; and what it
tells its watchers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from cluster.generate import files
from jobs.metrics import METRICS
from manifests.ledger import Goal, Ledger, tallies
from manifests.plan import load_plan
from manifests.runs import records
from tests.cluster import RayCluster, ray_cluster
from tests.conftest import Command
from tests.s3_server import BUCKET, S3Server
from tests.support import DEMO, last_run

ROOT = Path(__file__).parent.parent
TOKEN = "not-a-secret-but-long-enough-for-ray"
PLACE = f"s3://{BUCKET}/submit"
NAMES = sorted(path.name for path in (DEMO / "photos").iterdir())
PROGRAM = str(Path(sys.executable).parent / "catalog-cleanup")

#: Of the long run: more than are done before it is stopped.
MANY = 400


@pytest.fixture(scope="module")
def cluster(s3_server: S3Server) -> Iterator[RayCluster]:
    environment = {
        **s3_server.environment,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_metrics_report_interval_ms": "1000",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # as in the image
    }
    with ray_cluster(environment, dashboard=True) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def trusted(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who submits has the token, and reads the S3."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def photos(s3_server: S3Server) -> None:
    """The demo's photos with their masks, and manifests of them."""
    client = s3_server.client()
    for path in DEMO.rglob("*.*"):
        if path.parent.name in ("photos", "masks"):
            key = f"submit/{path.parent.name}/{path.name}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    lines = (DEMO / "manifest.csv").read_text().splitlines()
    manifests = {
        "good": lines[:4],
        "bad": [*lines[:3], lines[3].replace("photos/", "photos/no-")],
        "many": [lines[0], *(f"{number}-{lines[1 + number % 8]}" for number in range(MANY))],
    }
    for name, rows in manifests.items():
        body = "\n".join(rows).encode()
        client.put_object(Bucket=BUCKET, Key=f"submit/{name}.csv", Body=body)


def job_in(text: str) -> str:
    found = re.search(r"raysubmit_\w+", text)
    assert found, text
    return found[0]


def keys_below(server: S3Server, prefix: str) -> list[str]:
    found = server.client().list_objects_v2(Bucket=BUCKET, Prefix=f"submit/{prefix}/")
    return [each["Key"] for each in found.get("Contents", [])]


def scraped(cluster: RayCluster) -> set[str]:
    """The names of the series that the head exports now."""
    with urlopen(cluster.metrics, timeout=10) as answer:  # noqa: S310 - our own
        text = answer.read().decode()
    return set(re.findall(r"^(\w+)(?:\{| )", text, re.M))


def awaited(condition: Any, seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return value


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Missing authentication token"),
        ({"RAY_AUTH_TOKEN": "another-than-the-cluster-has"}, "Invalid authentication token"),
    ],
    ids=["no token", "wrong token"],
)
def test_without_its_token_a_cluster_takes_no_job(
    cluster: RayCluster, command: Command, environment: dict[str, str], told: str
) -> None:
    done = command(
        "submit", "m.csv", "--output", "out", "--address", cluster.dashboard, **environment
    )
    assert done.returncode == 1
    assert "cluster.unreachable" in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_at_the_address(command: Command) -> None:
    for address in ("http://127.0.0.1:9", "127.0.0.1:8265"):
        done = command("jobs", "--address", address)
        assert done.returncode == 1
        assert "cluster.unreachable" in done.stderr


def test_a_job_cleans_photos_with_the_code_and_the_recipe_that_are_sent(
    cluster: RayCluster, photos: None, s3_server: S3Server, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\n[remove]\nmethod = "telea"\n')
    (tmp_path / "prices.toml").write_text('"" = 3600.0\n')
    done = command(
        *("submit", f"{PLACE}/good.csv", "--output", f"{PLACE}/good"),
        *("--recipe", "mine.toml", "--set", "mask.dilate_px=5", "--prices", "prices.toml"),
        *("--address", cluster.dashboard, "--env", "OURS=1", "--working-dir", ROOT),
        RAY_ADDRESS="127.0.0.1:1",  # for other commands: --address goes before it
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 ok" in done.stdout
    images = [key for key in keys_below(s3_server, "good") if "/images/mine-" in key]
    assert len(images) == 3
    record = last_run(f"{PLACE}/good")
    assert record["recipe"]["mask"]["dilate_px"] == 5
    assert record["job"] == job_in(done.stdout)
    assert 1 < record["cost_usd"] < 3 * record["seconds"]


def test_failed_rows_and_runs_that_do_not_finish_have_their_own_exit_codes(
    cluster: RayCluster, photos: None, command: Command
) -> None:
    options = ("--output", f"{PLACE}/bad", "--recipe", "telea", "--address", cluster.dashboard)
    some_failed = command("submit", f"{PLACE}/bad.csv", *options)
    assert some_failed.returncode == 2, some_failed.stdout + some_failed.stderr
    unfinished = command("submit", f"{PLACE}/absent.csv", *options)
    assert unfinished.returncode == 1
    assert "manifest.not_found" in unfinished.stdout
    listed = command("jobs", "--address", cluster.dashboard, COLUMNS="200").stdout
    for done, code in ((some_failed, "2"), (unfinished, "1")):
        (line,) = [line for line in listed.splitlines() if job_in(done.stdout) in line]
        assert line.split()[2] == code
        assert f"{PLACE}/bad" in line


def test_what_would_fail_there_is_told_here(cluster: RayCluster, command: Command) -> None:
    call = ("submit", "m.csv", "--output", "out", "--address", cluster.dashboard)
    assert "recipe.not_found" in command(*call, "--recipe", "no-such").stderr
    assert "--env" in command(*call, "--env", "NOT_SET_ANYWHERE").stderr
    assert "output.not_found" in command("stop", "out").stderr


@pytest.fixture(scope="module")
def long_run(cluster: RayCluster, photos: None) -> str:
    """A job by Ray's own command, at work on many photos; its id."""
    ray = str(Path(sys.executable).parent / "ray")
    call = [ray, "job", "submit", "--no-wait", "--address", cluster.dashboard, "--"]
    call += ["catalog-cleanup", "run", f"{PLACE}/many.csv", "--output", f"{PLACE}/many"]
    done = subprocess.run(
        call,
        env=os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )
    return job_in(done.stdout)


def test_watchers_see_what_the_dashboard_shows(cluster: RayCluster, long_run: str) -> None:
    exported = {name for metric in METRICS for name in metric.exported}
    shown = set(re.findall(r"\bray_\w+", files()["grafana/dashboard.json"]))
    assert {name for name in shown if "catalog_cleanup" in name} <= exported
    assert {name.rpartition("_")[0] for name in exported} == {
        name.rpartition("_")[0] for name in shown if "catalog_cleanup" in name
    }

    def works() -> set[str]:
        return {"ray_catalog_cleanup_rows_total"} & scraped(cluster)

    awaited(works)
    # What only shows with GPUs, with prices or where S3 fails: by the same objects, from a driver.
    rare = "from jobs.metrics import BATCH_FILL, COST, RETRIES; import ray, time; ray.init('auto');"
    rare += "BATCH_FILL.add(1, pool='small_gpu'); COST.add(1); RETRIES.add(1); time.sleep(8)"
    driver = subprocess.Popen(
        [sys.executable, "-c", rare],
        env=os.environ | {"RAY_ADDRESS": cluster.address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        awaited(lambda: shown <= scraped(cluster))
        assert exported <= scraped(cluster)
    finally:
        driver.kill()
        driver.wait()


def test_following_ends_without_the_job_which_is_stopped_gracefully(
    cluster: RayCluster, long_run: str, command: Command
) -> None:
    script = (
        "import sys; from jobs.submit import connect; from jobs.submit_cli import _followed;"
        "sys.exit(_followed(connect(sys.argv[1]), sys.argv[2]))"
    )
    call = [sys.executable, "-u", "-c", script, cluster.dashboard, long_run]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout
        assert any("starting Ray" in line for line in follower.stdout)
        follower.send_signal(signal.SIGINT)
        assert "The job goes on" in follower.stdout.read()
    assert follower.returncode == 1
    record = records(f"{PLACE}/many")[-1]
    assert record.facts["job"] == long_run
    awaited(lambda: record.progress().get("ok", 0) > 0)

    stopped = command("stop", long_run, "--address", cluster.dashboard)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "Nothing is at work" in stopped.stdout
    ended = last_run(f"{PLACE}/many")
    assert (ended["status"], ended["exit_code"]) == ("stopped", 1)
    plan = load_plan(f"{PLACE}/many")
    assert plan
    ledger = Ledger(plan.output, ended["recipe_hash"])
    done = sum(
        tally.ok for _, tally in tallies(plan, ledger, Goal(ended["run_id"]), range(plan.shards))
    )
    assert 0 < done == ended["tally"]["ok"] < MANY
    assert "Nothing is at work" in command("stop", f"{PLACE}/many").stdout
