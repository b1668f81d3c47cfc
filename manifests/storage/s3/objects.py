"""Objects: listed, read whole or in parts, written and verified. Names are ``s3://bucket/key``.

Every function raises what :func:`manifests.storage.s3.retries.request` does.
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
    """What is known of an object without reading it.

    Attributes:
        size: bytes.
        etag: the entity tag, in quotes, as S3 wants it back.
        version: changes with the object: the ETag without quotes, and ``@`` and the version's id
            where the bucket keeps versions.
        modified: when it was stored.
    """

    size: int
    etag: str
    version: str
    modified: datetime

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Head:
        """Read from the answer to a GET or HEAD."""
        tag, version = answer.get("ETag", ""), answer.get("VersionId", "null")
        suffix = "" if version == "null" else f"@{version}"
        size, modified = answer["ContentLength"], answer["LastModified"]
        return cls(size, tag, tag.strip('"') + suffix, modified)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing, or, where these are asked for, a folder (its ``head`` is None)."""

    uri: str
    head: Head | None


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``; keys are taken literally, ``%``, ``?`` and ``#`` included."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def get(uri: str) -> tuple[bytes, Head]:
    """A whole object."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> tuple[bytes, Head]:
        answer = client.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), Head.of(answer)

    return request(uri, action)


def get_part(uri: str, start: int, stop: int, etag: str) -> bytes:
    """The bytes from ``start`` up to ``stop`` of an object that still has this entity tag."""
    bucket, key = bucket_and_key(uri)
    which = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{stop - 1}"}
    if etag:
        which["IfMatch"] = etag
    return request(uri, lambda client: client.get_object(**which)["Body"].read())  # type: ignore[arg-type]


def head(uri: str) -> Head:
    """What is known of an object."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> Head:
        try:
            return Head.of(client.head_object(Bucket=bucket, Key=key))
        except ClientError as error:
            if code_and_status(error)[1] not in (400, 403):
                raise
            # The answer to a HEAD has no body, and so no word on whether the object is not for us
            # or our credentials are for nothing: the answer to a GET has.
            client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
            raise

    return request(uri, action)


def put(uri: str, data: bytes) -> None:
    """Store an object, which S3 makes visible whole, and verify what was stored.

    Its SHA-256 goes along in a header, which every S3 takes (checksums behind the body, boto3's own
    way over TLS, older ones refuse), and stays with the object where the server keeps checksums. A
    server that does not answer with it is asked for the size; the way there is covered in any case,
    by the signature over the body or by TLS.
    """
    bucket, key = bucket_and_key(uri)
    kind = mimetypes.guess_type(key)[0] or "application/octet-stream"  # for browsers
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    wanted = (len(data), checksum)

    def action(client: S3Client) -> None:
        answer = client.put_object(
            Bucket=bucket, Key=key, Body=data, ContentType=kind, ChecksumSHA256=checksum
        )
        stored = len(data), answer.get("ChecksumSHA256")
        if stored[1] is None:
            found = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            stored = found["ContentLength"], found.get("ChecksumSHA256", checksum)
        _compare(stored, wanted)

    request(uri, action)


def create(uri: str, data: bytes) -> bool:
    """Store a small object if there is none yet; returns whether what is there now is ours.

    A repeated request may find what the first one stored before its answer was lost, so ``data`` is
    to differ from what others would store there.
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
    """Copy an object within S3, then delete it where it was."""
    bucket, key = bucket_and_key(target)
    from_bucket, from_key = bucket_and_key(source)
    which = {"Bucket": from_bucket, "Key": from_key}
    request(target, lambda client: client.copy_object(Bucket=bucket, Key=key, CopySource=which))  # type: ignore[arg-type]
    delete(source)


def delete(uri: str) -> None:
    """Remove an object; one that is not there is no error."""
    bucket, key = bucket_and_key(uri)
    request(uri, lambda client: client.delete_object(Bucket=bucket, Key=key))


def entries(uri: str, *, recursive: bool, limit: int = 1000) -> Iterator[Entry]:
    """What lies below a folder or bucket, in S3's order; ``limit`` objects a request.

    Without ``recursive`` what lies deeper is summed up as folders.
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
            if each["Key"] != prefix:  # some tools store the folder itself
                found = Head(each["Size"], each["ETag"], "", each["LastModified"])
                yield Entry(f"s3://{bucket}/{each['Key']}", found)


def etags(uris: Collection[str], max_pages: int) -> dict[str, str] | None:
    """The entity tags, without quotes, of objects of one bucket, by listing from first to last.

    Args:
        uris: of the objects; those that are not there are left out.
        max_pages: of a thousand objects; None is returned if more lie between them.
    """
    keys = sorted((bucket_and_key(uri)[1] for uri in uris), key=str.encode)
    bucket, first, last = bucket_and_key(next(iter(uris)))[0], keys[0], keys[-1]
    # Listing begins behind a name: behind what comes right before the first key.
    which: dict[str, Any] = {"Bucket": bucket}
    which |= {"StartAfter": first[:-1]} if first[:-1] else {}
    wanted, found = set(keys), dict[str, str]()
    for page in islice(_pages(which), max_pages):
        listed = page.get("Contents", [])
        for each in listed:
            if each["Key"] in wanted:
                found[f"s3://{bucket}/{each['Key']}"] = each["ETag"].strip('"')
        if not page.get("IsTruncated") or (listed and listed[-1]["Key"].encode() >= last.encode()):
            return found
    return None


def _pages(which: Mapping[str, Any]) -> Iterator[ListObjectsV2OutputTypeDef]:
    """The pages of a listing, each asked for when it is wanted."""
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
    """What is there: ``{relative name: (bytes, entity tag)}``; an object's own name is empty.

    A URI that is no object's is taken for a folder's; hidden names are left out.

    Raises:
        FileNotFoundError: neither an object nor a folder with objects.
    """
    if bucket_and_key(uri)[1] and not uri.endswith("/"):
        with suppress(FileNotFoundError):
            known = head(uri)
            return {"": (known.size, known.etag)}
    folder = f"{uri.rstrip('/')}/"
    found = {}
    for entry in entries(uri, recursive=True):
        name = entry.uri.removeprefix(folder)
        if entry.head and not f"/{name}".count("/.") and not name.endswith("/"):
            found[name] = (entry.head.size, entry.head.etag)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no such object or folder", uri)
    return found


def download(uri: str, path: Path) -> None:
    """Copy a large object into a file, in parallel parts."""
    bucket, key = bucket_and_key(uri)

    def action(client: S3Client) -> None:
        with path.open("wb") as file:
            client.download_fileobj(bucket, key, file)

    request(uri, action)


def upload(path: Path, uri: str) -> None:
    """Store a large file as an object, in parallel parts with a checksum each, seen all or none."""
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
