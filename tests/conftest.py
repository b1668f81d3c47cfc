"""Shared parts of the tests, all real: photos, an S3 server, a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from rich.console import Console
from tenacity import wait_none

from jobs.cli import main
from stages.recipe import Recipe
from stages.weights import download
from tests.support import DEMO, PROGRAM, upright_rgb
from tests.support.files import catalog
from tests.support.ray_cluster import ray_cluster
from tests.support.s3_server import BUCKET, S3Server, running
from tests.support.web_server import WEIGHTS, Web, serving, write_list

if TYPE_CHECKING:
    from jobs.run import Outcome

Command = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[..., "Outcome"]

# Read when huggingface_hub is imported: no test may ask the real one, where nobody listens here.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

# As an actor of one CPU has it. Two pytest processes share the machine's cores: PyTorch's threads
# would spin while they wait for each other. Read when PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Folder -> what its tests are marked with, for ``-m``; see README.md. Those whose files take
#: longest come first, and are begun first: else a single process would end with them.
_MARKERS = {
    "faults": ["ray", "slow"],
    "bench": ["models", "ray", "slow"],
    "hostile": ["slow"],
    "ray": ["ray"],
    "models": ["models"],
    "browser": ["browser"],
    "storage": [],
    "unit": [],
}
_HERE = Path(__file__).parent

#: For a test that starts nothing, in s; the others have pytest's ``timeout`` in pyproject.toml.
_UNIT_TIMEOUT_S = 60

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a machine with a GPU, for the tests marked so, may lack it
    pass
else:
    settings.register_profile("quick", max_examples=40, deadline=None)
    settings.register_profile("thorough", max_examples=1000, deadline=None)
    settings.load_profile("quick")  # or --hypothesis-profile=thorough


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they start, as their folder says, and put the longest first."""
    for item in items:
        folder = _folder(item)
        for name in _MARKERS[folder]:
            item.add_marker(name)
        if folder == "unit":
            item.add_marker(pytest.mark.timeout(_UNIT_TIMEOUT_S))
    items.sort(key=lambda item: list(_MARKERS).index(_folder(item)))


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(_HERE).parts[0]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """``catalog-cleanup`` with these arguments, in an empty folder, as a process of its own.

    For what only a process shows: signals, streams, Ray. ``invoke`` takes a tenth of the time.
    """

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "100"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The same in this process: for what is printed and the exit code."""

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        typed = ["catalog-cleanup", *map(str, arguments)]
        streams = CliRunner().isolation(env={"COLUMNS": "100", **environment})
        kept = patch.dict(os.environ)  # what the command sets is for its own process
        with kept, monkeypatch.context() as attributes, streams as (stdout, stderr, _):
            attributes.chdir(tmp_path)
            attributes.setattr(sys, "argv", typed)
            code = 0
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
            printed, errors = stdout.getvalue().decode(), stderr.getvalue().decode()
        return subprocess.CompletedProcess(typed, code, printed, errors)

    return call


@pytest.fixture(scope="session")
def coffee() -> npt.NDArray[np.uint8]:
    """A real photo, 400 x 600 RGB."""
    return upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The manifest of the demo's eight photos, a quarter as wide: for runs, not for pictures."""
    return str(catalog.small_demo(tmp_path_factory.mktemp("small-demo")))


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FLUX-Fill pipeline with random weights."""
    from tests.support.models.tiny_models import save_flux_fill

    return save_flux_fill(tmp_path_factory.mktemp("flux-fill"))


@pytest.fixture(scope="session")
def klein_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FLUX.2-klein pipeline with random weights."""
    from tests.support.models.tiny_models import save_klein

    return save_klein(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="session")
def ray_address(s3_server: S3Server) -> Iterator[str]:
    """A real Ray cluster of one node with one CPU, started and ended here; it reaches the S3.

    A run has one actor there, whose start costs more than the tests' photos. Where several must
    work at once, a test asks for them with ``pools=``.
    """
    with ray_cluster(s3_server.environment, cpus=1) as cluster:
        yield cluster.address


@pytest.fixture(scope="session")
def on_ray(ray_address: str) -> Run:
    """``run`` on that cluster, quietly; with the recipe telea unless another is named."""
    from jobs.run import run  # a machine with a GPU may lack what it needs

    def on_ray(manifest: Path | str, output: Path | str, **options: Any) -> Outcome:
        recipe = options.pop("recipe", None) or Recipe.load("telea")
        quiet = Console(quiet=True, markup=False)
        return run(str(manifest), str(output), recipe, quiet, address=ray_address, **options)

    return on_ray


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server (SeaweedFS) for all tests that do it no harm."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def s3_endpoint(s3_server: S3Server) -> str:
    """The URL of the shared S3 server, with an empty bucket ``catalog``."""
    return s3_server.endpoint


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment in which boto3 reaches the shared server; returns its bucket's URI."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights, and no word about weights from the environment."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CATALOG_CLEANUP_CACHE", str(folder))
    for name in ("LAMA_MODEL", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download._get.retry, "wait", wait_none())
    return folder


@pytest.fixture
def web() -> Iterator[Web]:
    """A real HTTP server that offers ``/lama.pt``."""
    with serving() as server:
        server.files["/lama.pt"] = WEIGHTS
        yield server


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Web, cache: Path) -> Path:
    """The model registry with entries on that server, and the cache empty."""
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
