"""What a summary names of a recipe's rows: an id for each error code, and how much was masked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.results.recipe_results import READ_THREADS, RecipeResults

_COLUMNS = ("id", "error_code", "masked_px", "width", "height")


@dataclass(slots=True)
class Examples:
    """Ids that stand for others, of all shards.

    Attributes:
        by_code: error code -> the id of a row that ended with it.
        median_share: of the masked pixels of a photo that is ok, 0 to 1; 0: nothing was masked.
        largest_share: likewise.
        largest: the id of the photo with the largest share.
        verb: what the recipe does with what is masked.
    """

    by_code: dict[str, str] = field(default_factory=dict)
    median_share: float = 0.0
    largest_share: float = 0.0
    largest: str = ""
    verb: str = "filled"


def examples_of(results: RecipeResults) -> Examples:
    """Read the examples, shard by shard; memory grows by 8 bytes a photo."""
    found, all_shares = Examples(verb="filled" if results.cleans else "marked"), [np.zeros(0)]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for rows in pool.map(
            lambda each: results.ledger.latest(each, _COLUMNS), range(results.plan.shards)
        ):
            codes = rows.filter(pc.is_valid(rows["error_code"])).group_by("error_code")
            for row in codes.aggregate([("id", "min")]).to_pylist():
                found.by_code.setdefault(row["error_code"], row["id_min"])
            is_ok = pc.and_(pc.is_null(rows["error_code"]), pc.is_valid(rows["width"]))
            ok = rows.filter(pc.and_(is_ok, pc.greater(rows["masked_px"], 0)))
            shares = filled_shares(ok).to_numpy()
            all_shares.append(shares)
            if len(shares) and shares.max() > found.largest_share:
                found.largest_share = float(shares.max())
                found.largest = ok["id"][int(shares.argmax())].as_py()
    shares = np.concatenate(all_shares)
    found.median_share = float(np.median(shares)) if len(shares) else 0.0
    return found


def filled_shares(rows: pa.Table) -> pa.ChunkedArray:
    """The masked share of each photo, 0 to 1; null: its size or mask was not read."""
    pixels = pc.multiply(*(rows[side].cast(pa.float64()) for side in ("width", "height")))
    return pc.divide(rows["masked_px"].cast(pa.float64()), pixels)
