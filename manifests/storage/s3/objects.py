"""Lists, reads, writes and verifies S3 objects, named as ``s3://bucket/key``.

Every function raises the errors of :func:`manifests.storage.s3.retries.request`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import mimetypes
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ChecksumError, ClientError

from manifests.storage.s3.retries import code_and_status, request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef


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
class Entry:
    """An object in a listing, or a folder (``head`` is None) in a non-recursive one."""

    uri: str
    head: Head | None


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``; keys are taken literally, ``%``, ``?`` and ``#`` included."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def get(uri: str) -> tuple[bytes, Head]:
    """Read a whole object."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> tuple[bytes, Head]:
        response = client.get_object(Bucket=bucket, Key=key)
        return response["Body"].read(), Head.of(response)

    return request(uri, action)


def get_part(uri: str, start: int, stop: int, etag: str) -> bytes:
    """Read the bytes from ``start`` up to ``stop`` of an object that still has this entity tag."""
    bucket, key = bucket_and_key(uri)
    which = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{stop - 1}"}
    if etag:
        which["IfMatch"] = etag
    return request(uri, lambda client: client.get_object(**which)["Body"].read())  # type: ignore[arg-type]


def head(uri: str) -> Head:
    """Read an object's metadata."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> Head:
        try:
            return Head.of(client.head_object(Bucket=bucket, Key=key))
        except ClientError as error:
            if code_and_status(error)[1] not in (400, 403):
                raise
            # The response to a HEAD has no body, so it does not say whether access to the object is
            # denied or the credentials are invalid. The response to a GET does.
            client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
            raise

    return request(uri, action)


def put(uri: str, data: bytes) -> None:
    """Store an object, which S3 makes visible as a whole, and verify it.

    Its SHA-256 is sent in a header, which every S3 server accepts. (boto3's default over TLS, a
    trailing checksum, is rejected by older ones.) Servers that support checksums store it with the
    object. If the response has no checksum, the size is compared instead; the transfer itself is
    protected by the signature of the body or by TLS.
    """
    bucket, key = bucket_and_key(uri)
    kind = mimetypes.guess_type(key)[0] or "application/octet-stream"  # for browsers
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    wanted = (len(data), checksum)

    def action(client: S3Client) -> None:
        response = client.put_object(
            Bucket=bucket, Key=key, Body=data, ContentType=kind, ChecksumSHA256=checksum
        )
        stored = len(data), response.get("ChecksumSHA256")
        if stored[1] is None:
            reply = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            stored = reply["ContentLength"], reply.get("ChecksumSHA256", checksum)
        _compare(stored, wanted)

    request(uri, action)


def create(uri: str, data: bytes) -> bool:
    """Store a small object if there is none yet; return whether the stored object is the caller's.

    If a response is lost, the repeated request finds what the first one stored. So ``data`` must
    differ from what other callers would store there.
    """
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> bool:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if code_and_status(error)[1] != 412:
                raise
            return False
        return True

    return request(uri, action) or get(uri)[0] == data


def move(source: str, target: str) -> None:
    """Copy an object within S3, then delete the original."""
    bucket, key = bucket_and_key(target)
    from_bucket, from_key = bucket_and_key(source)
    which = {"Bucket": from_bucket, "Key": from_key}
    request(target, lambda client: client.copy_object(Bucket=bucket, Key=key, CopySource=which))  # type: ignore[arg-type]
    delete(source)


def delete(uri: str) -> None:
    """Delete an object; a missing one is not an error."""
    bucket, key = bucket_and_key(uri)
    request(uri, lambda client: client.delete_object(Bucket=bucket, Key=key))


def entries(uri: str, *, recursive: bool, limit: int = 1000) -> Iterator[Entry]:
    """List a folder or bucket in S3's order, ``limit`` objects per request.

    Without ``recursive``, objects in subfolders are combined into entries for the folders.
    """
    bucket, key = bucket_and_key(uri)
    prefix = f"{key.rstrip('/')}/" if key else ""
    which: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": limit}
    if not recursive:
        which["Delimiter"] = "/"
    for page in _pages(which):
        for folder in page.get("CommonPrefixes", []):
            yield Entry(f"s3://{bucket}/{folder['Prefix'].rstrip('/')}", None)
        for each in page.get("Contents", []):
            if each["Key"] != prefix:  # some tools store an object for the folder itself
                metadata = Head(each["Size"], each["ETag"], "", each["LastModified"])
                yield Entry(f"s3://{bucket}/{each['Key']}", metadata)


def etags(uris: Collection[str], max_pages: int) -> dict[str, str] | None:
    """Look up the entity tags, without quotes, of objects of one bucket, by listing the range.

    Args:
        uris: of the objects; missing ones are left out of the result.
        max_pages: max number of pages of a thousand objects; if the range has more, the result is
            None.
    """
    keys = sorted((bucket_and_key(uri)[1] for uri in uris), key=str.encode)
    bucket, first, last = bucket_and_key(next(iter(uris)))[0], keys[0], keys[-1]
    # A listing starts after a given name, so take one that sorts right before the first key.
    which: dict[str, Any] = {"Bucket": bucket}
    which |= {"StartAfter": first[:-1]} if first[:-1] else {}
    wanted, tags = set(keys), dict[str, str]()
    for page in islice(_pages(which), max_pages):
        listed = page.get("Contents", [])
        for each in listed:
            if each["Key"] in wanted:
                tags[f"s3://{bucket}/{each['Key']}"] = each["ETag"].strip('"')
        if not page.get("IsTruncated") or (listed and listed[-1]["Key"].encode() >= last.encode()):
            return tags
    return None


def _pages(which: Mapping[str, Any]) -> Iterator[ListObjectsV2OutputTypeDef]:
    """The pages of a listing, each requested when it is needed."""
    token: dict[str, Any] = {}
    while True:
        page = request(
            f"s3://{which['Bucket']}",
            lambda client, token=token: client.list_objects_v2(**which, **token),  # type: ignore[misc]
        )
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def listing(uri: str) -> dict[str, tuple[int, str]]:
    """List an object or folder as ``{relative name: (bytes, entity tag)}``.

    A single object has an empty relative name. A URI that is not an object's is read as a folder.
    Hidden names are left out.

    Raises:
        FileNotFoundError: there is neither an object nor a folder with objects.
    """
    if bucket_and_key(uri)[1] and not uri.endswith("/"):
        with suppress(FileNotFoundError):
            known = head(uri)
            return {"": (known.size, known.etag)}
    folder = f"{uri.rstrip('/')}/"
    sizes_and_tags = {}
    for entry in entries(uri, recursive=True):
        name = entry.uri.removeprefix(folder)
        if entry.head and not f"/{name}".count("/.") and not name.endswith("/"):
            sizes_and_tags[name] = (entry.head.size, entry.head.etag)
    if not sizes_and_tags:
        raise FileNotFoundError(errno.ENOENT, "no such object or folder", uri)
    return sizes_and_tags


def download(uri: str, path: Path) -> None:
    """Download a large object into a file, in parallel parts."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> None:
        with path.open("wb") as file:
            client.download_fileobj(bucket, key, file)

    request(uri, action)


def upload(path: Path, uri: str) -> None:
    """Upload a large file, atomically, in parallel parts that each have a checksum."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> None:
        with path.open("rb") as file:
            client.upload_fileobj(file, bucket, key)
        size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        _compare(size, path.stat().st_size)

    request(uri, action)


def _compare(stored: object, wanted: object) -> None:
    if stored != wanted:
        raise ChecksumError(
            checksum_type="size and sha256",
            expected_checksum=str(wanted),
            actual_checksum=str(stored),
        )
