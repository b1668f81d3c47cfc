"""Reading and planning a manifest: every format, and every mistake with its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests import ledger
from manifests.errors import DestinationError, ManifestError
from manifests.plan import Plan, load_plan, make_plan
from manifests.read import read_manifest
from manifests.schema import SHARD_SCHEMA, LineageRow, lineage_schema
from stages.photo import lineage_dict


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def rows_of(plan: Plan) -> list[dict[str, object]]:
    tables = [plan.shard(number).read_table() for number in range(plan.shards)]
    rows: list[dict[str, object]] = pa.concat_tables(tables).to_pylist()
    return rows


ROWS = [
    {"id": "1", "image": "a.jpg", "mask": "a.png", "sku": "0012"},
    {"id": "2", "image": "b.jpg", "mask": "b.png", "sku": "0013"},
]
CSV = "id,image,mask,sku\n1,a.jpg,a.png,0012\n2,b.jpg,b.png,0013\n"
JSON_LINES = (
    '{"id": 1, "image": "a.jpg", "mask": "a.png", "sku": "0012"}\n\n'
    '{"id": 2, "image": "b.jpg", "mask": "b.png", "sku": "0013"}\n'
)


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path / "csv" / "m.csv", CSV)
    write(tmp_path / "bom" / "m.csv", "\ufeff" + CSV.replace("\n", "\r\n"))
    write(tmp_path / "gz" / "m.csv.gz", gzip.compress(CSV.encode()))
    write(tmp_path / "jsonl" / "m.jsonl", JSON_LINES)
    write(tmp_path / "ndjson" / "m.NDJSON", JSON_LINES)
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "parquet" / "m.parquet")
    for folder in tmp_path.iterdir():
        (file,) = read_manifest(str(folder))
        assert file.table.to_pylist() == ROWS, folder.name


def test_folders_and_patterns_take_files_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "other.csv"):
        write(tmp_path / name, f"id,image,mask\n{name},x,y\n")
    write(tmp_path / "README.txt", "not a manifest")
    write(tmp_path / ".hidden.csv", "id,image,mask\nhidden,x,y\n")

    def ids(uri: Path) -> list[str]:
        return [file.table["id"][0].as_py() for file in read_manifest(str(uri))]

    assert ids(tmp_path) == ["a.csv", "b.csv", "other.csv"]
    assert ids(tmp_path / "?.csv") == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("m.csv", "", "manifest.empty", "is empty"),
        ("m.csv", "id,image,mask\n", "manifest.empty", "has no rows"),
        ("m.csv", "id,img,mask\n1,a,b\n", "manifest.missing_column", "no column image"),
        (
            "m.csv",
            "id,image\n1,a\n",
            "manifest.missing_column",
            "no column mask, boxes, polygons or",
        ),
        ("m.csv", "id;image;mask\n1;a;b\n", "manifest.missing_column", "separated by semicolons?"),
        ("m.csv", "ID,Image,Mask\n1,a,b\n", "manifest.missing_column", "in lower case"),
        ("m.csv", "id,image,mask,id\n1,a,b,2\n", "manifest.unreadable", "has id more than once"),
        (
            "m.csv",
            "id,image,mask\n1,a\n2,a,b\n\n3,a,b,c\n",
            "manifest.unreadable",
            "line 2 has 2 cells, the header 3; line 5 has 4 cells",
        ),
        ("m.csv", b"id,image,mask\n1,a,b\n2,\xff\xfe,b\n", "manifest.unreadable", "line 3 is not"),
        ("m.csv", 'id,image,mask\n1,"a\nb",c\n,x,y\n', "manifest.missing_id", "no id in line 4"),
        ("m.jsonl", '{"id": "1"\n', "manifest.unreadable", "line 1: Expecting"),
        ("m.jsonl", "[1]\n", "manifest.unreadable", "line 1 is not an object"),
        ("m.jsonl", '{"image": "a", "mask": "b"}\n', "manifest.missing_column", "no column id"),
        ("m.parquet", b"PAR1", "manifest.unreadable", "m.parquet"),
        ("m.csv.gz", b"not gzip", "manifest.unreadable", "m.csv.gz"),
        ("m.xlsx", b"PK", "manifest.unreadable", "is none of .csv, .jsonl, .parquet"),
    ],
)
def test_an_unusable_manifest_is_told(
    tmp_path: Path, name: str, content: str | bytes, code: str, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ManifestError) as caught:
        make_plan(path, str(tmp_path / "out"))
    assert caught.value.code == code
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists(), "nothing was started"


@pytest.mark.parametrize("uri", ["nowhere.csv", "nowhere/*.csv", "gopher://x/m.csv"])
def test_a_manifest_that_is_not_there(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(uri if "://" in uri else str(tmp_path / uri))
    assert caught.value.code == "manifest.not_found"


def test_paths_become_absolute_and_uris_stay(tmp_path: Path) -> None:
    path = write(
        tmp_path / "lists" / "m.csv",
        "id,image,mask\n1,a.jpg,../masks/./a.png\n2,/srv/b.jpg,s3://bucket/b c.png\n",
    )
    first, second = rows_of(make_plan(path, str(tmp_path / "out")))
    assert first["image_uri"] == f"{tmp_path}/lists/a.jpg"
    assert first["mask_uri"] == f"{tmp_path}/masks/a.png"
    assert (second["image_uri"], second["mask_uri"]) == ("/srv/b.jpg", "s3://bucket/b c.png")


BAD_ROWS = (
    "id,image,mask,note\n"
    "good,a.jpg,a.png,\n"
    "../up,a.jpg,a.png,\n"
    "a/b,a.jpg,a.png,\n"
    "bell\x07,a.jpg,a.png,\n"
    "twice,a.jpg,a.png,first\n"
    "twice,b.jpg,b.png,second\n"
    "no-image,,a.png,\n"
    "no-mask,a.jpg,,\n"
    f"{'long' * 60},a.jpg,a.png,\n"
    "back\\slash,a.jpg,a.png,\n"
)


def test_unusable_rows_are_planned_as_failed_and_named_with_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", BAD_ROWS)
    plan = make_plan(path, str(tmp_path / "out"))
    codes = {row["id"]: row["error_code"] for row in rows_of(plan)}
    assert codes.pop("good") is None
    assert codes.pop("twice") == "id.duplicate"
    assert codes.pop("no-image") == "image.no_uri"
    assert codes.pop("no-mask") == "mask.no_uri"
    assert set(codes.values()) == {"id.unsafe"}
    assert plan.rows == 9
    assert plan.rejected == {"id.duplicate": 1, "id.unsafe": 5, "image.no_uri": 1, "mask.no_uri": 1}
    told = "\n".join(plan.notes)
    assert "lines 3, 4, 5, 10, 11: id.unsafe" in told
    assert "lines 6, 7: id.duplicate (id 'twice')" in told
    assert "line 8: image.no_uri (id 'no-image')" in told


def test_strict_refuses_a_manifest_with_unusable_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", BAD_ROWS)
    with pytest.raises(ManifestError, match=r"lines 6, 7: id\.duplicate") as caught:
        make_plan(path, str(tmp_path / "out"), strict=True)
    assert caught.value.code == "manifest.invalid_rows"
    assert not (tmp_path / "out").exists()


def test_json_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    line = '{"id": "2024-01-01", "image": "a", "mask": "b", "season": "2024-05-01T00:00:00"}\n'
    (file,) = read_manifest(write(tmp_path / "m.jsonl", line))
    (row,) = file.table.to_pylist()
    assert (row["id"], row["season"]) == ("2024-01-01", "2024-05-01T00:00:00")


def test_a_column_that_is_text_in_one_file_is_text_in_all(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", "id,image,mask,sku,,\n1,a,b,0012,,\n")
    pq.write_table(
        pa.table({"id": ["2"], "image": ["a"], "mask": ["b"], "sku": [13]}),
        tmp_path / "m" / "2.parquet",
    )
    rows = rows_of(make_plan(str(tmp_path / "m"), str(tmp_path / "out")))
    assert [row["sku"] for row in rows] == ["0012", "13"]


def test_ids_that_would_lose_digits_are_refused(tmp_path: Path) -> None:
    line = '{"id": 12345678901234567890, "image": "a", "mask": "b"}\n'
    with pytest.raises(ManifestError, match="put them in quotes"):
        read_manifest(write(tmp_path / "m.jsonl", line))


def test_files_whose_columns_do_not_fit_are_told(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.jsonl", '{"id": "1", "image": "a", "mask": "b", "price": [1]}\n')
    write(tmp_path / "m" / "2.jsonl", '{"id": "2", "image": "a", "mask": "b", "price": "x"}\n')
    with pytest.raises(ManifestError, match=r"1\.jsonl, 2\.jsonl do not fit together"):
        make_plan(str(tmp_path / "m"), str(tmp_path / "out"))


def test_dots_are_resolved_within_the_root_and_in_relative_paths_alone(
    s3: str, tmp_path: Path
) -> None:
    boto3.client("s3").put_object(
        Bucket="catalog",
        Key="dots/m.csv",
        Body=b"id,image,mask\n1,../a//b.jpg,../../../c.png\n2,s3://x/a/../b.jpg,d//e.png\n",
    )
    first, second = rows_of(make_plan(f"{s3}/dots/m.csv", str(tmp_path / "out")))
    assert (first["image_uri"], first["mask_uri"]) == (f"{s3}/a/b.jpg", f"{s3}/c.png")
    assert (second["image_uri"], second["mask_uri"]) == ("s3://x/a/../b.jpg", f"{s3}/dots/d//e.png")


def test_a_file_named_like_a_pattern_is_found(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path / "[1].csv", CSV))


def test_duplicates_are_found_across_files(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", "id,image,mask\nx,a,b\n")
    write(tmp_path / "m" / "2.csv", "id,image,mask\ny,a,b\nx,c,d\n")
    plan = make_plan(str(tmp_path / "m"), str(tmp_path / "out"))
    assert plan.rows == 2
    assert [note.partition(": ")[0] for note in plan.notes] == [
        f"{tmp_path}/m/1.csv, line 2",
        f"{tmp_path}/m/2.csv, line 3",
    ]


def test_shards_hold_every_row_once_in_order(tmp_path: Path) -> None:
    lines = "".join(f"{n},a.jpg,a.png\n" for n in range(103))
    path = write(tmp_path / "m.csv", "id,image,mask\n" + lines)
    plan = make_plan(path, str(tmp_path / "out"), rows_per_shard=10)
    assert plan.shards == 11
    assert [row["id"] for row in rows_of(plan)] == [str(n) for n in range(103)]
    assert load_plan(str(tmp_path / "out")) == plan


def test_the_plan_is_kept_and_another_manifest_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", CSV)
    first = make_plan(path, str(tmp_path / "out"), rows_per_shard=1)
    assert make_plan(path, str(tmp_path / "out"), rows_per_shard=2) == first
    write(tmp_path / "m.csv", CSV + "3,c.jpg,c.png,0014\n")
    with pytest.raises(DestinationError, match="another manifest") as caught:
        make_plan(path, str(tmp_path / "out"))
    assert caught.value.code == "output.other_run"


def test_other_columns_keep_their_types_and_names_that_are_taken_are_changed(
    tmp_path: Path,
) -> None:
    table = pa.table(
        {
            "id": ["1"],
            "image": ["a"],
            "mask": ["b"],
            "status": ["draft"],
            "price": pa.array([9.5], pa.float32()),
            "tags": [["new", "red"]],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    plan = make_plan(str(tmp_path / "m.parquet"), str(tmp_path / "out"))
    (row,) = rows_of(plan)
    assert row["manifest_status"] == "draft"
    assert row["tags"] == ["new", "red"]
    assert plan.shard(0).read_table().schema.field("price").type == pa.float32()
    assert "status is called manifest_status" in plan.notes[0]


def test_no_column_is_lost_when_a_changed_name_is_taken_too(tmp_path: Path) -> None:
    head = "id,image,mask,status,manifest_status\n"
    path = write(tmp_path / "m.csv", head + "1,a,b,first,second\n")
    (row,) = rows_of(make_plan(path, str(tmp_path / "out")))
    assert row["manifest_manifest_status"] == "first"
    assert row["manifest_status"] == "second"


def test_a_manifest_in_s3_is_planned_in_s3(s3: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.put_object(Bucket="catalog", Key="plan/in/m.csv", Body=CSV.encode())
    plan = make_plan(f"{s3}/plan/in/*.csv", f"{s3}/plan/out")
    assert [row["image_uri"] for row in rows_of(plan)] == [
        f"{s3}/plan/in/a.jpg",
        f"{s3}/plan/in/b.jpg",
    ]
    assert load_plan(f"{s3}/plan/out") == plan


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
        assert plan.shard(0).read_table().column_names == SHARD_SCHEMA.names, "none is passed on"


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
    assert empty["error_code"] == "mask.no_uri"
    assert plan.rejected == {"mask.bad_shape": 1, "mask.no_uri": 1}
    assert f"{path}, line 3: mask.bad_shape (id 'bad')." in plan.notes


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
        read_manifest(path)
    write(
        tmp_path / f"m.{suffix}", text.replace("\n,a", "\n2,a").replace('{"im', '{"id": "2", "im')
    )
    first, second = rows_of(make_plan(path, str(tmp_path / "out")))
    assert len(str(first["marks"])) > 3_000_000
    assert second["marks"] == '{"boxes":[]}'


def test_files_with_and_without_shapes_go_together(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", CSV)
    write(tmp_path / "m" / "2.jsonl", '{"id": "3", "image": "a", "boxes": [1, 2, 3, 4]}\n')
    write(tmp_path / "m" / "3.csv", "id,image,mask,rle\n4,a,,\n5,a,,{}x\n")
    plan = make_plan(str(tmp_path / "m"), str(tmp_path / "out"))
    rows = rows_of(plan)
    assert [row["marks"] for row in rows] == [None, None, '{"boxes":[1,2,3,4]}', None, None]
    assert [row["error_code"] for row in rows] == [None] * 3 + ["mask.no_uri", "mask.bad_shape"]


def test_plain_manifests_are_planned_without_python_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manifests.marks._read_row", None)
    write(tmp_path / "m.csv", CSV)
    plan = make_plan(str(tmp_path / "m.csv"), str(tmp_path / "out"))
    assert [row["marks"] for row in rows_of(plan)] == [None, None]


def test_a_row_whose_marks_have_changed_is_still_to_be_done(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", 'id,image,boxes\n1,a,"[1,2,3,4]"\n2,a,"[1,2,3,4]"\n')
    plan = make_plan(path, str(tmp_path / "out"), rows_per_shard=2)
    rows = [
        LineageRow(id=name, image_uri=f"{tmp_path}/a", marks=marks, recipe_hash="x")
        for name, marks in (("1", '{"boxes":[1,2,3,4]}'), ("2", '{"boxes":[1,2,3,5]}'))
    ]
    ledger.write_rows(plan.output, 0, [lineage_dict(row) for row in rows], lineage_schema())
    tally = ledger.reconcile(plan, ledger.Goal("x", "run"))
    assert tally.missing == [(0, "2")]


def test_json_lines_whose_nesting_has_no_end_are_told(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    path = write(tmp_path / "m.jsonl", f'{{"id": "1", "image": "a", "boxes": {deep}}}\n')
    with pytest.raises(ManifestError, match="line 1: maximum recursion depth") as caught:
        read_manifest(path)
    assert caught.value.code == "manifest.unreadable"


def test_json_lines_with_shapes_and_without_ids_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"boxes": [1, 2, 3, 4]}\n')
    with pytest.raises(ManifestError, match="has no column id, image, only boxes"):
        read_manifest(path)
