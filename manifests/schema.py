"""The columns of manifests, shards and the lineage: names, types, units and meanings.

One lineage row records how one photo ended and how to reproduce it. The manifest's extra columns
follow these under their own names (``manifest_<name>`` if a name is taken).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import pyarrow as pa

#: Columns for which every manifest part has a value or null; some manifests have shapes only.
MANIFEST_COLUMNS = ("id", "image", "mask")

#: Columns that can mark a photo instead of a mask file, or in addition, in COCO's formats.
SHAPE_COLUMNS = ("boxes", "polygons", "rle")

#: Columns that mark a photo; a manifest has at least one of these.
MARK_COLUMNS = ("mask", *SHAPE_COLUMNS)

#: Columns of a shard file, before the manifest's extra columns. A row with an error was rejected
#: when the manifest was planned; it is recorded as failed, and its files are never read.
SHARD_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        pa.field("mask_uri", pa.string(), nullable=False),
        pa.field("marks", pa.large_string()),
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
    ]
)

OK, FAILED, CRASHED = "ok", "failed", "crashed"

#: Status of a row whose photo is to be redone because its files have changed. The row of the new
#: result replaces it.
STALE = "stale"

_BOX = pa.struct([(name, pa.int32()) for name in ("x", "y", "width", "height")])

#: One attempt of a refiner: its seed, and the judge's findings (stages/judging/).
_TRY = pa.struct(
    [
        ("seed", pa.int64()),
        ("denoise", pa.float64()),
        ("departure", pa.float64()),  # null: not judged, no removal to depart from, or no picture
        ("strangeness", pa.float64()),  # null: not judged, or no picture
        ("score", pa.float64()),  # 0 to 1; null: not judged, or no picture
        ("learned", pa.float64()),  # always null: of a second judge that earlier versions had
    ]
)

PATCH_TYPE = pa.struct(
    [
        ("region", _BOX),  # bounds of the pixels to fill (the hole), px of the displayed photo
        ("crop", _BOX),  # what was pasted back, px of the displayed photo
        ("window", _BOX),  # what the removal saw: the crop, or more
        ("working_width", pa.int32()),  # size at which it was filled, px
        ("working_height", pa.int32()),
        ("seed", pa.int64()),  # 0 to 2**32 - 1; the refiner's first
        ("refined", pa.bool_()),  # whether the refiner's output was pasted; null: no refiner
        ("reason", pa.string()),  # why: see manifests/README.md
        ("tries", pa.list_(_TRY)),  # of the refiner, in order
    ]
)


@dataclass(frozen=True, slots=True)
class TryRecord:
    """One seed that a refiner was tried with; the fields are those of the lineage's ``tries``."""

    seed: int
    denoise: float
    departure: float | None = None
    strangeness: float | None = None
    score: float | None = None


@dataclass(slots=True)
class PatchRecord:
    """What the lineage says of a patch; the fields are those of :data:`PATCH_TYPE`."""

    region: dict[str, int]
    crop: dict[str, int]
    window: dict[str, int]
    working_width: int
    working_height: int
    seed: int
    refined: bool | None = None
    reason: str | None = None
    tries: list[TryRecord] | None = None

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> Self:
        """Undo ``dataclasses.asdict``, of what Arrow returns."""
        known = [f.name for f in fields(TryRecord)]
        tries = packed["tries"]
        if tries is not None:
            tries = [TryRecord(**{name: each[name] for name in known}) for each in tries]
        return cls(**(dict(packed) | {"tries": tries}))


#: What a detector found (stages/detection/).
DETECTION_TYPE = pa.struct(
    [
        ("outline", pa.list_(pa.float64())),  # x1, y1, x2, y2, ... px of the displayed photo
        ("label", pa.string()),  # the recognised text, or the template's name
        ("confidence", pa.float64()),  # 0 to 1
        ("removed", pa.bool_()),
        ("reason", pa.string()),  # why, or why not
        ("box", _BOX),  # bounds of what is marked for it, px of the displayed photo
    ]
)


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """What the lineage says of a detection; the fields are those of :data:`DETECTION_TYPE`."""

    outline: list[float]
    label: str
    confidence: float
    removed: bool
    reason: str
    box: dict[str, int]


def _column(type_: pa.DataType, doc: str, default: Any = None) -> Any:
    metadata = {"type": type_, "doc": doc}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(slots=True)
class LineageRow:
    """How one photo ended. Values are None for stages that were not reached."""

    id: str = _column(pa.string(), "The manifest's id.", "")
    status: str = _column(
        pa.string(),
        "ok, failed (bad input), crashed (its process died) or stale (to be done again).",
        OK,
    )
    error_code: str | None = _column(pa.string(), "Stable code, e.g. image.truncated.")
    error: str | None = _column(pa.string(), "What went wrong, and the remedy.")
    error_stage: str | None = _column(pa.string(), "The stage that failed.")
    image_uri: str = _column(pa.string(), "Absolute path, file:// or s3:// of the photo.", "")
    mask_uri: str = _column(
        pa.string(), "Absolute path, file:// or s3:// of the first mask file; empty: none.", ""
    )
    marks: str | None = _column(
        pa.large_string(),
        "What else marks the photo, as JSON: further masks, boxes, polygons, rle.",
    )
    output_uri: str | None = _column(pa.string(), "Absolute path or s3:// of the result.")
    image_sha256: str | None = _column(pa.string(), "Of the photo's file, hex.")
    mask_sha256: str | None = _column(
        pa.string(), "Of the mask's file, hex; of several, of their hex hashes, joined in order."
    )
    region_sha256: str | None = _column(
        pa.string(),
        "Of all that is marked, before it is dilated, at the photo's displayed size: one bit per "
        "pixel, row by row.",
    )
    image_version: str | None = _column(
        pa.string(),
        "Of the photo's file when it was read: in S3 its ETag, and @ and its version's id where "
        "there are versions; on disk its size and the ns of its last change.",
    )
    mask_version: str | None = _column(
        pa.string(), "Of the masks' files, likewise; of several, with spaces between, in order."
    )
    output_sha256: str | None = _column(pa.string(), "Of the result's file, hex.")
    width: int | None = _column(pa.int32(), "Of the photo as displayed, px.")
    height: int | None = _column(pa.int32(), "Of the photo as displayed, px.")
    masked_px: int | None = _column(
        pa.int64(), "Pixels filled: the marked ones, dilated; 0: the mask was empty."
    )
    effects_px: int | None = _column(
        pa.int64(),
        "Pixels beyond the mask and its soft edge that may have changed, since a shadow or "
        "reflection was removed there. Null: mask.effects is off.",
    )
    effects: str | None = _column(
        pa.string(),
        "These pixels, as COCO's compressed RLE (counts) of the photo as displayed. Null: none.",
    )
    detections: list[DetectionRecord] | None = _column(
        pa.list_(DETECTION_TYPE),
        "What the recipe's detector found: outline (x1, y1, x2, y2, ... in px of the displayed "
        "photo), label (the text, or the template's name), confidence, whether it is removed, the "
        "reason, and the box of what is marked for it. Null: it did not look.",
    )
    detected_uri: str | None = _column(
        pa.string(),
        "Absolute path or s3:// of the mask of what was detected, before it is dilated; null: "
        "nothing is removed.",
    )
    patches: list[PatchRecord] = _column(
        pa.list_(PATCH_TYPE),
        "What was filled: boxes, working size and seed of each patch, and how it was refined.",
        list,
    )
    flag: str | None = _column(
        pa.string(),
        "Why a person should look at it: came_back (an object is likely in the fill), fell_back "
        "(the refiner brought one back, and another fill was pasted), bad_output (the refiner "
        "produced no image, likewise) or effects_dropped (the removal changed more beyond the mask "
        "than mask.effects_area: nothing of that was pasted, a shadow may be left). Null: nothing "
        "was found, or not judged.",
    )
    score: float | None = _column(
        pa.float64(),
        "How likely an object came back, 0 to 1: the lowest score of each patch's tries, the "
        "highest of these. Null: not judged.",
    )
    fidelity: str | None = _column(
        pa.string(),
        "What is kept outside the mask: identical (the whole file: empty mask), lossless (every "
        "sample), coefficients (of every JPEG block the mask does not touch) or reencoded.",
    )
    fidelity_note: str | None = _column(
        pa.string(), "If reencoded, why; other changes to the samples."
    )
    metadata_note: str | None = _column(
        pa.string(),
        "What was done with previews and other content that no longer matches the image.",
    )
    recipe_name: str = _column(pa.string(), "Name in the recipe.", "")
    recipe_hash: str = _column(
        pa.string(), "Changes with what affects results: options, and the content of weights.", ""
    )
    refine_prompt: str | None = _column(pa.string(), "The refiner's prompt.")
    refine_sigmas: list[float] = _column(
        pa.list_(pa.float64()),
        "The refiner's noise levels, from the first step's to 0: one more than its steps.",
        list,
    )
    refine_guidance: float | None = _column(pa.float64(), "The refiner's guidance scale.")
    weights: dict[str, str] = _column(
        pa.map_(pa.string(), pa.string()),
        "Model -> sha256 of its weights. Names of further weights of a section begin with their "
        "option, e.g. `base_weights: ` or `lora 1: `.",
        dict,
    )
    seconds: dict[str, float] = _column(
        pa.map_(pa.string(), pa.float64()), "Stage -> seconds spent in it on this row.", dict
    )
    package_version: str = _column(pa.string(), "Of catalog-cleanup.", "")
    run_id: str = _column(pa.string(), "Of the run that made this row; its number comes first.", "")
    finished_at: Any = _column(pa.timestamp("us", tz="UTC"), "When the row ended.")


def lineage_dict(row: LineageRow) -> dict[str, Any]:
    """A lineage row as Arrow takes it."""
    columns = {f.name: getattr(row, f.name) for f in fields(row)}
    found = None if row.detections is None else [asdict(each) for each in row.detections]
    return columns | {"patches": [asdict(patch) for patch in row.patches], "detections": found}


def lineage_row(columns: Mapping[str, Any]) -> LineageRow:
    """Undo :func:`lineage_dict`, of what Arrow returns."""
    patches = [PatchRecord.from_dict(packed) for packed in columns["patches"] or ()]
    found = columns.get("detections")  # earlier versions had none
    detections = None if found is None else [DetectionRecord(**each) for each in found]
    return LineageRow(**(dict(columns) | {"patches": patches, "detections": detections}))


def lineage_schema(extra: pa.Schema | None = None) -> pa.Schema:
    """The schema of a lineage file, with the manifest's extra columns at the end."""
    ours = [
        pa.field(f.name, f.metadata["type"], metadata={"doc": f.metadata["doc"]})
        for f in fields(LineageRow)
    ]
    return pa.schema(ours + list(extra or []))
