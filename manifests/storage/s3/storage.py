"""The storage of ``s3://``."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import fs

from manifests.storage.base import Content
from manifests.storage.s3 import objects
from manifests.storage.s3.client import CONNECTIONS
from manifests.storage.s3.filesystem import S3Handler

#: A page of a listing takes as long as this number of HEAD requests.
_HEADS_PER_PAGE = 50
#: Max pages of a listing for a few objects; more objects allow more.
_MIN_PAGE_LIMIT = 2


@dataclass(frozen=True)
class S3Storage:
    """S3 objects, accessed through :mod:`manifests.storage.s3.objects`."""

    filesystem = fs.PyFileSystem(S3Handler())

    def path(self, uri: str) -> str:
        """``bucket/key``."""
        return uri.partition("://")[2].rstrip("/")

    def uri(self, path: str) -> str:
        """``s3://bucket/key``."""
        return f"s3://{path}"

    def fetch(self, uri: str) -> Content:
        """See :class:`manifests.storage.base.Storage`."""
        data, head = objects.get(uri)
        return Content(data, head.version)

    def versions(self, uris: Collection[str]) -> dict[str, str]:
        """Versions by listing if the objects' keys are close to each other, else one by one."""
        versions: dict[str, str] = {}
        buckets = defaultdict[str, list[str]](list)
        for uri in uris:
            buckets[objects.bucket_and_key(uri)[0]].append(uri)
        for of_bucket in buckets.values():
            listed = None
            with suppress(PermissionError):  # read permission does not imply list permission
                listed = objects.etags(
                    of_bucket, _MIN_PAGE_LIMIT + len(of_bucket) // _HEADS_PER_PAGE
                )
            versions |= _heads(of_bucket) if listed is None else listed
        return versions

    def write(self, uri: str, data: bytes | pa.Buffer, *, flush: bool = True) -> None:  # noqa: ARG002 - S3 always does
        """See :class:`manifests.storage.base.Storage`."""
        objects.put(uri, bytes(data))

    def create(self, uri: str, data: bytes) -> bool:
        """See :class:`manifests.storage.base.Storage`."""
        return objects.create(uri, data)

    @contextmanager
    def open_output(self, uri: str) -> Iterator[IO[bytes]]:
        """See :class:`manifests.storage.base.Storage`."""
        with tempfile.NamedTemporaryFile() as pieces:
            yield pieces
            pieces.flush()
            self.upload(Path(pieces.name), uri)

    def upload(self, path: Path, uri: str) -> None:
        """See :class:`manifests.storage.base.Storage`."""
        objects.upload(path, uri)


def _heads(uris: Collection[str]) -> dict[str, str]:
    def version(uri: str) -> tuple[str, str] | None:
        with suppress(OSError):
            return uri, objects.head(uri).version
        return None

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return dict(filter(None, pool.map(version, uris)))
