"""Folders of pictures as manifests, and masks beside them: by name, or one for all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import ManifestError, OutputError
from manifests.planning.plan import Plan, load_plan, make_plan
from manifests.reading.read import count_rows, find_files
from tests.support import rows_of, write


def put(folder: Path, *names: str) -> str:
    """Store files that planning does not open; return the folder."""
    for name in names:
        write(folder / name, "x")
    return str(folder)


def planned(folder: Path, manifest: str | None = None, **options: Any) -> Plan:
    """Plan ``folder/photos``, or another manifest, into ``folder/out``."""
    return make_plan(manifest or str(folder / "photos"), str(folder / "out"), **options)


def masks_of(plan: Plan) -> dict[str, str | None]:
    """Id -> the mask below the test's folder, or the error code; empty: neither."""
    root = str(Path(plan.output).parent)
    return {
        str(row["id"]): str(row["error_code"] or row["mask_uri"]).removeprefix(f"{root}/")
        for row in rows_of(plan)
    }


def test_a_folder_of_pictures_is_a_manifest_of_their_paths(tmp_path: Path) -> None:
    put(tmp_path / "photos", "b.JPG", "red/1.jpg", "red/deep/_2.webp", "red.tif", "list.txt")
    put(tmp_path / "photos", ".hidden.jpg", ".hidden/a.jpg", "red/.a.jpg", "README")
    put(tmp_path / "elsewhere", "linked.heic")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "red" / "circle").symlink_to(tmp_path / "photos")
    plan = planned(tmp_path, unmarked="detect", rows_per_shard=2)
    rows = rows_of(plan)
    assert [row["id"] for row in rows] == ["b", "link/linked", "red", "red/1", "red/deep/_2"]
    assert [row["image_uri"] for row in rows][:2] == [
        f"{tmp_path}/photos/b.JPG",
        f"{tmp_path}/photos/link/linked.heic",
    ]
    assert {(row["mask_uri"], row["marks"], row["error_code"]) for row in rows} == {
        ("", None, None)
    }
    assert "photos, not pictures by their suffixes: README, list.txt." in plan.notes[0]
    assert (
        "5 photos: 5 without marks, to be searched: b, link/linked, red and 2 more." in plan.notes
    )
    assert count_rows(find_files(str(tmp_path / "photos"))) == 5


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("*.jpg", ["a"]),
        ("**/*.jpg", ["a", "red/b", "red/deep/c"]),
        ("*/b.*", ["red/b"]),
        ("red/**", ["b", "deep/c"]),
        ("red/b.jpg", ["b"]),
        ("[ax].jp?", ["a"]),
        ("*", ["a"]),
    ],
)
def test_a_pattern_chooses_pictures_and_names_them_from_where_it_begins(
    tmp_path: Path, pattern: str, ids: list[str]
) -> None:
    put(tmp_path / "photos", "a.jpg", "red/b.jpg", "red/deep/c.jpg", "m.csv")
    plan = planned(tmp_path, str(tmp_path / "photos" / pattern), unmarked="pass")
    assert [row["id"] for row in rows_of(plan)] == ids
    assert {row["marks"] for row in rows_of(plan)} == {'{"masks":[]}'}


@pytest.mark.parametrize(
    ("manifest", "ids"),
    [
        ("lists/m.csv", ["1"]),
        ("lists/*.csv", ["1"]),
        ("lists", ["1"]),
        ("photos", ["a", "[b]/c"]),
        ("photos/*.jpg", ["a"]),
        ("photos/[b]/?.jpg", ["c"]),
        ("photos/**/*.jpg", ["a", "[b]/c"]),
        ("photos/a.jpg", ["a"]),
    ],
)
def test_a_folder_that_exists_is_no_pattern_whatever_its_name(
    tmp_path: Path, manifest: str, ids: list[str]
) -> None:
    shop = tmp_path / "shop [2024]?*"
    put(shop / "photos", "a.jpg", "[b]/c.jpg")
    put(shop / "masks", "a.png", "c.png", "b/c.png", "1.png", "[b]/c.png")
    write(shop / "lists" / "m.csv", "id,image\n1,a.jpg\n")
    plan = planned(shop, str(shop / manifest), masks=str(shop / "masks/**/*.png"))
    assert sorted(masks_of(plan)) == sorted(ids)
    assert set(masks_of(plan).values()) == {f"masks/{each}.png" for each in ids}


def test_a_folder_with_manifest_files_is_a_manifest_whatever_pictures_it_has(
    tmp_path: Path,
) -> None:
    put(tmp_path / "photos", "a.jpg", "b.jpg")
    write(tmp_path / "photos" / "m.csv", "id,image,mask\n1,a.jpg,a.png\n")
    assert masks_of(planned(tmp_path)) == {"1": "photos/a.png"}


def test_what_is_found_nowhere_is_named_with_its_remedy(tmp_path: Path) -> None:
    put(tmp_path / "texts", "a.txt")
    put(tmp_path / "photos", "red/1.jpg")
    put(tmp_path / "masks", "1.png")
    cases: list[tuple[str, dict[str, str], str, str]] = [
        ("absent", {}, "manifest.not_found", "there is no such file or folder"),
        ("absent/*.jpg", {}, "manifest.not_found", "No such file or directory"),
        ("texts", {}, "manifest.no_pictures", "Neither a manifest file nor a picture is in"),
        ("photos/*", {}, "manifest.no_pictures", "Neither a manifest file nor a picture matches"),
        ("photos", {"masks": "absent"}, "manifest.no_masks", "--masks: there is no such"),
        ("photos", {"masks": "texts"}, "manifest.no_masks", "--masks: there is no picture"),
        ("photos", {"mask": "absent.png"}, "manifest.no_masks", "--mask: there is no such file"),
        ("photos", {"mask": "masks"}, "manifest.no_masks", "--mask: there is no such file"),
        (
            "photos",
            {"masks": "masks"},
            "manifest.no_pairs",
            "masks, such as 1.png, in .*such as red/1",
        ),
        ("photos", {"masks": "photos"}, "manifest.no_pairs", "None of the pictures in .*red/1"),
    ]
    for manifest, options, code, message in cases:
        paths = {name: str(tmp_path / path) for name, path in options.items()}
        with pytest.raises(ManifestError, match=message) as caught:
            planned(tmp_path, str(tmp_path / manifest), **paths)
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_masks_are_paired_by_name_with_an_ending_or_another_suffix(tmp_path: Path) -> None:
    photos = ["same.jpg", "under.png", "dash.jpg", "dot.jpg", "red/same.jpg", "none.jpg", "two.jpg"]
    put(tmp_path / "photos", *photos, "cafe\u0301.jpg", "x.jpg", "x_mask.jpg")
    put(tmp_path / "masks", "same.png", "under_mask.webp", "dash-MASK.jpg", "dot.mask.png")
    put(tmp_path / "masks", "red/same_mask.png", "two.png", "two_mask.png", "red/none.png")
    put(tmp_path / "masks", "caf\u00e9_mask.png", "x_mask.png", "notes.txt")
    plan = planned(tmp_path, masks=str(tmp_path / "masks"))
    assert masks_of(plan) == {
        "same": "masks/same.png",
        "under": "masks/under_mask.webp",
        "dash": "masks/dash-MASK.jpg",
        "dot": "masks/dot.mask.png",
        "red/same": "masks/red/same_mask.png",
        "none": "mask.unmatched",
        "two": "mask.several",
        "cafe\u0301": "masks/caf\u00e9_mask.png",
        "x": "mask.unmatched",  # of two photos that x_mask.png could belong to, it has one's name
        "x_mask": "masks/x_mask.png",
    }
    errors = {row["id"]: str(row["error"]) for row in rows_of(plan)}
    assert errors["two"].startswith("two.png and two_mask.png match. Keep one of them")
    assert f"No mask in {tmp_path}/masks has the name of the photo." in errors["none"]
    assert plan.rejected == {"mask.unmatched": 2, "mask.several": 1}
    assert "1 mask has no photo: red/none.png." in plan.notes
    assert "10 photos: 7 paired with masks; 2 without marks: none, x." in plan.notes
    with pytest.raises(ManifestError, match=r"photos none\.jpg, x\.jpg: mask\.unmatched"):
        make_plan(
            str(tmp_path / "photos"),
            str(tmp_path / "strict"),
            masks=str(tmp_path / "masks"),
            strict=True,
        )


@pytest.mark.parametrize("masks", ["photos", "photos/*_mask.png", "photos/masks", "."])
def test_masks_among_the_photos_are_no_photos(tmp_path: Path, masks: str) -> None:
    inner = "photos/masks" if masks == "photos/masks" else "." if masks == "." else "photos"
    put(tmp_path / "photos", "x.jpg", "face_mask.jpg", "red/y.jpg")
    put(tmp_path / inner, "x_mask.png")
    plan = planned(tmp_path, masks=str(tmp_path / masks), unmarked="detect")
    assert masks_of(plan) == {
        "x": str(Path(inner) / "x_mask.png"),
        "face_mask": "",  # without a photo `face`, it is a photo
        "red/y": "",
    }
    assert "3 photos: 1 paired with masks; 2 without marks" in " ".join(plan.notes)


def test_photos_beside_masks_that_are_named_after_another_photo_are_noted(tmp_path: Path) -> None:
    photos = put(tmp_path / "photos", "a.jpg", "b.jpg", "d.jpg", "a_mask.png", "red/b-2.jpg")
    put(tmp_path / "photos", "mask_b.png", "d_seg.png", "a_1.jpg", "a_1_mask.png", "e_seg.png")
    plan = planned(tmp_path, masks=photos)
    assert plan.rows == 8
    assert "Photos named after another photo, like masks: d_seg.png, mask_b.png. " in (
        "\n".join(plan.notes)
    )


def test_masks_without_a_photo_are_listed_in_a_file(tmp_path: Path) -> None:
    photos = put(tmp_path / "photos", "a.jpg")
    masks = put(tmp_path / "masks", "a.png", *(f"{n}.png" for n in range(5)))
    (tmp_path / "preview").mkdir()
    preview = make_plan(photos, f"{tmp_path}/preview", masks=masks, results=f"{tmp_path}/out")
    assert "5 masks have no photo: 0.png, 1.png, 2.png and 2 more." in preview.notes
    (note,) = (note for note in planned(tmp_path, masks=masks).notes if "no photo" in note)
    (listed,) = (tmp_path / "out").rglob("*.txt")
    assert note.endswith(f" and 2 more; {listed} lists them.")
    assert listed.read_text() == "0.png\n1.png\n2.png\n3.png\n4.png\n"


def test_results_in_the_folder_of_the_photos_are_no_photos(tmp_path: Path) -> None:
    photos = put(tmp_path / "photos", "a.jpg", "out2.jpg", "images/b.jpg")
    first = make_plan(photos, f"{photos}/red/out", unmarked="detect")
    put(tmp_path / "photos", "red/out/images/telea-1/a.jpg", "red/out/masks/telea-1/a.png")
    assert make_plan(photos, f"{photos}/red/out", unmarked="detect") == first
    second = make_plan(f"{photos}/**/*.jpg", f"{photos}/other", unmarked="detect")
    assert list(masks_of(first)) == list(masks_of(second)) == ["a", "images/b", "out2"]
    assert not [note for note in second.notes if "not pictures" in note]
    for manifest, output in ((photos, photos), (f"{photos}/images", photos)):
        with pytest.raises(OutputError) as caught:
            make_plan(manifest, output, unmarked="detect")
        assert caught.value.code == "output.is_manifest"


def test_rows_of_a_manifest_get_masks_unless_they_have_marks(tmp_path: Path) -> None:
    put(tmp_path / "masks", "1.png", "shoes/2-mask.png", "own.png")
    one = put(tmp_path, "one.png") + "/one.png"
    lines = ['{"id": "own", "image": "a", "mask": "b.png"}', '{"id": "none", "image": "a"}']
    lines += ['{"id": "boxes", "image": "a", "boxes": [1, 2, 3, 4]}', '{"id": "1", "image": "a"}']
    lines += ['{"id": "empty", "image": "a", "mask": []}', '{"id": "shoes/2", "image": "a"}']
    path = write(tmp_path / "m.jsonl", "\n".join(lines))
    own = {"own": "b.png", "boxes": "", "empty": ""}
    plan = planned(tmp_path, path, masks=str(tmp_path / "masks"))
    paired = {"1": "masks/1.png", "shoes/2": "masks/shoes/2-mask.png", "none": "mask.unmatched"}
    assert masks_of(plan) == own | paired
    assert not [note for note in plan.notes if "no photo" in note], "own.png has a photo"
    for_all = make_plan(path, str(tmp_path / "all"), mask=one)
    assert masks_of(for_all) == own | dict.fromkeys(paired, "one.png")
    assert f"6 photos: 3 with the mask {one}." in for_all.notes
    photos = put(tmp_path / "photos", "a.jpg", "logo.png")
    for_all = make_plan(photos, str(tmp_path / "logo"), mask=f"{photos}/logo.png")
    assert masks_of(for_all) == {"a": "photos/logo.png"}, "the mask is no photo"


def test_a_manifest_needs_no_marks_if_something_else_marks(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "id,image\na,a.jpg\n,\n")
    with pytest.raises(ManifestError, match="--mask FILE, or --recipe declutter") as caught:
        planned(tmp_path, path)
    assert caught.value.code == "manifest.missing_column"
    with pytest.raises(
        ManifestError, match=r"mark.* --masks FOLDER, .*--unmatched\s+pass"
    ) as caught:
        planned(tmp_path, put(tmp_path / "photos", "a.jpg"))
    assert caught.value.code == "manifest.unmarked"
    (row,) = rows_of(make_plan(path, str(tmp_path / "detect"), unmarked="detect"))
    assert (row["mask_uri"], row["marks"], row["error_code"]) == ("", None, None)
    (row,) = rows_of(make_plan(path, str(tmp_path / "pass"), unmarked="pass"))
    assert (row["marks"], row["error_code"]) == ('{"masks":[]}', None)


def test_a_plan_is_kept_while_photos_masks_and_policy_are_the_same(tmp_path: Path) -> None:
    photos = put(tmp_path / "photos", "a.jpg", "b.jpg")
    masks = put(tmp_path / "masks", "a.png")
    plan = planned(tmp_path, masks=masks, unmarked="pass")
    os.utime(tmp_path / "photos" / "a.jpg", (1, 1))
    write(tmp_path / "photos" / "a.jpg", "replaced: done again, as the same row")
    assert planned(tmp_path, masks=masks, unmarked="pass") == plan
    for options, message in (
        (
            {"unmarked": "fail", "masks": masks},
            r"1 photos without marks are passed .*pass.*, not errors",
        ),
        ({"unmarked": "pass"}, "or with other masks"),
        ({"unmarked": "pass", "mask": f"{masks}/a.png"}, "or with other masks"),
    ):
        with pytest.raises(OutputError, match=message) as caught:
            planned(tmp_path, **options)
        assert caught.value.code == "output.other_run"
    for late in (tmp_path / "photos" / "late.jpg", tmp_path / "masks" / "b.png"):
        write(late, "x")
        with pytest.raises(OutputError, match="another state of it"):
            planned(tmp_path, photos, masks=masks, unmarked="pass")
        late.unlink()
    assert planned(tmp_path, masks=masks, unmarked="pass") == plan


def test_recipes_that_detect_and_others_share_a_plan_in_which_all_is_marked(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "m.csv", "id,image,mask\na,a.jpg,a.png\n")
    plan = planned(tmp_path, path)
    assert planned(tmp_path, path, unmarked="detect") == plan
    path = write(tmp_path / "half.csv", "id,image,mask\na,a.jpg,a.png\nb,b.jpg,\n")
    make_plan(path, str(tmp_path / "half"))
    marker = tmp_path / "half" / "manifest" / "plan.json"
    facts = json.loads(marker.read_text())
    del facts["unmarked"], facts["unmarked_rows"]  # as an earlier version stored it
    marker.write_text(json.dumps(facts))
    assert load_plan(str(tmp_path / "half"))
    with pytest.raises(OutputError, match=r"are errors .*, not searched .*recipes that detect"):
        make_plan(path, str(tmp_path / "half"), unmarked="detect")


def test_pictures_whose_results_would_collide_are_rejected_alone(tmp_path: Path) -> None:
    put(tmp_path / "photos", "1.jpg", "1.png", "a.jpg", "a.JPG/b.jpg", "ok.v2/b.jpg")
    (tmp_path / "photos" / os.fsdecode(b"latin\xe9.jpg")).write_bytes(b"x")
    plan = planned(tmp_path, unmarked="detect")
    assert masks_of(plan) == {
        "1": "id.duplicate",
        "a": "",
        "a.JPG/b": "id.unsafe",
        "ok.v2/b": "",
        r"latin\xe9": "id.unsafe",
    }
    notes = "\n".join(plan.notes)
    assert f"{tmp_path}/photos, photos 1.jpg, 1.png: id.duplicate (id '1')." in notes
    (row,) = (row for row in rows_of(plan) if row["id"] == "1")
    assert "In a folder, rename one of the pictures" in str(row["error"])
    assert "The id is also that of 1.png." in str(row["error"])
    assert "6 rows have 5 ids" in notes


@pytest.mark.parametrize(
    "name",
    [
        *("a//b", "/a", "a/", "a/./b", "../a", "a/..", "a\uff0fb/c", "a/b\\c"),
        *("a.tif/b", "1/0-refined.webp"),
        *(f"{'x' * 201}/a", f"a/{'x' * 201}", "/".join(["x" * 150] * 5)),
    ],
)
def test_ids_with_slashes_stay_below_the_output(tmp_path: Path, name: str) -> None:
    good = ["a/b", "a/b.jpg", "a..b/c", f"{'x' * 200}/{'y' * 200}"]
    lines = [json.dumps({"id": each, "image": "a", "mask": "b"}) for each in (*good, name)]
    plan = planned(tmp_path, write(tmp_path / "m.jsonl", "\n".join(lines)))
    assert [row["error_code"] for row in rows_of(plan)] == [None] * 4 + ["id.unsafe"]
