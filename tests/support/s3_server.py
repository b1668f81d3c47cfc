"""A real S3 server (SeaweedFS) that tests can stall, kill, revive, overload and rob of credentials.

Its four processes run separately, as in a cluster, so that the gateway can fail by itself. What a
double would miss: signatures, checksums and ranges as a server checks them, connections that hang
or break, and errors as they come over the wire.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support import free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "catalog"
ACCESS_KEY, SECRET_KEY = "tests", "not-a-secret"

#: Of :meth:`S3Server.client`, which goes on when a test takes the others' away.
_OWNER = {"owner": "not-a-secret-either"}

#: With a key of its own, the server encrypts what asks for ``AES256``.
_SSE_KEY = "00" * 32

#: In the order in which they need each other.
PROCESSES = ("master", "volume", "filer", "s3")

_ALL_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")
_STARTUP_S = 60.0


class S3Server:
    """One server with its data in a folder, and an empty bucket :data:`BUCKET`.

    Args:
        folder: for data, logs and configuration; exists.
        tls: whether it speaks HTTPS only, with a certificate of its own (see :attr:`ca_bundle`).
    """

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self.folder = folder
        self.ca_bundle = folder / "certificate.pem" if tls else None
        names = [*PROCESSES, *(f"{name}.grpc" for name in PROCESSES), "http"]
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._is_slow = False
        self._users: dict[str, tuple[str, Sequence[str]]] = {}
        for access_key, secret_key in ({ACCESS_KEY: SECRET_KEY} | _OWNER).items():
            self._users[access_key] = (secret_key, _ALL_ACTIONS)
        self._write_credentials()
        if self.ca_bundle:
            _make_certificate(self.ca_bundle, folder / "key.pem")

    @property
    def endpoint(self) -> str:
        """The URL of its S3 gateway."""
        return f"http{'s' if self.ca_bundle else ''}://127.0.0.1:{self._ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches it."""
        variables = {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return variables | ({"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    def client(self) -> S3Client:
        """A client of the test's own, whatever the environment says; it tries once."""
        ((access_key, secret_key),) = _OWNER.items()
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
            verify=str(self.ca_bundle) if self.ca_bundle else None,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5),
        )

    def pause(self, *names: str) -> None:
        """Stall processes, by default the gateway: connections stay open, and nobody answers."""
        self._signal(names or ("s3",), signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        """Let stalled processes go on."""
        self._signal(names or ("s3",), signal.SIGCONT)

    def kill(self, *names: str) -> None:
        """Kill processes, by default all four, as a crash would."""
        for name in reversed(names or PROCESSES):
            process = self._running.pop(name)
            process.kill()
            process.wait()

    def revive(self) -> None:
        """Start what was killed on the same ports and data; returns when it stores objects."""
        self._start_missing()
        self._await_bucket()

    def mend(self) -> None:
        """Undo what was done to it: stalls, crashes, refusals, and credentials that are gone."""
        self.resume(*self._running)
        self._start_missing()
        if self._is_slow:
            self.slow_down(False)
        if ACCESS_KEY not in self._users:
            self.add_credentials(ACCESS_KEY, SECRET_KEY)
        self._await_bucket()

    def slow_down(self, on: bool) -> None:
        """Refuse every read, write and list with 503, or stop doing so; by its circuit breaker."""
        self._shell(
            "s3.circuitBreaker -global -type=Count -actions=Read,Write,List -values=0,0,0 -apply"
            if on
            else "s3.circuitBreaker -delete -apply"
        )
        self._is_slow = on

    def add_credentials(
        self, access_key: str, secret_key: str, actions: Sequence[str] = _ALL_ACTIONS
    ) -> None:
        """Admit one more user, at once; an action may be ``Read:bucket``."""
        self._users[access_key] = (secret_key, actions)
        self._write_credentials()
        self._running["s3"].send_signal(signal.SIGHUP)

    def remove_credentials(self, access_key: str) -> None:
        """Admit a user no more; the gateway starts anew, since it only ever learns new ones."""
        del self._users[access_key]
        self._write_credentials()
        self.kill("s3")
        self.revive()

    def stop(self) -> None:
        """Kill what runs: the filer waits on SIGTERM for clients that are gone."""
        self.kill(*(name for name in PROCESSES if name in self._running))

    def _signal(self, names: Sequence[str], number: signal.Signals) -> None:
        for name in names:
            self._running[name].send_signal(number)

    def _start_missing(self) -> None:
        for name in PROCESSES:
            if name not in self._running:
                self._start(name)

    def _start(self, name: str) -> None:
        data = self.folder / name
        data.mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [_WEED, "-logtostderr=true", name, *self._options(name)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=data,
                env={"HOME": str(data), "GOMEMLIMIT": "384MiB", "WEED_S3_SSE_KEK": _SSE_KEY},
            )
        # One that finds its master or filer absent waits for seconds before it looks again.
        self._await_port(name, self._ports[f"{name}.grpc"])

    def _options(self, name: str) -> list[str]:
        port, grpc = self._ports[name], self._ports[f"{name}.grpc"]
        data = self.folder / name
        common = ["-ip.bind=127.0.0.1", f"-port={port}", f"-port.grpc={grpc}"]
        if name != "s3":
            common.append("-ip=127.0.0.1")
        if name in ("filer", "s3"):
            common.append(f"-localSocket={data / 'socket'}")
        match name:
            case "master":
                own = [f"-mdir={data}", "-peers=none", "-volumeSizeLimitMB=64", "-telemetry=false"]
                own += ["-electionTimeout=1s", "-heartbeatInterval=100ms"]
            case "volume":
                own = [f"-dir={data}", f"-master={self._address('master')}", "-max=50"]
                own += ["-preStopSeconds=0"]
            case "filer":
                own = [f"-master={self._address('master')}", f"-defaultStoreDir={data}"]
            case _:
                own = [f"-filer={self._address('filer')}", f"-config={self.folder / 's3.json'}"]
                own += ["-port.iceberg=0", "-port.lance=0", "-iam=false", "-autoCreateBucket=false"]
                if self.ca_bundle:
                    common[1] = f"-port={self._ports['http']}"
                    own += [f"-port.https={port}", f"-cert.file={self.ca_bundle}"]
                    own += [f"-key.file={self.folder / 'key.pem'}"]
        return common + own

    def _address(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}.{self._ports[f'{name}.grpc']}"

    def _await_port(self, name: str, port: int) -> None:
        deadline = time.monotonic() + _STARTUP_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if self._running[name].poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _await_bucket(self) -> None:
        client = self.client()
        deadline = time.monotonic() + _STARTUP_S
        while True:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
                client.get_object(Bucket=BUCKET, Key="ready")["Body"].read()
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _write_credentials(self) -> None:
        identities = [
            {
                "name": access_key,
                "actions": actions,
                "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            }
            for access_key, (secret_key, actions) in self._users.items()
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))

    def _shell(self, command: str) -> str:
        address = [f"-master={self._address('master')}", f"-filer={self._address('filer')}"]
        done = subprocess.run(
            [_WEED, "shell", *address],
            input=f"{command}\nexit\n",
            capture_output=True,
            text=True,
            timeout=30,
            cwd=self.folder,
            check=True,
        )
        assert "error" not in done.stdout.lower(), done.stdout
        return done.stdout


_WEED = str(Path(sys.executable).parent / "weed")


@contextmanager
def running(*, tls: bool = False) -> Iterator[S3Server]:
    """A server that has begun to work, for as long as the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="s3-", dir="/tmp"))
    server = S3Server(folder, tls=tls)
    try:
        server.revive()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _make_certificate(certificate: Path, key: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
