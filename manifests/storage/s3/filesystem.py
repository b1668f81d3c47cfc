"""Our S3 as a file system of pyarrow's, so that it reads manifests of any size from there.

To read, list, rename and delete; what is written, :mod:`manifests.storage.s3.objects` writes whole.
"""

from __future__ import annotations

import errno
import io
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow import fs

from manifests.storage.s3 import objects

#: Read ahead by this much: a request's latency is then small beside its transfer, and a thousand
#: requests read a manifest of 8 GB.
_PART_BYTES = 8 * 2**20


class S3Handler(fs.FileSystemHandler):  # type: ignore[misc]
    """What :class:`pyarrow.fs.PyFileSystem` asks for; paths are ``bucket/key``."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler)

    def __hash__(self) -> int:
        return hash(S3Handler)

    def get_type_name(self) -> str:
        """Its name."""
        return "s3-by-boto3"

    def normalize_path(self, path: str) -> str:
        """Keys are taken literally."""
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """File, folder (a prefix of objects, or a bucket that has some) or nothing."""
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
        """What a folder holds."""
        uri = f"s3://{selector.base_dir}"
        try:
            found = [
                _file_info(each.uri.removeprefix("s3://"), each.head)
                for each in objects.entries(uri, recursive=selector.recursive)
            ]
        except FileNotFoundError:
            found = []
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(errno.ENOENT, "no such folder", uri)
        return found

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open an object to be read from its start."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open an object to be read from anywhere."""
        return pa.PythonFile(io.BufferedReader(_Object(f"s3://{path}"), _PART_BYTES), mode="r")

    def delete_file(self, path: str) -> None:
        """Remove an object."""
        objects.delete(f"s3://{path}")

    def move(self, src: str, dest: str) -> None:
        """Copy an object, and remove it where it was."""
        objects.move(f"s3://{src}", f"s3://{dest}")

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotImplementedError("S3 is written whole objects at a time, and has no folders")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    copy_file = open_output_stream = open_append_stream = _refuse


def _file_info(path: str, head: objects.Head | None) -> fs.FileInfo:
    if head is None:
        return fs.FileInfo(path, fs.FileType.Directory)
    return fs.FileInfo(path, fs.FileType.File, size=head.size, mtime=head.modified)


class _Object(io.RawIOBase):
    """An object as a file, read in parts, each tried again by itself; refuses one that changes."""

    def __init__(self, uri: str) -> None:
        self._uri, self._head, self._at = uri, objects.head(uri), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._head.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._head.size)
        if stop <= self._at:
            return 0
        data = objects.get_part(self._uri, self._at, stop, self._head.etag)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
