"""Starts a private Ray on this machine, even if its default folders cannot be used."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

#: Max length of a Unix socket's path, in bytes. Ray keeps sockets in its folder.
_MAX_SOCKET_BYTES = 107

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the fixed name in Linux

#: Size of an object store on disk; by default Ray sizes it by the shared memory.
_OBJECTS_ON_DISK_BYTES = 2 << 30

#: Ray's own timeout is 30 s. Files that were slow to load at first are cached on the next attempt.
_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class StartError(RuntimeError):
    """A private Ray cannot be started on this machine; the message gives the reason in one line."""


def temp_folders() -> tuple[Path, Path | None]:
    """Choose the folders for a private Ray's files and for the objects it spills.

    The folders named by ``RAY_TMPDIR`` and ``TMPDIR`` come first, then /tmp and others. The first
    usable one is chosen. One that is usable except that its path is too long gets the spilled
    objects, which need the most space.

    Returns:
        The folder for files, and that for spilled objects; None if it is the same.

    Raises:
        StartError: none can be written.
    """
    configured = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    names = ("ray", f"ray-{os.getuid()}")  # another user may have made the first
    problems, spill = list[str](), None
    for base in dict.fromkeys((*configured, "/tmp", "/var/tmp", str(_SHARED_MEMORY))):  # noqa: S108
        for folder in (Path(base).absolute() / name for name in names):
            if problem := _unwritable(folder):
                problems.append(problem)
            elif len(os.fsencode(_socket(folder))) > _MAX_SOCKET_BYTES:
                problems.append(f"{folder} is too long a path for Ray's sockets")
                spill = spill or folder
            else:
                if problems:
                    _log.warning("note: Ray's files go to %s: %s.", folder, problems[0])
                return folder, spill
    raise StartError(f"there is no folder for Ray's files: {problems[0]}; set RAY_TMPDIR to one")


def _socket(folder: Path) -> Path:
    """The longest socket path of a Ray session in the folder."""
    session = f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
    return folder / session / "sockets" / "plasma_store"


def _unwritable(folder: Path, *, make: bool = True) -> str:
    """Why a folder cannot be written, created first with ``make``; empty if it can."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return ""


def start(init_options: Mapping[str, Any]) -> None:
    """Start Ray's processes, and connect this process to them.

    They ignore the terminal's hangup signal, so that the run can end gracefully.

    Args:
        init_options: further arguments of ``ray.init``.

    Raises:
        StartError: Ray does not start.
    """
    import ray

    folder, spill = temp_folders()
    options: dict[str, Any] = {"_temp_dir": str(folder), "include_dashboard": False}
    if spill:
        options["object_spilling_directory"] = str(spill)
    if problem := _unwritable(_SHARED_MEMORY, make=False):
        _log.warning("note: %s; Ray's objects go to %s, which is slower.", problem, folder)
        options |= {
            "_plasma_directory": str(folder),
            "object_store_memory": _OBJECTS_ON_DISK_BYTES,
        }
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # Ray's processes inherit it
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            before = set(psutil.Process().children(recursive=True))
            try:
                with silent_stderr():
                    ray.init("local", **options, **init_options)
                return
            except Exception as error:  # Ray raises a dozen kinds, and plain Exceptions
                with suppress(Exception):
                    ray.shutdown()
                _kill(set(psutil.Process().children(recursive=True)) - before)
                if attempt == _ATTEMPTS or not _is_transient(error):
                    raise StartError(first_line(error)) from error
                _log.warning("note: Ray did not start (%s); trying again.", first_line(error))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _kill(processes: set[psutil.Process]) -> None:
    """Kill what a failed start left running; it would slow down the next attempt."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(list(processes))


def _is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed: not if the machine or the options are the cause."""
    return isinstance(error, TimeoutError) or not isinstance(
        error, (OSError, ValueError, TypeError)
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, without its full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")


@contextmanager
def temporary_token() -> Iterator[None]:
    """Set a token for a private Ray if the home folder, where Ray stores it, is not writable."""
    variables = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    is_off = os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    if is_off or any(os.environ.get(name) for name in variables) or _has_token_folder():
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN"]


def _has_token_folder() -> bool:
    """Whether Ray can read its token in the home folder, or store one there."""
    try:
        folder = Path.home() / ".ray"
        token = folder / "auth_token"
        if token.exists():
            token.read_bytes()
            return True
    except (OSError, RuntimeError):  # another user's, or the home folder is unknown
        return False
    return not _unwritable(folder)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what C++ code writes to file descriptor 2; failures also raise in Python."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
