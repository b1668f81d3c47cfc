"""Objects and folders in S3: listed, read, written and verified.

Every function raises the errors of :func:`manifests.storage.s3.retries.request`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import mimetypes
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from botocore.exceptions import ChecksumError, ClientError
from pyarrow import fs

from manifests.errors import OutputError
from manifests.storage.path import Content, StoragePath, storing
from manifests.storage.s3.retries import code_and_status, request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

#: Size of a read request. Latency is then small compared with the transfer, and a thousand requests
#: read a manifest of 8 GB.
_PART_BYTES = 8 * 2**20

#: Number of objects per page of a listing; S3 returns no more.
_PAGE_OBJECTS = 1000

#: A result that other runs replace meanwhile is stored unconditionally after this number of tries.
_MAX_CONDITIONAL_WRITES = 5


@dataclass(frozen=True, slots=True)
class Head:
    """An object's metadata.

    Attributes:
        size: bytes.
        etag: the entity tag, in quotes, as requests need it.
        version: changes with the object: the ETag without quotes, followed by ``@`` and the
            version id if the bucket is versioned.
        modified: when it was stored.
    """

    size: int
    etag: str
    version: str
    modified: datetime

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> Head:
        """Parse the response to a GET or HEAD."""
        tag, version = response.get("ETag", ""), response.get("VersionId", "null")
        suffix = "" if version == "null" else f"@{version}"
        size, modified = response["ContentLength"], response["LastModified"]
        return cls(size, tag, tag.strip('"') + suffix, modified)


@dataclass(frozen=True, slots=True)
class S3Path(StoragePath):
    """``bucket/key``, or a prefix of keys as a folder.

    Keys are taken literally, ``%``, ``?`` and ``#`` included.
    """

    @classmethod
    def of(cls, uri: str) -> Self:
        """Make a path from an ``s3://`` URI."""
        return cls(uri.partition("://")[2].rstrip("/"))

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.path}"

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self.path.partition("/")[0]

    @property
    def key(self) -> str:
        """The key of the object; empty for the bucket itself."""
        return self.path.partition("/")[2]

    def info(self) -> fs.FileInfo:
        """A file, a folder (a prefix of objects) or not found."""
        with suppress(FileNotFoundError):
            if self.key:
                head = self.head()
                return fs.FileInfo(self.path, fs.FileType.File, size=head.size, mtime=head.modified)
        is_folder = any(self._entries(recursive=True))
        return fs.FileInfo(self.path, fs.FileType.Directory if is_folder else fs.FileType.NotFound)

    def _list(self) -> Iterable[tuple[str, bool]]:
        for path, head in self._entries(recursive=False):
            yield posixpath.basename(path), head is None

    def _entries(self, *, recursive: bool) -> Iterator[tuple[str, Head | None]]:
        """Yield the path and metadata of each object in this folder or bucket, in S3's order.

        Without ``recursive``, objects in subfolders are combined into entries for the folders,
        which have no metadata.
        """
        prefix = f"{self.key}/" if self.key else ""
        which = {"Bucket": self.bucket, "Prefix": prefix}
        if not recursive:
            which["Delimiter"] = "/"
        with suppress(FileNotFoundError):  # there is no such bucket
            for page in pages(which):
                for folder in page.get("CommonPrefixes", []):
                    yield f"{self.bucket}/{folder['Prefix'].rstrip('/')}", None
                for each in page.get("Contents", []):
                    if each["Key"] != prefix:  # some tools store an object for the folder itself
                        head = Head(each["Size"], each["ETag"], "", each["LastModified"])
                        yield f"{self.bucket}/{each['Key']}", head

    def _objects(self) -> Iterator[tuple[str, Head]]:
        """Yield the relative names and metadata of the objects below this folder, not hidden."""
        for path, head in self._entries(recursive=True):
            name = path.removeprefix(f"{self.path}/")
            if head and not f"/{name}".count("/.") and not name.endswith("/"):
                yield name, head

    def walk(self) -> Iterator[str]:
        """Yield the relative names of all objects below this folder: a request per 1000."""
        return (name for name, _ in self._objects())

    def listing(self) -> dict[str, tuple[int, str]]:
        """List an object or folder as ``{relative name: (bytes, entity tag)}``.

        A single object has an empty relative name. Hidden names are left out.

        Raises:
            FileNotFoundError: there is neither an object nor a folder with objects.
        """
        with suppress(FileNotFoundError):
            if self.key:
                head = self.head()
                return {"": (head.size, head.etag)}
        sizes_and_tags = {name: (head.size, head.etag) for name, head in self._objects()}
        if not sizes_and_tags:
            raise FileNotFoundError(errno.ENOENT, "no such object or folder", self.uri)
        return sizes_and_tags

    def head(self) -> Head:
        """Read the object's metadata."""

        def action(client: S3Client) -> Head:
            try:
                return Head.of(client.head_object(Bucket=self.bucket, Key=self.key))
            except ClientError as error:
                if code_and_status(error)[1] not in (400, 403):
                    raise
                # The response to a HEAD has no body, so it does not say whether access to the
                # object is denied or the credentials are invalid. The response to a GET does.
                which = {"Bucket": self.bucket, "Key": self.key, "Range": "bytes=0-0"}
                client.get_object(**which)["Body"].close()  # type: ignore[arg-type]
                raise

        return request(self.uri, action)

    def fetch(self) -> Content:
        """Read the whole object, and its version."""

        def action(client: S3Client) -> Content:
            response = client.get_object(Bucket=self.bucket, Key=self.key)
            return Content(response["Body"].read(), Head.of(response).version)

        return request(self.uri, action)

    def open_input(self) -> pa.NativeFile:
        """Open the object for reading; reading fails if the object changes meanwhile."""
        return pa.PythonFile(io.BufferedReader(_Object(self), _PART_BYTES), mode="r")

    def download(self, target: Path) -> None:
        """Download a large object into a file, in parallel parts."""

        def action(client: S3Client) -> None:
            with target.open("wb") as file:
                client.download_fileobj(self.bucket, self.key, file)

        request(self.uri, action)

    def delete(self) -> None:
        """Delete the object; a missing one is not an error."""
        request(self.uri, lambda client: client.delete_object(Bucket=self.bucket, Key=self.key))

    def rename(self, name: str) -> None:
        """Copy the object within S3, then delete the original."""
        target = self.parent / name
        source = {"Bucket": self.bucket, "Key": self.key}
        request(
            target.uri,
            lambda client: client.copy_object(
                Bucket=target.bucket,
                Key=target.key,
                CopySource=source,  # type: ignore[arg-type]
            ),
        )
        self.delete()

    def write(self, data: bytes | pa.Buffer, *, flush: bool = True) -> None:  # noqa: ARG002 - S3 always does
        """Store the object, which S3 makes visible as a whole, and verify it.

        Its SHA-256 is sent in a header, which every S3 server accepts. (boto3's default over TLS, a
        trailing checksum, is rejected by older ones.) Servers that support checksums store it with
        the object. If the response has no checksum, the size is compared instead; the transfer
        itself is protected by the signature of the body or by TLS.
        """
        self._put(bytes(data))

    def publish(self, data: bytes, run_id: str) -> None:
        """Store a result with its run's id, unless a later run stored one.

        The condition is part of the request: of two runs, the later one's result stays. On servers
        that do not meet conditions on their own tags, the last check precedes the request.
        """
        named: dict[str, Any] = {"Metadata": {"run": run_id}}
        conditions = {"IfNoneMatch": "*"}
        with storing(self.uri):
            for _ in range(_MAX_CONDITIONAL_WRITES):
                if self._put(data, **named, **conditions):
                    return
                conditions = self._unless_later(run_id)
            self._put(data, **named)

    def _unless_later(self, run_id: str) -> dict[str, str]:
        """The condition to replace the object, if there is one, and it is not from a later run."""
        try:
            stored = request(
                self.uri, lambda client: client.head_object(Bucket=self.bucket, Key=self.key)
            )
        except FileNotFoundError:
            return {"IfNoneMatch": "*"}
        if (other := stored["Metadata"].get("run", "")) > run_id:
            raise OutputError(
                "output.in_use",
                f"{self.uri} is from the later run {other}; if there is no such run, delete it.",
            )
        return {"IfMatch": stored["ETag"]}

    def _put(self, body: bytes, **options: Any) -> bool:
        """Store and verify the object; return False if a condition in ``options`` is not met."""
        kind = mimetypes.guess_type(self.key)[0] or "application/octet-stream"  # for browsers
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        wanted = (len(body), checksum)

        def action(client: S3Client) -> bool:
            try:
                response = client.put_object(
                    Bucket=self.bucket,
                    Key=self.key,
                    Body=body,
                    ContentType=kind,
                    ChecksumSHA256=checksum,
                    **options,
                )
            except ClientError as error:
                # For IfMatch, S3 answers 404 if the object is gone; others cannot do it (501).
                not_met = (404, 412, 501) if "IfMatch" in options else (412,)
                if code_and_status(error)[1] not in not_met:
                    raise
                return False
            stored = len(body), response.get("ChecksumSHA256")
            if stored[1] is None:
                reply = client.head_object(Bucket=self.bucket, Key=self.key, ChecksumMode="ENABLED")
                stored = reply["ContentLength"], reply.get("ChecksumSHA256", checksum)
            _compare(stored, wanted)
            return True

        with storing(self.uri):
            return request(self.uri, action)

    def create(self, data: bytes) -> bool:
        """Store a small object if there is none yet; return whether the stored one is the caller's.

        If a response is lost, the repeated request finds what the first one stored. So ``data``
        must differ from what other callers would store there.
        """
        with storing(self.uri):
            return self._put(data, IfNoneMatch="*") or self.read() == data

    def upload(self, source: Path) -> None:
        """Upload a large file, atomically, in parallel parts that each have a checksum."""

        def action(client: S3Client) -> None:
            with source.open("rb") as file:
                client.upload_fileobj(file, self.bucket, self.key)
            size = client.head_object(Bucket=self.bucket, Key=self.key)["ContentLength"]
            _compare(size, source.stat().st_size)

        with storing(self.uri):
            request(self.uri, action)


def _compare(stored: object, wanted: object) -> None:
    if stored != wanted:
        raise ChecksumError(
            checksum_type="size and sha256",
            expected_checksum=str(wanted),
            actual_checksum=str(stored),
        )


class _Object(io.RawIOBase):
    """An object as a file, read in parts that are retried one by one; fails if it changes."""

    def __init__(self, path: S3Path) -> None:
        self._path, self._head, self._position = path, path.head(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._head.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._head.size)
        if stop <= self._position:
            return 0
        which = {"Bucket": self._path.bucket, "Key": self._path.key}
        which["Range"] = f"bytes={self._position}-{stop - 1}"
        if self._head.etag:
            which["IfMatch"] = self._head.etag
        data = request(self._path.uri, lambda client: client.get_object(**which)["Body"].read())  # type: ignore[arg-type]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def pages(which: Mapping[str, str]) -> Iterator[ListObjectsV2OutputTypeDef]:
    """The pages of a listing, each requested when it is needed."""
    token: dict[str, Any] = {"MaxKeys": _PAGE_OBJECTS}
    while True:
        page = request(
            f"s3://{which['Bucket']}",
            lambda client, token=token: client.list_objects_v2(**which, **token),  # type: ignore[misc]
        )
        yield page
        if not page.get("IsTruncated"):
            return
        token = token | {"ContinuationToken": page["NextContinuationToken"]}
