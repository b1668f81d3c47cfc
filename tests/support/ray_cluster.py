"""A real Ray cluster on this machine, to which nodes are added and from which they are torn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import free_ports

_TRIES = 4


@dataclass(frozen=True)
class Node:
    """One node: its raylet, and all that belongs to it, in a process group.

    Attributes:
        process: ``ray start``, which leads the group.
        log: what it printed.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """All at once, as when a machine is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class RayCluster:
    """Attributes:
    address: of its head.
    folder: for Ray's files.
    environment: of its nodes, beside the tests' own.
    dashboard: URL of its dashboard and job API, where it has one.
    metrics: URL of the head's metrics, where it has a dashboard.
    """

    address: str
    folder: Path
    environment: Mapping[str, str]
    dashboard: str = ""
    metrics: str = ""

    @contextmanager
    def another_node(self, cpus: int = 1) -> Iterator[Node]:
        """One more node, for as long as the block lasts; it is up when the block begins."""
        node = _started([f"--address={self.address}"], self.folder, self.environment, cpus)
        try:
            yield node
        finally:
            node.kill()


@contextmanager
def ray_cluster(
    environment: Mapping[str, str], cpus: int = 2, *, dashboard: bool = False
) -> Iterator[RayCluster]:
    """Run a head node, and remove it after the block.

    Args:
        environment: beside the tests' own.
        cpus: of the head.
        dashboard: whether it takes jobs and exports metrics, for which it needs longer to start.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    port, shown, metrics, *agents = free_ports(6)
    options = ["--head", f"--port={port}", "--disable-usage-stats", f"--temp-dir={folder}"]
    options += [f"--include-dashboard={str(dashboard).lower()}"]
    if dashboard:
        options += ["--dashboard-host=127.0.0.1", f"--dashboard-port={shown}"]
        options += [f"--metrics-export-port={metrics}", f"--ray-client-server-port={agents[0]}"]
        options += [f"--dashboard-agent-listen-port={agents[1]}"]
        options += [f"--dashboard-agent-grpc-port={agents[2]}"]
    head = _started(options, folder, environment, cpus)
    try:
        yield RayCluster(
            f"127.0.0.1:{port}",
            folder,
            environment,
            dashboard=f"http://127.0.0.1:{shown}",
            metrics=f"http://127.0.0.1:{metrics}/metrics",
        )
    finally:
        head.kill()  # SIGTERM takes half a minute to be obeyed
        shutil.rmtree(folder, ignore_errors=True)


def _started(options: list[str], folder: Path, environment: Mapping[str, str], cpus: int) -> Node:
    """A node that is up. Ray gives it 30 s for that, which on a busy machine may be too little."""
    for _ in range(_TRIES):
        node = _start(options, folder, environment, cpus)
        while node.process.poll() is None:
            if b"Ray runtime started" in node.log.read_bytes():
                return node
            time.sleep(0.1)
        node.kill()
    raise AssertionError(node.log.read_text())


def _start(options: list[str], folder: Path, environment: Mapping[str, str], cpus: int) -> Node:
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--num-cpus={cpus}",
        "--object-store-memory=500000000",
        *options,
    ]
    handle, log = tempfile.mkstemp(suffix=".log", dir=folder)
    process = subprocess.Popen(
        command, stdout=handle, stderr=handle, env=os.environ | environment, start_new_session=True
    )
    os.close(handle)
    return Node(process, Path(log))
