"""Output that nobody takes: real processes whose readers leave, whose disk is full, who hang up."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from jobs.cli.streams import Stream, guard
from jobs.driver.progress import meter
from tests.conftest import Command
from tests.ray.test_cli_runs import MANY, await_files, many_photos
from tests.support import PROGRAM, last_run, write


@pytest.fixture
def run_here(ray_address: str, small_demo: str) -> list[str]:
    """The words of a run on the tests' cluster."""
    call = ["run", small_demo, "--output", "out", "--recipe", "telea"]
    return [*call, "--address", ray_address]


def shell(script: str, arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """Run ``script``, in which ``"$@"`` is the program's call; returns what it printed to stdout.

    Its last command is to print the program's exit code.
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", PROGRAM, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == b"", done.stderr.decode()
    return done.stdout.decode()


def assert_all_is_recorded(folder: Path) -> None:
    ids = pd.read_parquet(folder / "out" / "lineage").id
    assert ids.is_unique
    assert len(ids) == 8
    assert (last_run(folder / "out")["status"], last_run(folder / "out")["exit_code"]) == (
        "finished",
        0,
    )


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ('"$@" | head -1 > first; echo ${PIPESTATUS[0]}', "0\n"),
        ('"$@" 2>&1 | true; echo ${PIPESTATUS[0]}', "0\n"),
        ('"$@" >&- 2>&-; echo $?', "0\n"),
        ('"$@" > /dev/full 2> said; echo $?', "0\n"),
    ],
    ids=["the reader leaves", "both readers leave", "closed", "a full disk"],
)
def test_a_run_does_not_depend_on_who_reads_its_progress(
    run_here: list[str], tmp_path: Path, script: str, printed: str
) -> None:
    assert shell(script, run_here, tmp_path) == printed
    assert_all_is_recorded(tmp_path)
    if (tmp_path / "said").exists():
        note = "note: stdout: No space left on device. The run continues.\n"
        assert (tmp_path / "said").read_text() == note


def test_a_hangup_of_the_terminal_stops_a_private_ray_s_run_gracefully(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    pools = write(tmp_path / "pools.toml", "[cpu]\nmax_actors = 1")  # however many cores
    command = [PROGRAM, "run", many_photos(tmp_path), "--output", "out", "--recipe", "telea"]
    command += ["--pools", pools]
    with subprocess.Popen(  # as a shell's child in a terminal, in which nothing is ignored
        ["env", "--default-signal=HUP,INT", *command],
        cwd=tmp_path,
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads there
    ) as running:
        os.close(terminal)
        await_files(tmp_path / "out" / "lineage")
        os.close(ours)  # the kernel sends SIGHUP to all of the terminal's processes
        assert running.wait() == 1
    assert last_run(tmp_path / "out")["status"] == "stopped"
    ids = pd.read_parquet(tmp_path / "out" / "lineage").id
    assert ids.is_unique
    assert 0 < len(ids) < MANY
    pictures = {path.stem for path in (tmp_path / "out" / "images").glob("*/*")}
    assert pictures <= set(ids), "what was stored is recorded"


def test_under_nohup_a_run_outlives_its_terminal(run_here: list[str], tmp_path: Path) -> None:
    command = ["nohup", PROGRAM, *run_here]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as running:
        assert running.stdout
        assert b"starting Ray" in running.stdout.readline()
        running.send_signal(signal.SIGHUP)
        assert b"8 ok" in running.stdout.read()
    assert running.returncode == 0
    assert_all_is_recorded(tmp_path)


@pytest.mark.parametrize("arguments", [["recipes", "telea"], ["--help"]])
def test_a_command_that_only_prints_fails_where_it_cannot(
    tmp_path: Path, arguments: list[str]
) -> None:
    assert shell('"$@" | true; echo ${PIPESTATUS[0]}', arguments, tmp_path) == "1\n"
    failed = shell('"$@" 2>&1 > /dev/full; echo $?', arguments, tmp_path)
    assert failed == "error stdout: No space left on device.\n1\n"
    closed = shell('"$@" 2>&1 >&-; echo $?', arguments, tmp_path)
    assert closed == "error stdout: Bad file descriptor.\n1\n"


def test_an_error_is_an_error_though_nobody_reads_it(tmp_path: Path) -> None:
    for script in ('"$@" 2>&-; echo $?', '"$@" 2> /dev/full; echo $?'):
        assert shell(script, ["recipes", "nosuch"], tmp_path) == "1\n"


def test_a_terminal_of_ascii_gets_ascii(command: Command, tmp_path: Path) -> None:
    """In the program's own words and in a user's: a folder's name with an umlaut."""
    (tmp_path / "Möbel \u00d7 2").mkdir()
    (tmp_path / "Möbel \u00d7 2" / "m.csv").write_text("id,image,mask\n/,a.jpg,a.png\n")
    ascii_ = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = command("plan", "Möbel \u00d7 2/m.csv", "--output", "out", **ascii_)
    assert done.returncode == 3, done.stderr
    assert "M\\xf6bel \\xd7 2/m.csv, line 2: id.unsafe" in done.stdout
    listed = command("errors", **ascii_)
    assert listed.returncode == 0
    assert "polygons [x1, y1, x2, y2, \\u2026]" in listed.stdout
    wrong = command("recipes", "Möbel", **ascii_)
    assert (wrong.returncode, wrong.stderr.isascii()) == (1, True)
    assert "'M\\xf6bel'" in wrong.stderr


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while os.write(writing, bytes(4096)):
            pass
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_reader_that_does_not_read_holds_nothing_up(
    full_pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = full_pipe
    monkeypatch.setattr("jobs.cli.streams._STALL_TIMEOUT_S", 0.01)
    stream = Stream(writing, "stdout", "utf-8", essential=False)
    with meter(Console(file=stream, force_terminal=True), 100) as advance:  # type: ignore[arg-type]
        for _ in range(100):
            advance(1, 0)
    os.read(reading, 1 << 20)
    stream.write("it reads again\n")
    assert os.read(reading, 1 << 20) == b"it reads again\n"


def test_a_pipe_that_does_not_block_gets_all_of_what_is_essential(
    full_pipe: tuple[int, int],
) -> None:
    reading, writing = full_pipe
    os.set_blocking(writing, False)
    text = "photo\n" * 50_000
    with subprocess.Popen(["wc", "-c"], stdin=reading, stdout=subprocess.PIPE) as counting:
        held = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
        Stream(writing, "stdout", "utf-8", essential=True).write(text)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
        assert counting.stdout
        assert int(counting.stdout.read()) == held + len(text)


def test_streams_that_somebody_else_has_put_in_place_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    guard()
    assert sys.stdout is mine
