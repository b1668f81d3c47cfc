"""Photos whose files changed after they were done: new work, not done work."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from jobs.pipeline.spec import RunSpec
from manifests.ledger import KEY
from manifests.planning.marks import Marks
from manifests.schema import STALE, LineageRow, lineage_dict, lineage_schema
from manifests.storage.row_files import versions


def mark_stale(spec: RunSpec, shard: int) -> int:
    """Record that a shard's rows are to be done again whose files are others than they were.

    What cannot be asked for now, or is gone, has not changed: what was made of it stays.

    Returns:
        How many there are.

    Raises:
        StorageError: S3 cannot be used.
        OutputError: ``output.not_writable``.
    """
    table = spec.ledger.ended(shard, spec.policy, ["image_version", "mask_version"])
    rows = [row for row in table.to_pylist() if row["run_id"] != spec.policy.run_id]
    now = versions({uri for row in rows for _, uris in _files(row) for uri in uris})
    changed = [row for row in rows if any(_is_other(row, *files, now) for files in _files(row))]
    if changed:
        spec.ledger.add(shard, [_stale(spec, row) for row in changed], lineage_schema(spec.extra))
    return len(changed)


def _files(row: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield "image", [row["image_uri"]]
    yield "mask", Marks.unpack(row["mask_uri"], row["marks"]).files


def _is_of_interest(row: dict[str, Any], role: str) -> bool:
    """Whether the file was read, or was not there; what failed for other reasons stays failed."""
    return bool(row[f"{role}_version"]) or row["error_code"] == f"{role}.not_found"


def _is_other(row: dict[str, Any], role: str, uris: list[str], now: dict[str, str]) -> bool:
    if not _is_of_interest(row, role) or not uris or any(uri not in now for uri in uris):
        return False
    known = (row[f"{role}_version"] or "").split(" ")
    return list(map(_content, known)) != [_content(now[uri]) for uri in uris]


def _content(version: str) -> str:
    """The part that tells of the content: an ETag, without the id of S3's version."""
    return version.partition("@")[0]


def _stale(spec: RunSpec, row: dict[str, Any]) -> dict[str, Any]:
    lineage = LineageRow(
        **{name: row[name] for name in KEY},
        status=STALE,
        recipe_name=spec.recipe.name,
        recipe_hash=spec.recipe.hash,
        run_id=spec.policy.run_id,
        finished_at=datetime.now(UTC),
    )
    return lineage_dict(lineage) | dict.fromkeys(spec.extra.names)
