"""What a run detected, read from its output: the manifest, failures, the check, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.results.detected import write_detected
from jobs.results.failures import write_failures
from jobs.results.verify import verify
from manifests.errors import OutputError
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO, encoded, write
from tests.support.files.stickers import logo, with_logo
from tests.support.output_folders import clean_here, page_data, write_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with a logo, one without, a marked one, and one that is missing; cleaned."""
    folder = tmp_path_factory.mktemp("found")
    write(folder / "logo.png", encoded(logo()))
    coffee = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").convert("RGB")
    coffee.save(folder / "plain.jpg", quality=95)
    with_logo(coffee, (400, 40), 120).save(folder / "shown.jpg", quality=95)
    lines = ["id,image,mask,boxes", "shown,shown.jpg,,", "plain,plain.jpg,,", "gone,gone.jpg,,"]
    lines.append('marked,shown.jpg,,"[10, 300, 40, 30]"')
    write(folder / "manifest.csv", "\n".join(lines))
    clean_here(folder / "manifest.csv", folder / "out", recipe_of(folder))
    return folder


def recipe_of(folder: Path, *more: str) -> Recipe:
    options = ["detect.method=template", f"detect.templates={folder / 'logo.png'}", *more]
    return Recipe.load("telea", options)


def rows_of(path: Path | str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, Path(path).read_text().splitlines())}


def test_the_manifest_has_all_rows_with_what_was_found(folder: Path) -> None:
    found = write_detected(str(folder / "out"))
    assert (found.rows, found.to_remove, found.kept_only, found.failed) == (4, 1, 0, 1)
    rows = rows_of(found.path)
    mask = f"{folder}/out/masks/{recipe_of(folder).label}/shown.png"
    assert {name: row["mask"] for name, row in rows.items()} == {
        "shown": [mask],
        "plain": [],
        "gone": None,
        "marked": [],
    }
    assert rows["marked"]["boxes"] == [10, 300, 40, 30]


def test_always_adds_what_is_found_to_what_is_marked(folder: Path, tmp_path: Path) -> None:
    always = recipe_of(folder, "detect.when=always")
    clean_here(folder / "manifest.csv", tmp_path / "out", always.detecting())
    rows = rows_of(write_detected(str(tmp_path / "out")).path)
    with pytest.raises(OutputError, match="only `detect` was run"):
        list(verify(str(tmp_path / "out")))
    plain = Recipe.load("telea")
    clean_here(tmp_path / "out" / "detected.jsonl", tmp_path / "by-hand", plain)
    clean_here(folder / "manifest.csv", tmp_path / "at-once", always)
    assert rows["marked"]["boxes"] == [10, 300, 40, 30]
    by_hand, at_once = (
        next((tmp_path / name / "images").rglob("marked.jpg")) for name in ("by-hand", "at-once")
    )
    assert by_hand.read_bytes() == at_once.read_bytes() != (folder / "shown.jpg").read_bytes()


def test_a_failed_photo_without_marks_is_searched_again(folder: Path, tmp_path: Path) -> None:
    assert write_failures(str(folder / "out"), str(tmp_path / "again.jsonl")) == 1
    assert rows_of(tmp_path / "again.jsonl")["gone"]["mask"] is None
    lines = {row["results"][0].get("error_code"): row["line"] for row in details(folder / "out")}
    assert json.loads(lines["image.not_found"])["mask"] is None


def details(output: Path) -> list[dict[str, Any]]:
    page = write_page(output)
    rows: list[dict[str, Any]] = page_data(page, "details-0000")
    return rows


def test_the_check_takes_the_stored_mask_unless_somebody_edited_it(folder: Path) -> None:
    verdicts = {each.id: each for each in verify(str(folder / "out"))}
    assert set(verdicts) == {"shown", "plain", "marked"}
    assert [each.problem or each.detail for each in verdicts.values()] == ["", "", ""]
    mask = next((folder / "out" / "masks").rglob("shown.png"))
    stored = mask.read_bytes()
    try:
        edited_mask = Image.open(mask)
        edited_mask.paste(1, (0, 0, 50, 50))
        edited_mask.save(mask)
        (edited,) = [each for each in verify(str(folder / "out")) if each.id == "shown"]
        assert edited.unchecked_reason == "the detected mask has changed since"
    finally:
        mask.write_bytes(stored)


def test_commands_refuse_recipes_that_do_not_fit(
    folder: Path, tmp_path: Path, invoke: Command
) -> None:
    write(tmp_path / "only.toml", recipe_of(folder).detecting().to_toml())
    manifest = folder / "manifest.csv"
    refused = invoke("run", manifest, "-o", "out", "-r", "only.toml")
    assert (refused.returncode, "only detects" in refused.stderr) == (1, True)
    refused = invoke("detect", manifest, "-o", "out", "-r", "telea")
    assert refused.returncode == 1
    assert "recipe.invalid: Recipe telea has no [detect] section" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_detect_reports_what_would_be_searched(
    folder: Path, tmp_path: Path, invoke: Command
) -> None:
    write(tmp_path / "mine.toml", recipe_of(folder).to_toml())
    call = ("detect", "-o", "out", "-r", "mine.toml", "--dry-run")
    done = invoke(*call, folder / "manifest.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "would be searched by recipe telea-detect: 4" in done.stdout
    assert not (tmp_path / "out").exists()
    several = invoke(*call, "a.jpg", "b.jpg")
    assert several.returncode == 2
    assert "b.jpg" in several.stderr


def test_try_needs_no_mask_with_a_recipe_that_detects(
    folder: Path, tmp_path: Path, invoke: Command
) -> None:
    write(tmp_path / "mine.toml", recipe_of(folder).to_toml())
    for name, said in {"shown": "1 place, ", "plain": "nothing found to remove"}.items():
        done = invoke("try", folder / f"{name}.jpg", "-o", f"{name}.jpg", "-r", "mine.toml")
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
        stored = next((folder / "out" / "images").rglob(f"{name}.jpg"))
        assert (tmp_path / f"{name}.jpg").read_bytes() == stored.read_bytes()
