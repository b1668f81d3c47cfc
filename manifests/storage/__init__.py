"""Access to files in local folders and in S3.

::

    path        a file or folder of a storage, by its path
    local, s3/  the storages
    row_files   the files of a row: reads photos and masks, writes results
    traffic     counts the bytes read and written

To add a storage, write a subclass of :class:`manifests.storage.path.StoragePath`, and add its
scheme here and to :meth:`~manifests.storage.path.StoragePath.of`. There is none for HTTP, so that a
manifest cannot trigger requests (SSRF).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

#: The schemes of inputs, as users name them; ``file`` includes plain paths.
Scheme = Literal["file", "s3"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def scheme_of(uri: str) -> str:
    """The scheme of a URI in lower case, such as ``s3``; empty for a path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator else ""


def local_path(uri: str) -> Path:
    """The path of a local path or ``file://`` URI."""
    return Path(unquote(urlsplit(uri).path) if scheme_of(uri) == "file" else uri)
