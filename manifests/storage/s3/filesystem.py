"""S3 as a pyarrow file system, so that pyarrow can read manifests of any size.

It reads, lists, renames and deletes; :mod:`manifests.storage.s3.objects` writes whole objects.
"""

from __future__ import annotations

import errno
import io
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow import fs

from manifests.storage.s3 import objects

#: Size of a read request. Latency is then small compared with the transfer, and a thousand requests
#: read a manifest of 8 GB.
_PART_BYTES = 8 * 2**20


class S3Handler(fs.FileSystemHandler):  # type: ignore[misc]
    """The handler for :class:`pyarrow.fs.PyFileSystem`; paths are ``bucket/key``."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler)

    def __hash__(self) -> int:
        return hash(S3Handler)

    def get_type_name(self) -> str:
        """The name of this kind of file system."""
        return "s3-by-boto3"

    def normalize_path(self, path: str) -> str:
        """The path itself: keys are taken literally."""
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """Look up paths: each is a file, a folder (a prefix of objects) or not found."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        uri = f"s3://{path}"
        try:
            if objects.bucket_and_key(uri)[1]:
                return _file_info(path, objects.head(uri))
        except FileNotFoundError:
            pass
        try:
            is_folder = any(objects.entries(uri, recursive=True, limit=1))
        except FileNotFoundError:
            is_folder = False
        return fs.FileInfo(path, fs.FileType.Directory if is_folder else fs.FileType.NotFound)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """List a folder."""
        uri = f"s3://{selector.base_dir}"
        try:
            infos = [
                _file_info(each.uri.removeprefix("s3://"), each.head)
                for each in objects.entries(uri, recursive=selector.recursive)
            ]
        except FileNotFoundError:
            infos = []
        if not infos and not selector.allow_not_found:
            raise FileNotFoundError(errno.ENOENT, "no such folder", uri)
        return infos

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open an object for sequential reading."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open an object for random access."""
        return pa.PythonFile(io.BufferedReader(_Object(f"s3://{path}"), _PART_BYTES), mode="r")

    def delete_file(self, path: str) -> None:
        """Delete an object."""
        objects.delete(f"s3://{path}")

    def move(self, src: str, dest: str) -> None:
        """Copy an object, and delete the original."""
        objects.move(f"s3://{src}", f"s3://{dest}")

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotImplementedError("objects in S3 are written whole, and there are no folders")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    copy_file = open_output_stream = open_append_stream = _refuse


def _file_info(path: str, head: objects.Head | None) -> fs.FileInfo:
    if head is None:
        return fs.FileInfo(path, fs.FileType.Directory)
    return fs.FileInfo(path, fs.FileType.File, size=head.size, mtime=head.modified)


class _Object(io.RawIOBase):
    """An object as a file, read in parts that are retried one by one; fails if it changes."""

    def __init__(self, uri: str) -> None:
        self._uri, self._head, self._position = uri, objects.head(uri), 0

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
        data = objects.get_part(self._uri, self._position, stop, self._head.etag)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
