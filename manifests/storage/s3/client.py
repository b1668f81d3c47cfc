"""The process's S3 client."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.model import OperationModel

from manifests.errors import StorageError
from manifests.storage.s3.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Size of the connection pool: enough for the threads that prefetch, the ledger's 16 readers, and
#: the 10 of a large transfer.
CONNECTIONS = 32

#: A reachable server accepts within a second, and sends something while it handles a request.
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 30.0

#: Prefixes of the environment variables that the client depends on.
_VARIABLES = ("AWS_", "CATALOG_CLEANUP_", "BOTO_")


@dataclass(frozen=True, slots=True)
class Connection:
    """A client and the settings it was built with.

    Attributes:
        client: thread-safe; refreshes credentials that can be refreshed.
        probe: a client with short timeouts and no retries, to check whether the storage responds.
        settings: those in addition to boto3's.
    """

    client: S3Client
    probe: S3Client
    settings: Settings


def connect() -> Connection:
    """The connection for the current environment; one per process.

    Raises:
        StorageError: ``storage.bad_setting``.
    """
    return _connect(tuple(sorted(i for i in os.environ.items() if i[0].startswith(_VARIABLES))))


def renew(stale: Connection) -> Connection:
    """A connection with newer credentials than those of ``stale``."""
    if connect() is stale:  # else another thread has renewed it
        _connect.cache_clear()
    return connect()


@lru_cache(maxsize=1)
def _connect(_: tuple[tuple[str, str], ...]) -> Connection:
    settings = Settings.of(os.environ)

    def add_settings(params: dict[str, Any], model: OperationModel, **_: object) -> None:
        if model.input_shape is not None:
            settings.add_to(params, model.input_shape.members)

    common = Config(max_pool_connections=CONNECTIONS, tcp_keepalive=True)
    patient = Config(connect_timeout=_CONNECT_TIMEOUT_S, read_timeout=_READ_TIMEOUT_S)
    brief = Config(connect_timeout=5.0, read_timeout=10.0, retries={"total_max_attempts": 1})
    try:
        session = boto3.Session()
        # Registered at the session, so that multipart transfers have them, too.
        session.events.register("before-parameter-build.s3", add_settings)
        client, probe = (session.client("s3", config=common.merge(c)) for c in (patient, brief))
    except (BotoCoreError, ValueError) as error:
        raise StorageError("storage.bad_setting", f"boto3 reports: {error}.") from error
    return Connection(client, probe, settings)
