"""Start a Ray of this process's own on this machine, also where the usual places do not serve."""

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

#: A Unix socket's path is no longer than this, in bytes, and Ray keeps sockets in its folder.
_MAX_SOCKET_BYTES = 107

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the operating system's, by this name

#: By default Ray asks the shared memory how large its object store can be.
_OBJECTS_ON_DISK_BYTES = 2 << 30

#: Ray itself waits 30 s. What was slow to load the first time is in memory the second time.
_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class StartError(RuntimeError):
    """Ray does not start on this machine; the message says why, in a line."""


def temp_folders() -> tuple[Path, Path | None]:
    """Where a private Ray keeps its files, and where it spills objects to.

    The folder named by ``RAY_TMPDIR``, else ``TMPDIR``, else /tmp, is taken if it serves, else
    another. One that serves but for its long path takes the objects, which need the room.

    Returns:
        The folder; and that of the objects, None: the same.

    Raises:
        StartError: none can be written.
    """
    asked = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    names = ("ray", f"ray-{os.getuid()}")  # another user may have made the first
    problems, spill = list[str](), None
    for base in dict.fromkeys((*asked, "/tmp", "/var/tmp", str(_SHARED_MEMORY))):  # noqa: S108
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
    """The longest path of a socket of a session in the folder."""
    session = f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
    return folder / session / "sockets" / "plasma_store"


def _unwritable(folder: Path, *, make: bool = True) -> str:
    """Why nothing can be stored in a folder, made if need be; empty if something can."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return ""


def start(init_options: Mapping[str, Any]) -> None:
    """Start Ray's processes, and connect this one.

    They outlive a hangup of the terminal, so that the run can end as it likes.

    Args:
        init_options: more for ``ray.init``.

    Raises:
        StartError: it does not start.
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
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # which they inherit
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            there = set(psutil.Process().children(recursive=True))
            try:
                with silent_stderr():
                    ray.init("local", **options, **init_options)
                return
            except Exception as error:  # Ray raises a dozen kinds, and plain Exceptions
                with suppress(Exception):
                    ray.shutdown()
                _end(set(psutil.Process().children(recursive=True)) - there)
                if attempt == _ATTEMPTS or not _may_pass(error):
                    raise StartError(first_line(error)) from error
                _log.warning("note: Ray did not start (%s); another try.", first_line(error))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _end(processes: set[psutil.Process]) -> None:
    """End what a failed start left; it would take the next one's time."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(list(processes))


def _may_pass(error: Exception) -> bool:
    """Whether it is about time, and not about the machine or the options."""
    return isinstance(error, TimeoutError) or not isinstance(
        error, (OSError, ValueError, TypeError)
    )


def first_line(error: Exception) -> str:
    """The first line of what an error says, without its full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")


@contextmanager
def temporary_token() -> Iterator[None]:
    """Give a private Ray a token where the home folder cannot keep one, as Ray would have it."""
    given = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    is_off = os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    if is_off or any(os.environ.get(name) for name in given) or _home_keeps_token():
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN"]


def _home_keeps_token() -> bool:
    try:
        folder = Path.home() / ".ray"
        token = folder / "auth_token"
        if token.exists():
            token.read_bytes()
            return True
    except (OSError, RuntimeError):  # another user's; or nobody knows where home is
        return False
    return not _unwritable(folder)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Send what C++ writes to file descriptor 2 nowhere; what fails raises in Python as well."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
