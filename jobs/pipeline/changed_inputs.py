"""Detection of photos whose files changed after they were cleaned: they are cleaned again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from jobs.pipeline.spec import RunSpec
from manifests.planning.marks import Marks
from manifests.schema import STALE, lineage_dict, lineage_schema
from manifests.storage.row_files import versions


def mark_stale(spec: RunSpec, shard: int) -> int:
    """Record as stale the rows of a shard whose photo or mask has changed.

    A file that is deleted, or cannot be checked now, does not invalidate its result.

    Returns:
        Number of stale rows.

    Raises:
        StorageError: S3 cannot be used.
        OutputError: ``output.not_writable``.
    """
    table = spec.ledger.ended(shard, spec.retry_policy, ["image_version", "mask_version"])
    rows = [row for row in table.to_pylist() if row["run_id"] != spec.retry_policy.run_id]
    now = versions({uri for row in rows for _, uris in _files(row) for uri in uris})
    changed = [row for row in rows if any(_has_changed(row, *files, now) for files in _files(row))]
    if changed:
        spec.ledger.add(shard, [_stale(spec, row) for row in changed], lineage_schema(spec.extra))
    return len(changed)


def _files(row: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield "image", [row["image_uri"]]
    yield "mask", Marks.unpack(row["mask_uri"], row["marks"]).files


def _is_comparable(row: dict[str, Any], role: str) -> bool:
    """Whether the file was read or missing; rows that failed for other reasons stay failed."""
    return bool(row[f"{role}_version"]) or row["error_code"] == f"{role}.not_found"


def _has_changed(row: dict[str, Any], role: str, uris: list[str], now: dict[str, str]) -> bool:
    if not _is_comparable(row, role) or not uris or any(uri not in now for uri in uris):
        return False
    known = (row[f"{role}_version"] or "").split(" ")
    return list(map(_content, known)) != [_content(now[uri]) for uri in uris]


def _content(version: str) -> str:
    """The part that identifies the content: an ETag, without the id of S3's version."""
    return version.partition("@")[0]


def _stale(spec: RunSpec, row: dict[str, Any]) -> dict[str, Any]:
    lineage = spec.lineage_of(row, status=STALE, finished_at=datetime.now(UTC))
    return lineage_dict(lineage) | dict.fromkeys(spec.extra.names)
