"""The storage of ``s3://``, a module by itself since boto3 takes 0.2 s to load."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from manifests.storage.objects import Content
from manifests.storage.s3 import objects
from manifests.storage.s3.client import CONNECTIONS

#: A page of a listing costs as much time as so many single questions; some pages are always tried.
_HEADS_PER_PAGE = 50
_PAGES = 2


class S3Storage:
    """Objects in S3, as :mod:`manifests.storage.s3` reaches them."""

    def fetch(self, uri: str) -> Content:
        """See :class:`manifests.storage.objects.Storage`."""
        data, head = objects.get(uri)
        return Content(data, head.version)

    def versions(self, uris: Collection[str]) -> dict[str, str]:
        """See :class:`.objects.Storage`: by listing where they lie close, else one by one."""
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

    def write(self, uri: str, data: bytes) -> None:
        """See :class:`manifests.storage.objects.Storage`."""
        objects.put(uri, data)


def _heads(uris: Collection[str]) -> dict[str, str]:
    def ask(uri: str) -> tuple[str, str] | None:
        with suppress(OSError):
            return uri, objects.head(uri).version
        return None

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return dict(filter(None, pool.map(ask, uris)))
