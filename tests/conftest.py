"""Shared parts of the tests, all real: photos, an S3 server, a Ray cluster."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import numpy as np
import numpy.typing as npt
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from stages import download
from stages.storage import storage_for
from tests.support import DEMO, free_ports, upright_rgb
from tests.web import WEIGHTS, Web, serving, write_list

Command = Callable[..., subprocess.CompletedProcess[str]]

# Read when the hub's library is imported: no test may ask the real one, where nobody listens here.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

_STARTUP_SECONDS = 60.0


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """``catalog-cleanup`` with these arguments, in an empty folder."""

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "catalog-cleanup"
        return subprocess.run(
            [str(program), *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "100"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture(scope="session")
def coffee() -> npt.NDArray[np.uint8]:
    """A real photo, 400 x 600 RGB."""
    return upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one core: small nets only lose by sharing their work."""
    import torch  # noqa: PLC0415 - takes seconds

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FLUX-Fill pipeline with random weights."""
    from tests.tiny_models import save_flux_fill  # noqa: PLC0415 - takes seconds to import

    return save_flux_fill(tmp_path_factory.mktemp("flux-fill"))


@pytest.fixture(scope="session")
def klein_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FLUX.2-klein pipeline with random weights."""
    from tests.tiny_models import save_klein  # noqa: PLC0415 - likewise

    return save_klein(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="session")
def ray_address(s3_endpoint: str) -> Iterator[str]:
    """A real Ray cluster of one node with two CPUs, started and ended here; it reaches the S3."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    (port,) = free_ports(1)
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={port}",
        f"--temp-dir={folder}",
        "--num-cpus=2",
        "--object-store-memory=500000000",
        "--include-dashboard=false",
        "--disable-usage-stats",
    ]
    with (Path(folder) / "start.log").open("wb") as log:
        environment = os.environ | _s3_environment(s3_endpoint)
        head = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _await_port(head, port)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(head.pid, signal.SIGKILL)  # SIGTERM takes half a minute to be obeyed
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server (SeaweedFS) on this machine, with an empty bucket ``catalog``."""
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    server, endpoint = _start_s3(folder)
    try:
        _await_bucket(server, endpoint)
        yield endpoint
    finally:
        server.kill()  # its filer waits on SIGTERM for clients that are gone
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start_s3(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    config = folder / "s3.json"
    config.write_text(
        '{"identities": [{"name": "tests", "actions": ["Admin", "Read", "Write", "List"],'
        ' "credentials": [{"accessKey": "tests", "secretKey": "not-a-secret"}]}]}'
    )
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    names += [f"{name}.grpc" for name in names]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        str(Path(sys.executable).parent / "weed"),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        "-s3",
        f"-s3.config={config}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",  # else a fixed one, that a second server finds taken
        "-s3.autoCreateBucket=false",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        "-volume.max=50",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    return server, f"http://127.0.0.1:{ports['s3.port']}"


def _await_bucket(server: subprocess.Popen[bytes], endpoint: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="tests",
        aws_secret_access_key="not-a-secret",
        region_name="us-east-1",
    )
    deadline = time.monotonic() + _STARTUP_SECONDS
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="catalog")
            client.put_object(Bucket="catalog", Key="ready", Body=b"")
        except (BotoCoreError, ClientError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment in which boto3 and pyarrow reach the server; returns its bucket's URI."""
    for name, value in _s3_environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    return "s3://catalog"


def _s3_environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights, and no word about weights from the environment."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CATALOG_CLEANUP_CACHE", str(folder))
    for name in ("LAMA_MODEL", "CATALOG_CLEANUP_TRUST", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_PAUSE_SECONDS", 0.01)
    storage_for.cache_clear()
    return folder


@pytest.fixture
def web() -> Iterator[Web]:
    """A real HTTP server that offers ``/lama.pt``."""
    with serving() as server:
        server.files["/lama.pt"] = WEIGHTS
        yield server


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Web, cache: Path) -> Path:
    """The list of models with entries on that server, and the cache empty."""
    path = tmp_path / "models.toml"
    write_list(path, web.url)
    monkeypatch.setenv("CATALOG_CLEANUP_MODELS", str(path))
    return path


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """Of odd size, so that blocks, strips and tiles are cut off at its edges."""
    return upright_rgb(DEMO / "photos" / "fig-bowl-sticker-date.jpg")[300:541, 200:503]


@pytest.fixture(scope="session")
def spot(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    spot = np.zeros(photo.shape[:2], np.bool_)
    spot[60:130, 90:170] = True
    return spot
