"""Folders of tables, on disk or in S3, through pyarrow's file systems."""

from __future__ import annotations

import os
import posixpath
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from manifests.errors import DestinationError


@dataclass(frozen=True, slots=True)
class Place:
    """A path on one of pyarrow's file systems.

    Attributes:
        filesystem: pyarrow's.
        path: absolute, or ``bucket/key``; without a trailing slash.
    """

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """Find the place of a local path, ``file://`` or ``s3://`` URI.

        Raises:
            ValueError: another scheme, or nothing.
        """
        if not uri.strip():
            raise ValueError("the path is empty")
        scheme, separator, rest = uri.partition("://")
        scheme = scheme.lower()
        if not separator:
            return cls(fs.LocalFileSystem(), os.path.normpath(Path(uri).absolute()))
        if scheme == "file":
            return cls(fs.LocalFileSystem(), unquote(urlsplit(uri).path).rstrip("/"))
        if scheme == "s3":
            return cls(_s3(), rest.rstrip("/"))
        raise ValueError(f"{uri} is neither a local path nor file:// nor s3://")

    def __truediv__(self, name: str) -> Place:
        return Place(self.filesystem, posixpath.join(self.path, name))

    @property
    def uri(self) -> str:
        """Absolute path, or ``s3://bucket/key``."""
        return self.path if self.is_local else f"s3://{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's disks."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Place:
        """The folder that holds it."""
        return Place(self.filesystem, posixpath.dirname(self.path))

    def kind(self) -> fs.FileType:
        """File, folder or nothing."""
        return self.filesystem.get_file_info(self.path).type

    def files(self) -> list[Place]:
        """The files right in this folder, by name; hidden and unfinished ones left out."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        found = [
            Place(self.filesystem, info.path)
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File and not info.base_name.startswith((".", "_"))
        ]
        return sorted(found, key=lambda place: place.path)

    def folders(self) -> list[Place]:
        """The folders right in this folder, by name; hidden ones left out."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        found = [
            Place(self.filesystem, info.path.rstrip("/"))
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.Directory and not info.base_name.startswith((".", "_"))
        ]
        return sorted(found, key=lambda place: place.path)

    def modified_ns(self) -> int | None:
        """When the file was last written, by the storage's own clock; None if there is none."""
        info = self.filesystem.get_file_info(self.path)
        return info.mtime_ns if info.type == fs.FileType.File else None

    def read(self) -> bytes:
        """The whole file."""
        with self.filesystem.open_input_stream(self.path) as stream:
            data: bytes = stream.read()
        return data

    def delete(self) -> None:
        """Remove the file."""
        self.filesystem.delete_file(self.path)

    def rename(self, name: str) -> None:
        """Give the file another name in its folder."""
        self.filesystem.move(self.path, (self.parent / name).path)

    def create(self, data: bytes) -> bool:
        """Store a file if there is none yet: of several that try, one succeeds.

        Raises:
            DestinationError: ``output.not_writable``.
        """
        try:
            return self._create_locally(data) if self.is_local else self._create_in_s3(data)
        except OSError as error:
            raise DestinationError(
                "output.not_writable", f"Cannot store {self.uri}: {error}."
            ) from error

    def _create_locally(self, data: bytes) -> bool:
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def _create_in_s3(self, data: bytes) -> bool:
        import boto3  # noqa: PLC0415 - takes 0.2 s, which local runs need not spend
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        bucket, _, key = self.path.partition("/")
        try:
            boto3.Session().client("s3").put_object(
                Bucket=bucket, Key=key, Body=data, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                return False
            raise OSError(str(error)) from error
        except BotoCoreError as error:
            raise OSError(str(error)) from error
        return True

    def write(self, data: bytes | pa.Buffer) -> None:
        """Store a file so that readers see all of it or nothing.

        Raises:
            DestinationError: ``output.not_writable``.
        """
        try:
            if not self.is_local:
                with self.filesystem.open_output_stream(self.path) as stream:
                    stream.write(data)
                return
            self.filesystem.create_dir(self.parent.path, recursive=True)
            unfinished = self.parent / f".tmp-{uuid.uuid4().hex}"
            with self.filesystem.open_output_stream(unfinished.path) as stream:
                stream.write(data)
            self.filesystem.move(unfinished.path, self.path)
        except OSError as error:
            raise DestinationError(
                "output.not_writable", f"Cannot store {self.uri}: {error}."
            ) from error

    def open_output(self) -> pa.NativeFile:
        """Open the file to be written piece by piece; in S3 it is there when it is closed."""
        if self.is_local:
            self.filesystem.create_dir(self.parent.path, recursive=True)
        return self.filesystem.open_output_stream(self.path)

    def write_table(self, table: pa.Table) -> None:
        """Store a table as Parquet, as :meth:`write` does."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write(sink.getvalue())

    def read_table(self, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns."""
        with self.filesystem.open_input_file(self.path) as file:
            return pq.ParquetFile(file).read(columns)


def _s3() -> fs.S3FileSystem:
    """S3 as boto3 would reach it: pyarrow finds credentials itself, and is told the endpoint."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _s3_at(endpoint, region)


@cache
def _s3_at(endpoint: str | None, region: str | None) -> fs.S3FileSystem:
    """One for each process: making one looks for credentials, and its connections are kept."""
    return fs.S3FileSystem(endpoint_override=endpoint, region=region)
