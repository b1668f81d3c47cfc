"""A Ray of the run's own where the usual places do not serve, and addresses where none answers."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster import private_ray as private
from cluster import probe
from cluster.private_ray import StartError, temp_folders
from jobs.driver.placement import connected
from manifests.errors import ClusterError
from tests.support import DEMO, PROGRAM
from tests.support.web_server import Web

#: Two bytes a letter: what counts is bytes.
LONG = "ü" * 60

#: A folder that even root cannot write to.
NOWHERE = "/proc"

DOCTORS = ["bad  Disk: ", "bad  Ray: Ray: "]


def test_without_a_folder_for_its_files_ray_is_refused_in_a_line_also_by_doctor(
    tmp_path: Path,
) -> None:
    """In a namespace of its own, in which everything but the working folder is read-only."""
    script = f"mount --bind {tmp_path} /mnt && cd /mnt"
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108
        script += f" && mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    for arguments in (["run", str(DEMO / "manifest.csv"), "--output", "/mnt/out"], ["doctor"]):
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", f'{script} && exec "$@"', "bash", PROGRAM, *arguments],
            env=os.environ | {"RAY_TMPDIR": NOWHERE, "TMPDIR": NOWHERE},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        problem = "there is no folder for Ray's files: /proc/ray cannot be written (No such file"
        lines = [line for line in (done.stdout + done.stderr).splitlines() if problem in line]
        starts = [line.partition(problem)[0] for line in lines]
        is_run = arguments[0] == "run"
        assert starts == (["error cluster.not_started: Ray: "] if is_run else DOCTORS)


def test_objects_go_to_the_folder_asked_for_though_its_path_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / LONG))
    folder, spill = temp_folders()
    assert spill == tmp_path / LONG / "ray"
    assert len(os.fsencode(folder)) <= 43
    monkeypatch.setenv("RAY_TMPDIR", str(folder.parent))
    assert temp_folders()[1] is None


def test_a_slow_start_gets_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Misses what is slow: the first try starts a process, and is then said to be late."""
    init = ray.init
    left: list[subprocess.Popen[bytes]] = []

    def late(*arguments: Any, **options: Any) -> None:
        if not left:
            left.append(subprocess.Popen(["sleep", "600"]))
            raise Exception("The current node timed out during startup. This could happen because")
        init(*arguments, **options)

    monkeypatch.setattr(ray, "init", late)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connected("local"):
        assert ray.get(ray.remote(lambda: 5).remote()) == 5
    assert left[0].poll() is not None, "what the first try left is killed"


def test_whatever_ray_raises_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("the first line.\nand sixty others")

    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(ClusterError) as caught, connected("local"):
        pass
    assert (caught.value.code, caught.value.message) == (
        "cluster.not_started",
        "Ray: the first line.",
    )
    assert isinstance(caught.value.__cause__, StartError)


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """A port that accepts, and answers to all that comes; or, without an answer, never."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while answer and connection.recv(4096):
                    connection.sendall(answer)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def refusal(address: str) -> str:
    with pytest.raises(ClusterError) as caught, connected(address):
        pass
    assert caught.value.code == "cluster.unreachable"
    return caught.value.message


def test_a_web_server_is_no_cluster(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    address = web.url.removeprefix("http://")
    assert "the server there is not the head of a Ray cluster (8265 is" in refusal(address)
    assert "the cluster's address is usually 127.0.0.1:6379." in refusal(web.url)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n", b"\x15\x03\x01"]
)
def test_what_speaks_another_protocol_is_no_cluster(answer: bytes) -> None:
    with server(answer * 2) as port:
        assert "is not the head of a Ray cluster" in refusal(f"127.0.0.1:{port}")


def test_a_port_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_ANSWER_TIMEOUT_S", 0.05)
    with server(b"") as port:
        assert refusal(f"127.0.0.1:{port}") == f"Ray at 127.0.0.1:{port}: timed out."


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:9", "Connection refused"),
        ("[::1]:9", ""),
        ("nosuch.invalid:6379", ""),
        ("somehost", "an address is HOST:PORT, such as HEAD:6379"),
        ("somehost:http", "an address is HOST:PORT, such as HEAD:6379"),
        ("127.0.0.1:99999", ""),
    ],
)
def test_an_address_where_no_cluster_can_be_is_refused_at_once(address: str, problem: str) -> None:
    message = refusal(address)
    assert message.startswith(f"Ray at {address}: ")
    assert problem in message


def test_a_cluster_is_one(ray_address: str) -> None:
    probe.check_is_ray(ray_address)
    probe.check_is_ray(f"ray://{ray_address}")
    assert private.first_line(ValueError("")) == "ValueError"
