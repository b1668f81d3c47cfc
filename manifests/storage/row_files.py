"""Reads a row's photo and masks, with errors for the row, and writes its result."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from contextlib import suppress

from manifests.errors import ArchivedError, RowError
from manifests.storage import SCHEMES, local, local_path, scheme_of, traffic
from manifests.storage.path import Content, StoragePath


def fetch(uri: str, role: str, schemes: Collection[str] = SCHEMES) -> Content:
    """Read an input.

    Args:
        uri: path or URI.
        role: ``image`` or ``mask``; the first half of the error's code.
        schemes: those of :data:`SCHEMES` that may be read.

    Raises:
        RowError: ``….no_uri``, ``….unknown_scheme``, ``….scheme_not_allowed``, ``….not_found``,
            ``….access_denied``, ``….archived`` or ``….unreachable``.
        StorageError: the storage cannot be used.
    """
    if not uri:
        raise RowError(f"{role}.no_uri", f"The row has no {role}.")
    scheme = scheme_of(uri) or "file"
    if scheme not in SCHEMES:
        raise RowError(f"{role}.unknown_scheme", f"The {role} {uri} has the scheme {scheme}://.")
    if scheme not in schemes:
        allowed = ", ".join(schemes)
        raise RowError(
            f"{role}.scheme_not_allowed", f"The {role} {uri} is not allowed: only {allowed}."
        )
    try:
        content = StoragePath.of(uri).fetch()
    except IsADirectoryError:
        raise RowError(f"{role}.not_found", f"The {role} {uri} is a folder.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise RowError(
            f"{role}.not_found", f"There is no {role} {uri}{_hint(uri, role)}."
        ) from None
    except ArchivedError as error:
        raise RowError(f"{role}.archived", f"The {role} {uri}: {error.strerror}.") from None
    except PermissionError as error:
        raise RowError(f"{role}.access_denied", f"The {role} {uri}: {error.strerror}.") from None
    except (OSError, ValueError) as error:
        raise RowError(f"{role}.unreachable", f"The {role} {uri}: {error}.") from None
    traffic.count("read_bytes", len(content.data))
    return content


def _hint(uri: str, role: str) -> str:
    """Why a file may be missing, for the end of a sentence: one whose name differs only in its
    Unicode form, a padded cell, or several masks in one.
    """
    if uri != uri.rstrip():
        return ", whose name ends with a space"
    if role == "mask" and "," in uri:
        return '; several masks are a list: ["a.png", "b.png"]'
    forms = {form: unicodedata.normalize(form, uri) for form in ("NFC", "NFD")}
    known: dict[str, str] = {}
    with suppress(OSError):
        known = versions([each for each in forms.values() if each != uri])
    for form, each in forms.items():
        if each in known:
            return (
                f", but a file with the same name in Unicode's {form}: rename it, or write the "
                f"cell in {form}"
            )
    return ""


def read(uri: str, role: str) -> bytes:
    """The bytes of an input: see :func:`fetch`."""
    return fetch(uri, role).data


def versions(uris: Collection[str]) -> dict[str, str]:
    """Look up the versions of many inputs without reading them.

    Missing and unreadable ones are left out; in S3 a version id may be missing.

    Raises:
        StorageError: S3 cannot be used.
    """
    known = local.versions(uri for uri in uris if scheme_of(uri) in ("", "file"))
    if in_s3 := [uri for uri in uris if scheme_of(uri) == "s3"]:
        from manifests.storage.s3.versions import versions as s3_versions

        known |= s3_versions(in_s3)
    return known


def write(uri: str, data: bytes, run_id: str = "") -> None:
    """Store an output, atomically.

    Args:
        uri: path or URI.
        data: of the file.
        run_id: of the run whose result it is; empty: of none.

    Raises:
        OutputError: ``output.not_writable``; ``output.in_use``: a later run stored its result.
        StorageError: S3 cannot be used.
    """
    path = StoragePath.of(uri)
    path.publish(data, run_id) if run_id else path.write(data)
    traffic.count("written_bytes", len(data))


def is_same(first: str, second: str) -> bool:
    """Whether two URIs name one file or object, links followed."""
    if first == second or not {scheme_of(first), scheme_of(second)} <= {"", "file"}:
        return first == second
    one, other = local_path(first), local_path(second)
    return one.exists() and other.exists() and one.samefile(other)
