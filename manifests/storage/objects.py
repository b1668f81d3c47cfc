"""Objects by URI: local paths, ``file://`` and ``s3://``, read whole and written atomically.

To add a storage, write a class with the methods of :class:`Storage` and enter its scheme in
:data:`_SCHEMES`. There is none for HTTP: a manifest must not make this program ask addresses of a
stranger's choice.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from manifests.errors import ArchivedError, DestinationError, RowError
from manifests.storage import traffic
from manifests.storage.files import write_file

#: Where inputs may lie, as users name it; ``file`` stands for paths, too.
SCHEMES = ("file", "s3")


@dataclass(frozen=True, slots=True)
class Content:
    """What was read.

    Attributes:
        data: the whole file or object.
        version: changes when it is stored anew: see the lineage's ``image_version``.
    """

    data: bytes
    version: str


class Storage(Protocol):
    """What a place must be able to do.

    It fails with an ``OSError`` where the object or its place is to blame, by the subclasses
    ``FileNotFoundError``, ``PermissionError`` and ``ArchivedError`` if it is that; with a
    StorageError where the storage is.
    """

    def fetch(self, uri: str) -> Content:
        """The whole object, and its version."""
        ...

    def versions(self, uris: Collection[str]) -> dict[str, str]:
        """Those of many, as far as they can be told; in S3 perhaps without a version's id."""
        ...

    def write(self, uri: str, data: bytes) -> None:
        """Store the object so that readers see all of it or none, and it outlives a power cut."""
        ...


class LocalStorage:
    """Files, by path or ``file://`` URI."""

    def fetch(self, uri: str) -> Content:
        """See :class:`Storage`; devices and pipes, which may never end, are refused."""
        path = local_path(uri)
        _version_of_file(path, uri)  # before it is opened, since a pipe waits for its writer
        with path.open("rb") as file:
            return Content(file.read(), _version_of(os.fstat(file.fileno())))

    def versions(self, uris: Collection[str]) -> dict[str, str]:
        """See :class:`Storage`: size, and the ns of the last change."""
        found = {}
        for uri in uris:
            with suppress(OSError, ValueError):
                found[uri] = _version_of_file(local_path(uri), uri)
        return found

    def write(self, uri: str, data: bytes) -> None:
        """See :class:`Storage`."""
        write_file(local_path(uri), data)


def _version_of_file(path: Path, uri: str) -> str:
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder", uri)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a file, but a device or a pipe", uri)
    return _version_of(found)


def _version_of(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _s3() -> Storage:
    from manifests.storage.s3_objects import (
        S3Storage,
    )  # boto3 takes 0.2 s, which disks need not spend

    return S3Storage()


_SCHEMES: dict[str, Callable[[], Storage]] = {
    "": LocalStorage,
    "file": LocalStorage,
    "s3": _s3,
}


@cache
def storage_for(scheme: str) -> Storage:
    """The storage of a scheme, one for each process.

    Raises:
        KeyError: no storage has this scheme.
    """
    return _SCHEMES[scheme]()


def fetch(uri: str, role: str, schemes: Collection[str] = SCHEMES) -> Content:
    """Read an input.

    Args:
        uri: path or URI.
        role: ``image`` or ``mask``; the first half of the error's code.
        schemes: of :data:`SCHEMES` those that may be read.

    Raises:
        RowError: ``….no_uri``, ``….unknown_scheme``, ``….scheme_not_allowed``, ``….not_found``,
            ``….access_denied``, ``….archived`` or ``….unreachable``.
        StorageError: no input can be read there.
    """
    if not uri:
        raise RowError(f"{role}.no_uri", f"The row has no {role}.")
    scheme = scheme_of(uri)
    if scheme not in _SCHEMES:
        raise RowError(f"{role}.unknown_scheme", f"The {role} {uri} is of scheme {scheme}://.")
    if (scheme or "file") not in schemes:
        allowed = ", ".join(schemes)
        raise RowError(f"{role}.scheme_not_allowed", f"The {role} {uri} is none of {allowed}.")
    try:
        content = storage_for(scheme).fetch(uri)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise RowError(f"{role}.not_found", f"There is no {role} {uri}{_spelled(uri)}.") from None
    except ArchivedError as error:
        raise RowError(f"{role}.archived", f"The {role} {uri}: {error.strerror}.") from None
    except PermissionError as error:
        raise RowError(f"{role}.access_denied", f"The {role} {uri}: {error.strerror}.") from None
    except (OSError, ValueError) as error:
        raise RowError(f"{role}.unreachable", f"The {role} {uri}: {error}.") from None
    traffic.count(read_bytes=len(content.data))
    return content


def _spelled(uri: str) -> str:
    """For the end of a sentence: whether there is a file whose name looks the same."""
    forms = {form: unicodedata.normalize(form, uri) for form in ("NFC", "NFD")}
    found: dict[str, str] = {}
    with suppress(OSError):
        found = versions([each for each in forms.values() if each != uri])
    for form, each in forms.items():
        if each in found:
            return (
                f", but one that looks the same, with its accents in Unicode's {form}: rename it, "
                f"or write the cell in {form}"
            )
    return ""


def read(uri: str, role: str) -> bytes:
    """The bytes of an input: see :func:`fetch`."""
    return fetch(uri, role).data


def versions(uris: Collection[str]) -> dict[str, str]:
    """The versions of many inputs, without reading them, as far as they can be told now.

    What is not there, or may not be read, is left out; in S3 a version's id may be missing.

    Raises:
        StorageError: S3 cannot be used.
    """
    found: dict[str, str] = {}
    for scheme in {scheme_of(uri) for uri in uris} & _SCHEMES.keys():
        found |= storage_for(scheme).versions([uri for uri in uris if scheme_of(uri) == scheme])
    return found


def write(uri: str, data: bytes) -> None:
    """Store an output, atomically.

    Raises:
        DestinationError: ``output.not_writable``.
        StorageError: S3 cannot be used.
    """
    try:
        storage_for(scheme_of(uri)).write(uri, data)
    except OSError as error:
        raise DestinationError("output.not_writable", f"Cannot store {uri}: {error}.") from error
    traffic.count(written_bytes=len(data))


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
