"""A Ray cluster on this machine that grows and shrinks: the real autoscaler, with pretended nodes.

Its nodes are processes of this machine; the CPUs and GPUs that they offer are numbers. Ray calls
the provider that starts them fake; the autoscaler is that of every other cluster. Linux only.

To watch a run's nodes come and go for some minutes: ``python -m tests.support.simulated_cluster``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from cluster.pools import LargeGpuPoolOptions, NodeType, PoolsOptions
from cluster.session import prepare_environment
from jobs.run import run
from stages.recipe import Recipe
from tests.support import beside, boxed_catalog
from tests.support.models.sleeping_models import SleepingModels

_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"

#: Of the head node; the provider knows it by this one alone.
_HEAD_ID = "f" * 51 + "0" * 5

#: In the environment of every process of a simulation: its folder. So they are found again.
_MARK = "CATALOG_CLEANUP_SIMULATION"

_NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"

#: For blocks, in each node, in bytes; by default each would take a third of the machine's memory.
_STORE = 200_000_000

_STARTUP_S = 120.0


#: One type for each pool. They need different shapes: Ray Data asks the autoscaler for CPUs and
#: GPUs without labels, and of two types that would do it may add the wrong one.
NODE_TYPES = {
    "cpu": NodeType(cpus=4, max_nodes=2),
    "small_gpu": NodeType(cpus=2, gpus=1, labels={"gpu-tier": "small"}, max_nodes=3),
    "large_gpu": NodeType(cpus=8, gpus=1, labels={"gpu-tier": "large"}, max_nodes=3),
}

#: For these nodes; an actor that refines does not fit on a small one.
POOLS = PoolsOptions(large_gpu=LargeGpuPoolOptions(cpus=4), nodes=NODE_TYPES)


@dataclass(frozen=True, slots=True)
class SimulatedCluster:
    """A running simulation.

    Attributes:
        address: of its head.
        folder: for Ray's files, its logs among them.
    """

    address: str
    folder: Path

    def nodes(self) -> dict[str, str]:
        """Node id -> type of the workers that are up."""
        from ray.autoscaler.v2.sdk import get_cluster_status

        status = get_cluster_status(self.address)
        up = [*status.active_nodes, *status.idle_nodes]
        return {
            node.node_id: node.ray_node_type_name
            for node in up
            if node.node_id and node.node_id != _HEAD_ID
        }

    def counts(self) -> Counter[str]:
        """How many workers of each type are up."""
        return Counter(self.nodes().values())

    def kill(self, node_id: str) -> None:
        """End a node's processes at once, as when a machine is gone without notice."""
        for pid in _processes(_NODE_ID, node_id):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def drain(self, node_id: str, notice_s: int) -> None:
        """Tell Ray that a node will be gone, as a spot machine's agent does; it stays until then.

        Args:
            node_id: of a worker.
            notice_s: seconds until it is to be gone; the caller has to :meth:`kill` it.
        """
        command = [_ray(), "drain-node", f"--address={self.address}", f"--node-id={node_id}"]
        command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        command += [f"--deadline-remaining-seconds={notice_s}"]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def simulated_cluster(
    types: Mapping[str, NodeType] = NODE_TYPES, idle_timeout_s: float = 15.0
) -> Iterator[SimulatedCluster]:
    """A head without CPUs and no workers, for as long as the block lasts.

    Where the environment does not say how Ray authenticates, a token is set in it, for this process
    and those it starts; so this comes before anything else that uses Ray.

    Args:
        types: what its autoscaler may start, by name.
        idle_timeout_s: after so long without work a node is stopped.

    Raises:
        ConnectionError: Ray does not start; the message ends with what it tells.
    """
    prepare_environment()
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # its ports are open to the network, too
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short, since sockets lie in it
    address = f"{_own_ip()}:{_free_port()}"
    config = folder / "autoscaler.json"
    config.write_text(json.dumps(_config(address, types, idle_timeout_s)))
    with (folder / "start.log").open("wb") as log:
        head = _start_head(address, folder, config, log)
    try:
        _await_head(head, address, folder)
        yield SimulatedCluster(address, folder)
    finally:
        _end_all(folder)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _config(
    address: str, types: Mapping[str, NodeType], idle_timeout_s: float
) -> dict[str, object]:
    """What ``ray up`` files hold."""
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    workers = {
        name: {
            "resources": {"CPU": each.cpus, "GPU": each.gpus, "object_store_memory": _STORE},
            "labels": dict(each.labels),
            "node_config": {},
            "min_workers": 0,
            "max_workers": each.max_nodes,
        }
        for name, each in types.items()
    }
    provider = {
        "type": "external",
        "module": _PROVIDER,
        "gcs_address": address,
        "launch_multiple": True,
        "head_node_id": _HEAD_ID,
    }
    empty = [
        *("cluster_synced_files", "initialization_commands", "setup_commands"),
        *("head_setup_commands", "worker_setup_commands", "rsync_exclude", "rsync_filter"),
        *("head_start_ray_commands", "worker_start_ray_commands"),
    ]
    return {
        "cluster_name": "simulated",
        "provider": provider,
        "available_node_types": {"ray.head.default": head} | workers,
        "head_node_type": "ray.head.default",
        "max_workers": sum(each.max_nodes for each in types.values()),
        "idle_timeout_minutes": idle_timeout_s / 60,
        "upscaling_speed": 100.0,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    } | {name: [] for name in empty}


def _start_head(address: str, folder: Path, config: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
    host, _, port = address.rpartition(":")
    command = [_ray(), "start", "--head", "--block", f"--node-ip-address={host}", f"--port={port}"]
    command += ["--num-cpus=0", "--num-gpus=0", f"--object-store-memory={_STORE}"]
    command += [f"--temp-dir={folder}", f"--autoscaling-config={config}"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    environment = {
        _MARK: str(folder),
        _NODE_ID: _HEAD_ID,
        "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    return subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True
    )


def _await_head(head: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + _STARTUP_S
    while True:
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        if head.poll() is not None or time.monotonic() > deadline:
            told = (folder / "start.log").read_text()[-2000:]
            raise ConnectionError(f"Ray does not start: {told}")
        time.sleep(0.1)


def _end_all(folder: Path) -> None:
    """End every process of a simulation; those that start meanwhile, too."""
    deadline = time.monotonic() + _STARTUP_S
    while pids := list(_processes(_MARK, str(folder))):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise ConnectionError(f"Processes of {folder} do not end: {pids}")
        time.sleep(0.1)


def _processes(variable: str, value: str) -> Iterator[int]:
    """The processes that have a variable of this value in their environment."""
    entry = f"{variable}={value}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if entry in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def _own_ip() -> str:
    import ray.util

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def _ray() -> str:
    return str(Path(sys.executable).parent / "ray")


def watch(photos: int) -> None:
    """Clean photos on a simulated cluster, and print its nodes whenever they change."""
    console = Console(file=sys.stdout, highlight=False)
    ended = threading.Event()
    with (
        redirect_stdout(io.StringIO()),  # on which Ray reports each node that is stopped
        tempfile.TemporaryDirectory() as folder,
        simulated_cluster() as cluster,
    ):

        def print_nodes() -> None:
            shown = ""
            while not ended.wait(0.5) or cluster.counts():
                counts = sorted(cluster.counts().items())
                text = ", ".join(f"{count} x {name}" for name, count in counts) or "no workers"
                if text != shown:
                    console.print(f"nodes: {text}")
                shown = text
            console.print("nodes: no workers")

        with beside(print_nodes):
            try:
                outcome = run(
                    boxed_catalog(Path(folder), photos),
                    f"{folder}/out",
                    Recipe.load("telea"),
                    console,
                    address=cluster.address,
                    pools=POOLS,
                    steps=SleepingModels(remove_s=0.1, refine_s=1.5),
                    rows_per_shard=2,  # tasks enough for several actors
                )
            finally:
                ended.set()
    console.print(f"{outcome.tally.ok} of {photos} photos are clean after {outcome.seconds:.0f} s.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=watch.__doc__)
    parser.add_argument("--photos", type=int, default=80)
    watch(parser.parse_args().photos)
