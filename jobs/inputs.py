"""Photos whose files changed after they were done: new work, not done work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from jobs.job import Job
from manifests.errors import CleanupError
from manifests.ledger import KEY
from manifests.marks import Marks
from manifests.schema import STALE, LineageRow, lineage_schema
from stages.photo import lineage_dict
from stages.storage import version

#: Asking a storage for a file's version is waiting.
_LOOKERS = 32


def mark_changed(job: Job, shard: int) -> int:
    """Record that a shard's rows are to be done again whose files are others than they were.

    What cannot be asked for now, or is gone, has not changed: what was made of it stays.

    Returns:
        How many there are.
    """
    columns = ["image_version", "mask_version"]
    table = job.ledger.ended(shard, job.goal, columns)
    rows = [row for row in table.to_pylist() if row["run_id"] != job.goal.run_id]
    with ThreadPoolExecutor(_LOOKERS) as pool:
        verdicts = pool.map(_changed, rows)
        changed = [row for row, is_other in zip(rows, verdicts, strict=True) if is_other]
    if changed:
        job.ledger.add(shard, [_stale(job, row) for row in changed], lineage_schema(job.extra))
    return len(changed)


def _changed(row: dict[str, Any]) -> bool:
    return any(_is_other(row, role, uris) for role, uris in _files(row))


def _files(row: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield "image", [row["image_uri"]]
    yield "mask", Marks.unpack(row["mask_uri"], row["marks"]).files


def _is_other(row: dict[str, Any], role: str, uris: list[str]) -> bool:
    known = row[f"{role}_version"]
    if not uris or not (known or row["error_code"] == f"{role}.not_found"):
        return False
    found = []
    with suppress(CleanupError, OSError, ValueError, KeyError):
        found = [version(uri) for uri in uris]
    return bool(found) and None not in found and " ".join(map(str, found)) != known


def _stale(job: Job, row: dict[str, Any]) -> dict[str, Any]:
    lineage = LineageRow(
        **{name: row[name] for name in KEY},
        status=STALE,
        recipe_name=job.recipe.name,
        recipe_hash=job.recipe.hash,
        run_id=job.goal.run_id,
        finished_at=datetime.now(UTC),
    )
    return lineage_dict(lineage) | dict.fromkeys(job.extra.names)
