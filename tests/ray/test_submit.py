"""Runs as jobs of a real Ray cluster that asks for a token, on photos in a real S3; and what it
tells its watchers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints
from urllib.request import urlopen

import pytest
from typer.main import get_command

from cluster.deploy.generate import HERE
from jobs.cli import app
from jobs.cli.detect import detect as detect_command
from jobs.cli.options import parse_run, to_words
from jobs.cli.run import run as run_command
from jobs.pipeline.metrics import METRICS
from manifests.ledger import Ledger, RetryPolicy, reconcile
from manifests.planning.plan import load_plan
from manifests.runs import records, seems_alive
from tests.conftest import Command
from tests.support import DEMO, PROGRAM, encoded, last_run, upright_rgb, wait_until
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.s3_server import BUCKET, S3Server

ROOT = Path(__file__).parents[2]
TOKEN = "not-a-secret-but-long-enough-for-ray"
PLACE = f"s3://{BUCKET}/submit"
NAMES = sorted(path.name for path in (DEMO / "photos").iterdir())

#: Of the long runs, tiny ones: more than are done before they are stopped.
MANY = 4000

#: Passes on what comes to its port to another, until it is killed.
RELAY = """
import asyncio, sys

async def pump(source, drain):
    while data := await source.read(65536):
        drain.write(data)
    drain.close()

async def connected(source, drain):
    there = await asyncio.open_connection(*sys.argv[1:])
    await asyncio.gather(pump(source, there[1]), pump(there[0], drain))

async def main():
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


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
    """The demo's photos with their masks, and manifests of them; one of a tiny photo many times."""
    client = s3_server.client()
    for path in DEMO.rglob("*.*"):
        if path.parent.name in ("photos", "masks"):
            key = f"submit/{path.parent.name}/{path.name}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    tiny = upright_rgb(DEMO / "photos" / NAMES[0])[:48, :64]
    client.put_object(Bucket=BUCKET, Key="submit/tiny.png", Body=encoded(tiny))
    lines = (DEMO / "manifest.csv").read_text().splitlines()
    boxed = [f'{number},tiny.png,"[16, 20, 24, 10]"' for number in range(MANY)]
    manifests = {
        "good": lines[:4],
        "bad": [*lines[:3], lines[3].replace("photos/", "photos/no-")],
        "many": ["id,image,boxes", *boxed],
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
    options = (
        "--output",
        f"{PLACE}/bad",
        "--recipe",
        "telea",
        "--address",
        cluster.dashboard,
    )
    some_failed = command("submit", f"{PLACE}/bad.csv", *options)
    assert some_failed.returncode == 3, some_failed.stdout + some_failed.stderr
    unfinished = command("submit", f"{PLACE}/absent.csv", *options)
    assert unfinished.returncode == 1
    assert "manifest.not_found" in unfinished.stdout


@pytest.fixture(scope="module")
def long_run(cluster: RayCluster, photos: None) -> str:
    """A job by Ray's own command, at work on many photos; its id."""
    ray = str(Path(sys.executable).parent / "ray")
    call = [ray, "job", "submit", "--no-wait", "--address", cluster.dashboard, "--"]
    call += ["catalog-cleanup", "run", f"{PLACE}/many.csv", "--output", f"{PLACE}/many"]
    call += ["--recipe", "telea"]
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
    shown = set(re.findall(r"\bray_\w+", (HERE / "grafana" / "dashboard.json").read_text()))
    assert {name for name in shown if "catalog_cleanup" in name} <= exported
    assert {name.rpartition("_")[0] for name in exported} == {
        name.rpartition("_")[0] for name in shown if "catalog_cleanup" in name
    }

    def works() -> set[str]:
        return {"ray_catalog_cleanup_rows_total"} & scraped(cluster)

    wait_until(works, every_s=0.5)
    # What only shows with GPUs, with prices or where S3 fails: by the same objects, from a driver.
    rare = "from jobs.pipeline.metrics import BATCH_FILL, COST, RETRIES;"
    rare += " import ray, time; ray.init('auto');"
    rare += "BATCH_FILL.add(1, pool='small_gpu'); COST.add(1); RETRIES.add(1); time.sleep(600)"
    driver = subprocess.Popen(
        [sys.executable, "-c", rare],
        env=os.environ | {"RAY_ADDRESS": cluster.address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: shown <= scraped(cluster), every_s=0.5)
        assert exported <= scraped(cluster)
    finally:
        driver.kill()
        driver.wait()


def test_a_job_is_stopped_gracefully_by_its_output(
    cluster: RayCluster, long_run: str, s3_server: S3Server, command: Command
) -> None:
    wait_until(lambda: records(f"{PLACE}/many"))
    record = records(f"{PLACE}/many")[-1]
    assert record.content["job"] == long_run
    wait_until(lambda: keys_below(s3_server, "many/lineage"))

    stopped = command("stop", f"{PLACE}/many")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "No run is active" in stopped.stdout
    ended = last_run(f"{PLACE}/many")
    assert (ended["status"], ended["exit_code"]) == ("stopped", 1)
    plan = load_plan(f"{PLACE}/many")
    assert plan
    ledger = Ledger(plan.output, ended["recipe_hash"])
    done = reconcile(plan, ledger, RetryPolicy(ended["run_id"]), range(plan.shards)).ok
    assert 0 < done == ended["tally"]["ok"] < MANY
    assert "No run is active" in command("stop", f"{PLACE}/many").stdout


@contextmanager
def following(cluster: RayCluster, output: str, address: str) -> Iterator[subprocess.Popen[str]]:
    """A ``submit`` of many photos that shows the log of its run; after, its job is ended."""
    # Where the tests run in the background, signals of the keyboard are ignored.
    call = ["env", "--default-signal=INT", PROGRAM, "submit", f"{PLACE}/many.csv"]
    call += ["--output", f"{PLACE}/{output}"]
    with subprocess.Popen(
        [*call, "--recipe", "telea", "--address", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert any("starting Ray" in line for line in process.stdout)
            yield process
        finally:
            process.kill()
    stop = [PROGRAM, "stop", f"{PLACE}/{output}"]
    subprocess.run(stop, check=True, capture_output=True)


def test_an_interrupt_ends_the_following_and_not_the_job(cluster: RayCluster, photos: None) -> None:
    with following(cluster, "interrupted", cluster.dashboard) as process:
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 1
        (record,) = records(f"{PLACE}/interrupted")
        assert seems_alive(record)
    assert last_run(f"{PLACE}/interrupted")["status"] == "stopped"


def test_a_connection_that_breaks_ends_the_following_and_not_the_job(
    cluster: RayCluster, photos: None
) -> None:
    there = cluster.dashboard.removeprefix("http://").split(":")
    with subprocess.Popen(
        [sys.executable, "-c", RELAY, *there], stdout=subprocess.PIPE, text=True
    ) as relay:
        assert relay.stdout
        address = f"http://127.0.0.1:{int(relay.stdout.readline())}"
        with following(cluster, "cut", address) as process:
            relay.kill()
            _, errors = process.communicate()
            assert process.returncode == 1
            assert "cluster.unreachable" in errors
            assert "Traceback" not in errors
            (record,) = records(f"{PLACE}/cut")
            assert seems_alive(record)
    assert last_run(f"{PLACE}/cut")["status"] == "stopped"


def words_for(command: Any, parameter: Any, file: Path) -> list[str]:
    """Words that set a parameter of a command to something else than its default."""
    hint = get_type_hints(command)[parameter.name]
    option = parameter.opts[0]
    if parameter.param_type_name == "argument":
        return ["m.csv"]
    if hint is bool:
        return [parameter.secondary_opts[0] if parameter.default else option]
    value = {Path | None: str(file), int | None: "7", int: "7"}.get(
        hint, "pass" if parameter.name == "unmatched" else f"some {parameter.name} =1"
    )
    return [option, value] * (2 if parameter.multiple else 1)


@pytest.mark.parametrize(("name", "command"), [("run", run_command), ("detect", detect_command)])
def test_every_option_of_run_reaches_the_job_with_its_value(
    name: str, command: Any, tmp_path: Path
) -> None:
    group: Any = get_command(app)
    run = group.commands[name]
    file = tmp_path / "file.toml"
    file.write_text("")
    context = group.commands["submit"].make_context(
        "submit",
        ["--address", "http://h"],
        parent=group.make_context("catalog-cleanup", ["submit"]),
    )
    for chosen in run.params:
        needed = [each for each in run.params if each.required or each is chosen]
        words = [word for each in needed for word in words_for(command, each, file)]
        given = parse_run(context, words, name=name)
        sent = parse_run(context, to_words(given, {}), name=name)
        assert sent.params == given.params
        assert given.params[chosen.name] not in (chosen.default, None), "the test sets it"
        places = {"manifest": "/there/m.csv", "output": "s3://there/out"}
        moved = parse_run(context, to_words(given, places), name=name)
        assert moved.params == given.params | places
