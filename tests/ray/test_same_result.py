"""A result follows from contents alone: not from ids, paths, order, mates or the machine.

Recipes with models: see ``test_models_run.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import AvifImagePlugin, Image
from rich.console import Console

from jobs.run import run
from manifests.planning.marks import Marks
from manifests.schema import LineageRow
from stages.arrays import UInt8Array
from stages.cleaner import clean
from stages.codecs import pillow_io
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO, encoded, write

NAMES = ["fig-bowl-sticker-date", "coffee-stray-coins", "wall-clock-corner-logo"]
X, Y, WIDTH, HEIGHT = BOX = (250, 130, 70, 40)


def drawn() -> UInt8Array:
    """The box as a mask of the coffee's size."""
    mask = np.zeros((400, 600), np.uint8)
    mask[Y : Y + HEIGHT, X : X + WIDTH] = 255
    return mask


def planned(image: str, marks: Marks, *options: str, recipe: str = "telea") -> LineageRow:
    """What the lineage says of a photo whose patches are cut."""
    mask_uri, rest = marks.pack()
    row = LineageRow(id=Path(image).stem, image_uri=image, mask_uri=mask_uri, marks=rest)
    Pipeline.of(Recipe.load(recipe, options)).until("cut").run(Photo(row))
    assert row.error is None
    return row


def seeds_of(row: LineageRow) -> list[int]:
    return [patch.seed for patch in row.patches]


@pytest.fixture
def photo(coffee: UInt8Array, tmp_path: Path) -> str:
    return write(tmp_path / "photo.png", encoded(coffee))


def test_the_same_marks_give_the_same_seeds_in_every_form(photo: str, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.png", encoded(drawn()))
    left, right = drawn(), drawn()
    left[:, X + 40 :] = right[:, : X + 20] = 0
    halves = [
        write(tmp_path / "left.png", encoded(left)),
        write(tmp_path / "right.png", encoded(right)),
    ]
    grey = write(tmp_path / "grey.png", encoded(np.where(drawn() > 0, np.uint8(200), np.uint8(9))))
    corners = [X, Y, X + WIDTH, Y, X + WIDTH, Y + HEIGHT, X, Y + HEIGHT]
    same = [
        Marks([mask], {}),
        Marks([grey], {}),
        Marks(halves, {}),
        Marks([], {"boxes": [list(BOX)]}),
        Marks([], {"polygons": [corners]}),
        Marks(halves[:1], {"boxes": [[X + 20, Y, WIDTH - 20, HEIGHT]]}),
    ]
    rows = [planned(photo, marks) for marks in same]
    dark = write(tmp_path / "dark.png", encoded(255 - drawn()))
    rows.append(planned(photo, Marks([dark], {}), "mask.polarity=dark"))
    assert len({row.region_sha256 for row in rows}) == 1
    assert [seeds_of(row) for row in rows] == [seeds_of(rows[0])] * len(rows)


def test_seeds_follow_from_photo_marks_and_the_recipes_seed(photo: str, coffee: UInt8Array) -> None:
    marks = Marks([], {"boxes": [list(BOX), [20, 310, 40, 30]]})
    row = planned(photo, marks)
    first = seeds_of(row)
    assert len({*first}) == 2
    copy = str(shutil.copy(photo, Path(photo).with_name("moved.png")))
    for recipe, options in (
        ("telea", ["mask.dilate_px=9", "crop.context=3"]),
        ("patchmatch", []),
        ("lama", ["remove.batch_size=1"]),
    ):
        assert seeds_of(planned(copy, marks, *options, recipe=recipe)) == first
    other = write(Path(photo).with_name("other.png"), encoded(255 - coffee))
    fewer = Marks([], {"boxes": [list(BOX)]})
    for again in (
        planned(photo, marks, "seed=1"),
        planned(other, marks),
        planned(photo, fewer),
    ):
        assert not {*seeds_of(again)} & {*first}


def test_the_lineage_explains_its_seeds(photo: str) -> None:
    row = planned(photo, Marks([], {"boxes": [list(BOX)]}), "seed=7")
    region = hashlib.sha256(np.packbits(drawn() > 0).tobytes()).hexdigest()
    assert row.region_sha256 == region
    image = hashlib.sha256(Path(photo).read_bytes()).hexdigest()
    key = hashlib.sha256(f"7/{image}/{region}/0".encode()).hexdigest()
    assert seeds_of(row) == [int(key[:8], 16)]


@pytest.mark.parametrize("name", ["telea", "patchmatch"])
def test_try_makes_what_a_run_makes(
    name: str, ray_address: str, tmp_path: Path, command: Command
) -> None:
    """Byte by byte: moved photos, other names, and for one a mask for what was a box."""
    lines = [json.dumps({"id": f"row-{i}", **_marked(NAMES[i], i)}) for i in range(len(NAMES))]
    manifest = write(tmp_path / "in" / "m.jsonl", "\n".join(lines))
    out, recipe = tmp_path / "out", Recipe.load(name)
    outcome = run(manifest, str(out), recipe, Console(quiet=True), address=ray_address)
    assert outcome.exit_code == 0
    made = pd.read_parquet(out / "lineage").set_index("id")
    box = write(tmp_path / "box.png", encoded(drawn()))
    for index, photo in reversed([*enumerate(NAMES)]):
        copy = str(shutil.copy(_photo(photo), tmp_path / f"moved-{photo}.jpg"))
        mask = box if index == 1 else str(DEMO / "masks" / f"{photo}.png")
        tried = tmp_path / f"tried-{photo}.jpg"
        if index == 0:
            done = command("try", copy, mask, "-o", tried, "--recipe", name)
            assert done.returncode == 0, done.stderr
        else:
            row = clean(copy, mask, recipe, output=str(tried)).record
            assert seeds_of(row) == [patch["seed"] for patch in made.patches[f"row-{index}"]]
        expected = Path(made.output_uri[f"row-{index}"]).read_bytes()
        assert tried.read_bytes() == expected != Path(copy).read_bytes()


def test_try_computes_with_as_many_threads_as_an_actor_of_one_cpu() -> None:
    """Networks on a CPU add up in an order that the number of threads decides."""
    code = (
        "import stages.cleaner\n"
        "def threads(*_): import torch; print(torch.get_num_threads()); raise SystemExit\n"
        "stages.cleaner.Cleaner = threads\n"
        "from jobs.cli import app\n"
        "app(['try', 'a.png', 'm.png', '-o', 'o.png'])"
    )
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=free, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def _photo(name: str) -> str:
    return str(DEMO / "photos" / f"{name}.jpg")


def _marked(name: str, index: int) -> dict[str, object]:
    mask = {"boxes": [BOX]} if index == 1 else {"mask": str(DEMO / "masks" / f"{name}.png")}
    return {"image": _photo(name), **mask}


def test_avif_does_not_depend_on_the_number_of_cores(
    coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.fromarray(coffee).resize((1200, 800))
    made = set()
    for cores in (1, 8):
        monkeypatch.setattr(AvifImagePlugin, "_get_default_max_threads", lambda cores=cores: cores)
        made.add(pillow_io.save_image(picture, format="AVIF", quality=90))
    assert len(made) == 1
