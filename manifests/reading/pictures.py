"""Lists the pictures of a folder, a prefix or a pattern, as rows of a manifest.

The id of a picture is its path below the folder, without the suffix: ``shoes/red/1``. Pictures are
recognised by their suffixes, and are not opened. Hidden files and folders (``.name``) are left out,
and so are folders with results: those in which a plan is stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileType

from manifests.reading.formats import Part
from manifests.storage.path import StoragePath

#: Suffixes of pictures, in lower case. Pictures that cannot be edited (GIF, BMP) fail as rows, so
#: that they are not left out silently.
SUFFIXES = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff"),
    *("avif", "heic", "heif", "hif", "gif", "bmp"),
)

#: Matches the name of a picture.
IS_PICTURE = rf"(?i)\.({'|'.join(SUFFIXES)})$"

#: The file that makes a folder the output of a run, below that folder.
PLAN = "manifest/plan.json"

_WILDCARD = re.compile(r"[*?\[]")

_PART_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class PictureList:
    """The pictures of a folder, or those that match a pattern.

    Attributes:
        base: the folder.
        paths: of the pictures, below the folder, sorted.
        pattern: that the paths match; empty: all pictures below the folder.
        others: the paths of files that are no pictures, by their suffixes.
    """

    base: StoragePath
    paths: pa.StringArray
    pattern: str = ""
    others: pa.StringArray = field(default_factory=lambda: pa.array([], pa.string()))

    @classmethod
    def find(cls, uri: str) -> Self:
        """List pictures; memory: their paths.

        Args:
            uri: a folder, a pattern, or a picture. In a pattern, ``*`` is within a name, and ``**``
                stands for any folders.

        Raises:
            OSError: there is no such folder or picture, or it cannot be read.
            ValueError: it is neither a path nor a URI of a known scheme.
        """
        path = StoragePath.of(uri)
        kind = path.info().type
        if kind == FileType.File:
            return cls(path.parent, pa.array([path.name]), path.name)
        base, pattern = (path, "") if kind == FileType.Directory else split_pattern(path)
        files = _files(base, pattern)
        is_picture = pc.match_substring_regex(files, IS_PICTURE)
        return cls(base, files.filter(is_picture), pattern, files.filter(pc.invert(is_picture)))

    @property
    def path(self) -> StoragePath:
        """The folder, as errors name it."""
        return self.base

    @property
    def uris(self) -> pa.StringArray:
        """The pictures' absolute paths or URIs."""
        return self.uris_of(self.paths)

    def uris_of(self, paths: pa.Array) -> pa.Array:
        """The absolute paths or URIs of paths below the folder; null stays null."""
        return pc.binary_join_element_wise(self.base.uri.rstrip("/"), paths, "/")

    def parts(self) -> Iterator[Part]:
        """Yield rows of a manifest: ``id``, ``image``, and ``mask``, which is null."""
        for start in range(0, len(self.paths), _PART_ROWS):
            paths = self.paths.slice(start, _PART_ROWS)
            columns = [stems(paths), self.uris_of(paths), pa.nulls(len(paths), pa.string())]
            table = pa.table(columns, ["id", "image", "mask"])
            yield Part(table, paths.to_pylist(), "photo")

    def digest(self) -> str:
        """Hash what the rows are made of: folder and paths.

        Size, time and content of a picture do not count, as with a manifest file that names it: one
        that is replaced is the same row, and is done again.
        """
        hashed = hashlib.sha256(self.base.uri.encode())
        for start in range(0, len(self.paths), _PART_ROWS):
            for path in self.paths.slice(start, _PART_ROWS).to_pylist():
                hashed.update(f"\0{path}".encode())
        return hashed.hexdigest()

    def filter(self, selected: pa.Array) -> Self:
        """Keep the selected pictures."""
        return replace(self, paths=self.paths.filter(selected))

    def contains(self, folder: StoragePath) -> bool:
        """Whether a folder is below this one."""
        is_same_storage = type(folder) is type(self.base)
        return is_same_storage and folder.path.startswith(f"{self.base.path.rstrip('/')}/")


def is_picture(name: str) -> bool:
    """Whether a file is a picture, by its suffix."""
    return bool(re.search(IS_PICTURE, name))


def split_pattern(path: StoragePath) -> tuple[StoragePath, str]:
    """Split a pattern into the folder before the first wildcard, and the rest.

    A folder that exists is meant literally, even if its name has wildcards: ``shop [2024]``.

    Raises:
        FileNotFoundError: there is no wildcard, or it is in the name of the bucket.
    """
    parts = path.path.split("/")
    for first in range(1, len(parts)):
        folder = type(path)("/".join(parts[:first]) or "/")
        is_pattern = _WILDCARD.search(parts[first])
        if is_pattern and (folder / parts[first]).info().type != FileType.Directory:
            return folder, "/".join(parts[first:])
    raise FileNotFoundError(f"there is no such file or folder: {path.uri}")


def stems(paths: pa.Array) -> pa.Array:
    """The paths without their suffixes."""
    return pc.replace_substring_regex(paths, r"\.[^./]*$", "")


def _files(base: StoragePath, pattern: str) -> pa.StringArray:
    """The paths of the files that match, without those in the output folders of runs."""
    outputs: list[str] = []

    def matching() -> Iterator[str]:
        for name in map(_as_text, base.walk()):
            if f"/{name}".endswith(f"/{PLAN}"):
                outputs.append(name.removesuffix(PLAN))
            if _matches(name, pattern):
                yield name

    names = matching()
    chunks = [pa.array([], pa.string())]
    while some := list(islice(names, _PART_ROWS)):
        chunks.append(pa.array(some, pa.string()))
    files = pa.concat_arrays(chunks)
    for folder in outputs:
        files = files.filter(pc.invert(pc.starts_with(files, folder)))
    return files


def _as_text(name: str) -> str:
    """A name in UTF-8; other bytes with backslashes, so that the id is unsafe and the row fails."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _matches(path: str, pattern: str) -> bool:
    return not pattern or _match_parts(path.split("/"), pattern.split("/"))


def _match_parts(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _match_parts(path, pattern[1:]) or (bool(path) and _match_parts(path[1:], pattern))
    is_match = bool(path) and fnmatchcase(path[0], pattern[0])
    return is_match and _match_parts(path[1:], pattern[1:])
