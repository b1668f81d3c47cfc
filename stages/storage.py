"""Objects by URI: local paths, ``file://`` and ``s3://``, read whole and written atomically.

To add a storage, write a class with the two methods of :class:`Storage` and enter its scheme in
:data:`_SCHEMES`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from manifests.errors import DestinationError, RowError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Storage(Protocol):
    """What a place must be able to do; it fails with an ``OSError`` (see :func:`read`)."""

    def read(self, uri: str) -> bytes:
        """The whole object. ``FileNotFoundError``, ``PermissionError`` or another ``OSError``."""
        ...

    def write(self, uri: str, data: bytes) -> None:
        """Store the object so that readers see all of it or none. ``OSError`` if it fails."""
        ...


class LocalStorage:
    """Files, by path or ``file://`` URI."""

    def read(self, uri: str) -> bytes:
        """See :class:`Storage`."""
        return local_path(uri).read_bytes()

    def write(self, uri: str, data: bytes) -> None:
        """Write beside the target, flush to disk, rename."""
        path = local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


class S3Storage:
    """Objects in S3, with the credentials, region and endpoint that boto3 finds."""

    def __init__(self) -> None:
        import boto3  # noqa: PLC0415 - takes 0.2 s, which local runs need not spend

        self._client: S3Client = boto3.Session().client("s3")

    def read(self, uri: str) -> bytes:
        """See :class:`Storage`."""
        bucket, key = bucket_and_key(uri)
        with _s3_errors(uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def write(self, uri: str, data: bytes) -> None:
        """One PUT, which S3 makes visible whole; boto3 adds the checksum."""
        bucket, key = bucket_and_key(uri)
        with _s3_errors(uri):
            self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def listing(self, uri: str) -> dict[str, tuple[int, str]]:
        """What is there: ``{relative name: (bytes, entity tag)}``; an object's own name is empty.

        A URI that is no object's is taken for a folder's; hidden names are left out.

        Raises:
            FileNotFoundError: neither an object nor a folder with objects; another ``OSError``.
        """
        bucket, key = bucket_and_key(uri)
        found: dict[str, tuple[int, str]] = {}
        with _s3_errors(uri):
            with suppress(FileNotFoundError), _s3_errors(uri):
                if key and not key.endswith("/"):
                    head = self._client.head_object(Bucket=bucket, Key=key)
                    return {"": (head["ContentLength"], head["ETag"])}
            prefix = f"{key.rstrip('/')}/" if key else ""
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                for each in page.get("Contents", []):
                    name = each["Key"].removeprefix(prefix)
                    if not f"/{name}".count("/.") and not name.endswith("/"):
                        found[name] = (each["Size"], each["ETag"])
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such object or folder", uri)
        return found

    def download(self, uri: str, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Copy a large object into a file, in parallel parts; ``on_bytes`` hears of each."""
        bucket, key = bucket_and_key(uri)
        with _s3_errors(uri):
            self._client.download_file(bucket, key, str(path), Callback=on_bytes)

    def upload(self, path: Path, uri: str) -> None:
        """Store a large file as an object, in parallel parts; readers see all of it or none."""
        bucket, key = bucket_and_key(uri)
        with _s3_errors(uri):
            self._client.upload_file(str(path), bucket, key)


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    """Turn botocore's errors into the OSErrors that a file would raise."""
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 - as above
    from botocore.exceptions import (  # noqa: PLC0415 - as above
        BotoCoreError,
        ClientError,
        NoCredentialsError,
    )

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        number = {404: errno.ENOENT, 403: errno.EACCES, 401: errno.EACCES}.get(status, errno.EIO)
        raise OSError(number, str(error), uri) from error
    except NoCredentialsError as error:
        raise OSError(errno.EACCES, str(error), uri) from error
    except (Boto3Error, BotoCoreError) as error:
        raise OSError(errno.EIO, str(error), uri) from error


_SCHEMES: dict[str, Callable[[], Storage]] = {
    "": LocalStorage,
    "file": LocalStorage,
    "s3": S3Storage,
}


@cache
def storage_for(scheme: str) -> Storage:
    """The storage of a scheme, one for each process.

    Raises:
        KeyError: no storage has this scheme.
    """
    return _SCHEMES[scheme]()


def read(uri: str, role: str) -> bytes:
    """Read an input.

    Args:
        uri: path or URI.
        role: ``image`` or ``mask``; the first half of the error's code.

    Raises:
        RowError: ``….no_uri``, ``….unknown_scheme``, ``….not_found``, ``….access_denied`` or
            ``….unreachable``.
    """
    if not uri:
        raise RowError(f"{role}.no_uri", f"The row has no {role}.")
    scheme = scheme_of(uri)
    if scheme not in _SCHEMES:
        raise RowError(f"{role}.unknown_scheme", f"The {role} {uri} is of scheme {scheme}://.")
    try:
        return storage_for(scheme).read(uri)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise RowError(f"{role}.not_found", f"There is no {role} {uri}.") from None
    except PermissionError as error:
        raise RowError(f"{role}.access_denied", f"The {role} {uri}: {error.strerror}.") from None
    except (OSError, ValueError) as error:
        raise RowError(f"{role}.unreachable", f"The {role} {uri}: {error}.") from None


def version(uri: str) -> str | None:
    stat = local_path(uri).stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def write(uri: str, data: bytes) -> None:
    """Store an output, atomically.

    Raises:
        DestinationError: ``output.not_writable``.
    """
    try:
        storage_for(scheme_of(uri)).write(uri, data)
    except OSError as error:
        raise DestinationError("output.not_writable", f"Cannot store {uri}: {error}.") from error


def s3() -> S3Storage:
    """The storage of ``s3://``, for what only it can do."""
    storage = storage_for("s3")
    assert isinstance(storage, S3Storage)
    return storage


def is_same(first: str, second: str) -> bool:
    """Whether two URIs name one file or object, links followed."""
    if first == second or "s3" in (scheme_of(first), scheme_of(second)):
        return first == second
    one, other = local_path(first), local_path(second)
    return one.exists() and other.exists() and one.samefile(other)


def scheme_of(uri: str) -> str:
    """``s3`` of ``s3://…``, in lower case; empty for a path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator else ""


def local_path(uri: str) -> Path:
    """The path of a local URI or path."""
    return Path(unquote(urlsplit(uri).path) if scheme_of(uri) == "file" else uri)


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``; keys are taken literally, ``%``, ``?`` and ``#`` included."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


@cache
def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
