"""The before/after page of a run: one folder that opens from disk and loads nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jinja2
import pyarrow.dataset as ds
from PIL import Image, ImageOps

from manifests.schema import OK
from stages.storage import read

#: Previews are made to be looked at on a screen.
_PREVIEW_SIDE_PX = 1280
_PREVIEW_QUALITY = 88


def write_page(output: Path, title: str, note_column: str | None = None) -> Path:
    """Write ``<output>/report/index.html`` from the lineage of a small run on this machine.

    Args:
        output: the run's folder.
        title: shown above the pictures.
        note_column: a column of the manifest to show under each picture.

    Returns:
        The page's path.
    """
    rows = ds.dataset(output / "lineage").to_table().sort_by("id")
    entries = rows.to_pylist(maps_as_pydicts="strict")
    folder = output / "report"
    (folder / "previews").mkdir(parents=True, exist_ok=True)
    done = [entry for entry in entries if entry["status"] == OK]
    photos = [_photo(entry, number, folder, note_column) for number, entry in enumerate(done)]
    failures = [entry for entry in entries if entry["status"] != OK]
    page = folder / "index.html"
    page.write_text(
        _template().render(
            title=title,
            summary=f"{len(done)} photos cleaned, {len(failures)} not.",
            photos=photos,
            failures=failures,
        ),
        "utf-8",
    )
    return page


def _photo(
    entry: dict[str, Any], number: int, folder: Path, note_column: str | None
) -> dict[str, Any]:
    before = _preview(read(entry["image_uri"], "image"), folder, f"{number}-before")
    after = _preview(read(entry["output_uri"], "image"), folder, f"{number}-after")
    seconds = sum(entry["seconds"].values())
    marks = len(entry["patches"])
    return {
        "id": entry["id"],
        "before": before[0],
        "after": after[0],
        "start": _start(entry),
        "width": after[1],
        "height": after[2],
        "note": (entry.get(note_column) if note_column else None) or "",
        "facts": f"{entry['width']} x {entry['height']} px, {marks} "
        f"{'place' if marks == 1 else 'places'}, {seconds:.1f} s, {entry['recipe_name']}",
    }


def _start(entry: dict[str, Any]) -> int:
    """Percent of the width at which the slider starts: through the first mark, to show both."""
    if not entry["patches"]:
        return 50
    region = entry["patches"][0]["region"]
    return int(100 * (region["x"] + region["width"] / 2) / entry["width"])


def _preview(data: bytes, folder: Path, name: str) -> tuple[str, int, int]:
    """Store an upright preview; returns its path from the page, its width and its height in px."""
    with Image.open(io.BytesIO(data)) as picture:
        preview = ImageOps.exif_transpose(picture)
        preview.thumbnail((_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX))
        path = f"previews/{name}.webp"
        preview.save(
            folder / path, quality=_PREVIEW_QUALITY, icc_profile=picture.info.get("icc_profile")
        )
    return path, preview.width, preview.height


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")
