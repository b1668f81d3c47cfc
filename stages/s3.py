"""The storage of ``s3://``, a module by itself since boto3 takes 0.2 s to load."""

from __future__ import annotations

from manifests.s3 import objects
from stages.storage import Content


class S3Storage:
    """Objects in S3, as :mod:`manifests.s3` reaches them."""

    def fetch(self, uri: str) -> Content:
        """See :class:`stages.storage.Storage`."""
        data, head = objects.get(uri)
        return Content(data, head.version)

    def version(self, uri: str) -> str:
        """See :class:`stages.storage.Storage`."""
        return objects.head(uri).version

    def write(self, uri: str, data: bytes) -> None:
        """See :class:`stages.storage.Storage`."""
        objects.put(uri, data)
