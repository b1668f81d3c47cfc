"""A photo in its own process: what becomes of it if the process hangs or dies."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NoReturn

import pyarrow as pa
import pytest

from jobs.pipeline import isolated
from jobs.pipeline.isolated import run_isolated
from jobs.pipeline.pending import photos_of, read_pending
from jobs.pipeline.spec import RunSpec
from manifests.errors import ClusterError
from manifests.ledger import RetryPolicy
from manifests.planning.plan import make_plan
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction, Step
from tests.support import boxed_catalog


def spec_of(
    folder: Path, build: Callable[[], PhotoFunction], *, first: PhotoFunction | None = None
) -> RunSpec:
    plan = make_plan(boxed_catalog(folder, 1), str(folder / "out"))

    def steps(_: Recipe, __: str) -> Sequence[Step]:
        before = [Step("decode", "small_gpu", lambda: first)] if first else []
        return [*before, Step("refine", "cpu", build)]

    telea = Recipe.load("telea")
    return RunSpec(plan, pa.schema([]), telea, RetryPolicy("000001-aaaaaa"), steps)


def photo_of(spec: RunSpec) -> Photo:
    (photo,) = photos_of(spec, read_pending(spec, 0))
    return photo


def broken() -> PhotoFunction:
    """Like CUDA after an error: its teardown never ends."""

    def work(_: Photo) -> NoReturn:
        atexit.register(Event().wait)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    return work


def test_a_process_that_does_not_exit_after_an_error_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "_MAX_EXIT_S", 1.0)
    spec = spec_of(tmp_path, broken)
    photo = photo_of(spec)
    run_isolated(photo, spec)
    row = photo.lineage
    assert (row.status, row.error_code, row.error_stage) == ("crashed", "row.crashed", "refine")
    assert row.error
    assert "died in step refine: it did not exit within 1 s" in row.error


def test_models_that_do_not_load_in_time_are_no_fault_of_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs() -> NoReturn:
        Event().wait()
        raise AssertionError

    monkeypatch.setattr(isolated, "_MAX_LOADING_S", 1.0)
    spec = spec_of(tmp_path, hangs)
    photo = photo_of(spec)
    with pytest.raises(ClusterError, match="was still loading after 1 s") as caught:
        run_isolated(photo, spec)
    assert caught.value.code == "cluster.workers_failed"
    assert photo.ok


def no_gpu() -> NoReturn:
    """As PyTorch raises it."""
    raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")


def killed() -> NoReturn:
    """By the kernel, while weights take more memory than the machine has."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize(
    ("build", "cause"), [(no_gpu, "exit code 1 by RuntimeError: CUDA driver"), (killed, "SIGKILL")]
)
@pytest.mark.parametrize("first", [None, lambda _: None], ids=["first-step", "later-step"])
def test_a_process_that_dies_while_loading_is_no_fault_of_the_photo(
    tmp_path: Path, build: Callable[[], PhotoFunction], cause: str, first: PhotoFunction | None
) -> None:
    spec = spec_of(tmp_path, build, first=first)
    photo = photo_of(spec)
    with pytest.raises(
        ClusterError, match=f"the step refine died while loading: {cause}"
    ) as caught:
        run_isolated(photo, spec)
    assert caught.value.code == "cluster.workers_failed"
    assert photo.ok


def test_a_process_that_dies_once_while_loading_is_started_again(tmp_path: Path) -> None:
    def build() -> PhotoFunction:
        with suppress(FileExistsError):
            (tmp_path / "has-died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda _: None

    spec = spec_of(tmp_path, build)
    photo = photo_of(spec)
    run_isolated(photo, spec)
    assert photo.ok


def test_a_process_that_cannot_start_is_no_fault_of_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tmp_path, broken)
    photo = photo_of(spec)
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ClusterError, match=r"the step start died .* by ImportError: libGL"):
        run_isolated(photo, spec)
    assert photo.ok


def test_a_photo_that_leaves_no_memory_for_the_next_model_has_crashed(tmp_path: Path) -> None:
    """Without the photo, the model loads."""

    def taken(_: Photo) -> None:
        os.environ["MEMORY"] = "taken"

    def build() -> PhotoFunction:
        if "MEMORY" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda _: None

    spec = spec_of(tmp_path, build, first=taken)
    photo = photo_of(spec)
    run_isolated(photo, spec)
    row = photo.lineage
    assert (row.status, row.error_code, row.error_stage) == ("crashed", "row.crashed", "refine")
    assert row.error
    assert "died in step refine: SIGKILL, as when memory runs out" in row.error
