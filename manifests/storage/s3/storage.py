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

#: A page of a listing takes as long as this many single requests; some pages are always tried.
_HEADS_PER_PAGE = 50
_PAGES = 2


@dataclass(frozen=True)
class S3Storage:
    """Objects, as :mod:`manifests.storage.s3.objects` reaches them."""

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
        """By listing where objects lie close to each other, else one by one."""
        found: dict[str, str] = {}
        buckets = defaultdict[str, list[str]](list)
        for uri in uris:
            buckets[objects.bucket_and_key(uri)[0]].append(uri)
        for there in buckets.values():
            listed = None
            with suppress(PermissionError):  # to read is not always to list
                listed = objects.etags(there, _PAGES + len(there) // _HEADS_PER_PAGE)
            found |= _heads(there) if listed is None else listed
        return found

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
    def ask(uri: str) -> tuple[str, str] | None:
        with suppress(OSError):
            return uri, objects.head(uri).version
        return None

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return dict(filter(None, pool.map(ask, uris)))
