"""What marks a photo besides a mask file: reading, packing and planning it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import ManifestError
from manifests.ledger import Ledger, RetryPolicy, reconcile
from manifests.planning.plan import make_plan
from manifests.schema import SHARD_SCHEMA, LineageRow, lineage_dict, lineage_schema
from tests.support import rows_of, tables_of, write

PLAIN = "id,image,mask,sku\n1,a.jpg,a.png,0012\n2,b.jpg,b.png,0013\n"


def test_shapes_and_lists_of_masks_become_marks_in_every_format(tmp_path: Path) -> None:
    rle = {"size": [4, 5], "counts": "0D"}
    cells: list[dict[str, object]] = [
        {"mask": "a.png"},
        {"mask": ["a.png", "../b.png", "s3://x/c.png"]},
        {"boxes": [[1, 2, 3.5, 4]]},
        {"boxes": [1, 2, 3, 4], "mask": "a.png"},
        {"polygons": [[1, 2, 3, 4, 5, 6]], "rle": [rle, rle | {"counts": [20]}]},
        {"rle": rle},
        {"mask": []},
        {"boxes": []},
        {"mask": "[1].png"},
    ]
    rows = [{"id": str(n), "image": "p.jpg", **cell} for n, cell in enumerate(cells)]
    write(tmp_path / "jsonl" / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    columns = ["id", "image", "mask", "boxes", "polygons", "rle"]
    texts = [
        {name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()}
        for row in rows
    ]
    with io.StringIO() as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(texts)
        write(tmp_path / "csv" / "m.csv", file.getvalue())
    (tmp_path / "parquet").mkdir()
    schema = pa.schema([(name, pa.string()) for name in columns])
    pq.write_table(pa.Table.from_pylist(texts, schema), tmp_path / "parquet" / "m.parquet")
    for folder in ("jsonl", "csv", "parquet"):
        plan = make_plan(str(tmp_path / folder), str(tmp_path / folder / "out"))
        base = f"{tmp_path}/{folder}"
        assert [(row["mask_uri"], row["marks"]) for row in rows_of(plan)] == [
            (f"{base}/a.png", None),
            (f"{base}/a.png", f'{{"masks":["{tmp_path}/b.png","s3://x/c.png"]}}'),
            ("", '{"boxes":[[1,2,3.5,4]]}'),
            (f"{base}/a.png", '{"boxes":[1,2,3,4]}'),
            (
                "",
                '{"polygons":[[1,2,3,4,5,6]],"rle":[{"counts":"0D","size":[4,5]},'
                '{"counts":[20],"size":[4,5]}]}',
            ),
            ("", '{"rle":{"counts":"0D","size":[4,5]}}'),
            ("", '{"masks":[]}'),
            ("", '{"boxes":[]}'),
            (f"{base}/[1].png", None),
        ], folder
        assert not plan.rejected
        assert plan.shard_file(0).read_table().column_names == SHARD_SCHEMA.names, (
            "none is passed on"
        )


def test_nested_columns_of_parquet_become_marks(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["1", "2", "3"],
            "image": ["p.jpg"] * 3,
            "mask": pa.array([["a.png", "/b.png"], [], None], pa.list_(pa.string())),
            "boxes": pa.array([None, [[1.0, 2.0, 3.0, 4.0]], [[float("nan")]]]),
            "rle": pa.array([{"size": [4, 5], "counts": b"0D"}, None, None]),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    plan = make_plan(str(tmp_path / "m.parquet"), str(tmp_path / "out"))
    first, second, third = rows_of(plan)
    assert first["mask_uri"] == f"{tmp_path}/a.png"
    assert first["marks"] == '{"masks":["/b.png"],"rle":{"counts":"0D","size":[4,5]}}'
    assert (second["mask_uri"], second["marks"]) == ("", '{"boxes":[[1.0,2.0,3.0,4.0]]}')
    assert third["error_code"] == "mask.bad_shape"
    assert "The cell boxes is not JSON: " in str(third["error"])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('"[1, 2"', "The cell boxes is not JSON: Expecting"),
        ('"[1, NaN, 2, 3]"', "The cell boxes is not JSON"),
        ('"[1, 1e999, 2, 3]"', "Out of range float values are not JSON compliant"),
        ("[" * 100_000, "The cell boxes is not JSON: "),
        ("9" * 5000, "The cell boxes is not JSON"),
    ],
)
def test_a_cell_that_is_not_json_costs_its_row_alone(
    tmp_path: Path, cell: str, message: str
) -> None:
    path = write(
        tmp_path / "m.csv", f'id,image,boxes\ngood,a,"[1,2,3,4]"\nbad,a,{cell}\nempty,a,\n'
    )
    plan = make_plan(path, str(tmp_path / "out"))
    good, bad, empty = rows_of(plan)
    assert (good["marks"], good["error_code"]) == ("[1,2,3,4]".join(('{"boxes":', "}")), None)
    assert (bad["marks"], bad["error_code"]) == (None, "mask.bad_shape")
    assert message in str(bad["error"])
    assert cell.strip('"')[:80] in str(bad["error"]), "the cell itself is not recorded"
    assert len(str(bad["error"])) < 700
    assert empty["error_code"] == "mask.no_uri"
    assert plan.rejected == {"mask.bad_shape": 1, "mask.no_uri": 1}
    assert f"{path}, line 3: mask.bad_shape (id 'bad')." in plan.notes


def test_rows_that_mark_nothing_are_counted_in_a_note(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "none", "mask": []},
        {"id": "no boxes", "boxes": []},
        {"id": "nothing", "boxes": [], "polygons": [], "rle": []},
        {"id": "a mask", "mask": "a.png", "boxes": []},
        {"id": "a box", "boxes": [1, 2, 30, 40], "polygons": []},
        {"id": "unusable", "mask": [""]},
        {"id": "twice", "boxes": []},
        {"id": "twice", "boxes": []},
    ]
    lines = [json.dumps({"image": "p.jpg", **row}) + "\n" for row in rows]
    path = write(tmp_path / "m.jsonl", "".join(lines))
    plan = make_plan(path, str(tmp_path / "out"))
    assert "3 rows mark nothing: their photos are passed on unchanged." in plan.notes
    one = make_plan(write(tmp_path / "one.jsonl", lines[1]), str(tmp_path / "one"))
    assert one.notes == ["1 row marks nothing: its photo is passed on unchanged."]
    assert not make_plan(write(tmp_path / "x.csv", PLAIN), str(tmp_path / "x")).notes


@pytest.mark.parametrize(
    ("odd", "is_noted"),
    [
        ("[[40, 30, 200, 80]]", True),
        ("[0, 0, 9, 9]", True),  # the same in both conventions
        ("[[1, 2, 3, 4], [200, 30, 100, 80]]", False),
        ("[5, 80, 200, 80]", False),
        ('["x", 1]', True),  # not for planning to judge
    ],
)
def test_boxes_that_all_could_be_corners_are_noted(
    tmp_path: Path, odd: str, is_noted: bool
) -> None:
    lines = [json.dumps({"id": n, "image": "a", "boxes": [[40, 30, 200, 80]]}) for n in range(8)]
    lines.append(json.dumps({"id": 8, "image": "a", "boxes": json.loads(odd)}))
    plan = make_plan(write(tmp_path / "m.jsonl", "\n".join(lines)), str(tmp_path / "out"))
    assert ["look like corners (x0, y0, x1, y1)" in note for note in plan.notes] == [
        True
    ] * is_noted
    few = make_plan(write(tmp_path / "few.jsonl", "\n".join(lines[:7])), str(tmp_path / "few"))
    assert not few.notes


@pytest.mark.parametrize("mask", ["[1, 2]", "[null]", '[""]', '["\\ud800.png"]', "[a.png, b.png]"])
def test_a_list_of_masks_that_is_none_of_paths_is_refused(tmp_path: Path, mask: str) -> None:
    quoted = mask.replace('"', '""')
    path = write(tmp_path / "m.csv", f'id,image,mask\n1,a,"{quoted}"\n2,a,b.png\n')
    bad, good = rows_of(make_plan(path, str(tmp_path / "out")))
    assert bad["error_code"] == "mask.bad_shape"
    assert "The cell mask " in str(bad["error"])
    assert (good["mask_uri"], good["error_code"]) == (f"{tmp_path}/b.png", None)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_row_of_many_megabytes_is_read(tmp_path: Path, suffix: str) -> None:
    boxes = json.dumps([[0, 0, 1, 1]] * 300_000)
    text = f'id,image,boxes\n1,a,"{boxes}"\n,a,[]\n'
    if suffix == "jsonl":
        text = f'{{"id": "1", "image": "a", "boxes": {boxes}}}\n{{"image": "a", "boxes": []}}\n'
    path = write(tmp_path / f"m.{suffix}", text)
    with pytest.raises(ManifestError, match=f"no id in line {3 if suffix == 'csv' else 2}"):
        make_plan(path, str(tmp_path / "out"))
    write(
        tmp_path / f"m.{suffix}", text.replace("\n,a", "\n2,a").replace('{"im', '{"id": "2", "im')
    )
    first, second = rows_of(make_plan(path, str(tmp_path / "out")))
    assert len(str(first["marks"])) > 3_000_000
    assert second["marks"] == '{"boxes":[]}'


def test_files_with_and_without_shapes_go_together(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", PLAIN)
    write(tmp_path / "m" / "2.jsonl", '{"id": "3", "image": "a", "boxes": [1, 2, 3, 4]}\n')
    write(tmp_path / "m" / "3.csv", "id,image,mask,rle\n4,a,,\n5,a,,{}x\n")
    plan = make_plan(str(tmp_path / "m"), str(tmp_path / "out"))
    rows = rows_of(plan)
    assert [row["marks"] for row in rows] == [None, None, '{"boxes":[1,2,3,4]}', None, None]
    assert [row["error_code"] for row in rows] == [None] * 3 + ["mask.no_uri", "mask.bad_shape"]


def test_plain_manifests_are_planned_without_python_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manifests.planning.marks._read_row", None)
    write(tmp_path / "m.csv", PLAIN)
    plan = make_plan(str(tmp_path / "m.csv"), str(tmp_path / "out"))
    assert [row["marks"] for row in rows_of(plan)] == [None, None]


def test_a_row_whose_marks_have_changed_is_still_to_be_done(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", 'id,image,boxes\n1,a,"[1,2,3,4]"\n2,a,"[1,2,3,4]"\n')
    plan = make_plan(path, str(tmp_path / "out"), rows_per_shard=2)
    rows = [
        LineageRow(id=name, image_uri=f"{tmp_path}/a", marks=marks, recipe_hash="x")
        for name, marks in (("1", '{"boxes":[1,2,3,4]}'), ("2", '{"boxes":[1,2,3,5]}'))
    ]
    ledger = Ledger(plan.output, "x")
    ledger.add(0, [lineage_dict(row) for row in rows], lineage_schema())
    tally = reconcile(plan, ledger, RetryPolicy("run"), [0])
    assert tally.pending == [(0, "2")]


def test_json_lines_whose_nesting_has_no_end_are_told(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    path = write(tmp_path / "m.jsonl", f'{{"id": "1", "image": "a", "boxes": {deep}}}\n')
    with pytest.raises(ManifestError, match="line 1: maximum recursion depth") as caught:
        tables_of(path)
    assert caught.value.code == "manifest.unreadable"


def test_json_lines_with_shapes_and_without_ids_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"boxes": [1, 2, 3, 4]}\n')
    with pytest.raises(ManifestError, match="has no column id, image, only boxes"):
        tables_of(path)
