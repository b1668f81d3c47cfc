"""Reading and planning a manifest: every format, and every mistake with its line."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.run import parse_shards
from manifests.errors import ManifestError, OutputError
from manifests.planning import plan as planning
from manifests.planning.plan import Plan, choose_rows_per_shard, load_plan, make_plan
from manifests.reading.pictures import PLAN
from tests.support import rows_of, tables_of, write

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
        (table,) = tables_of(folder)
        assert table.to_pylist() == ROWS, folder.name


def test_folders_and_patterns_take_files_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "other.csv"):
        write(tmp_path / name, f"id,image,mask\n{name},x,y\n")
    write(tmp_path / "README.txt", "not a manifest")
    write(tmp_path / ".hidden.csv", "id,image,mask\nhidden,x,y\n")

    def ids(uri: Path) -> list[str]:
        return [table["id"][0].as_py() for table in tables_of(uri)]

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
        (
            "m.csv",
            "id;image;mask\n1;a, b;c\n",
            "manifest.unreadable",
            "line 2 has 2 cells, the header 1 (are the cells separated by semicolons? Use commas).",
        ),
        ("m.csv", "id\timage\tmask\n1\ta\tb\n", "manifest.missing_column", "by tabs? Use commas"),
        ("m.csv", "ID,Image,Mask\n1,a,b\n", "manifest.missing_column", "in lower case"),
        ("m.csv", "id,image,mask,id\n1,a,b,2\n", "manifest.unreadable", "more than one column id."),
        (
            "m.csv",
            "id,image,mask\n1,a\n2,a,b\n\n3,a,b,c\n",
            "manifest.unreadable",
            "line 2 has 2 cells, the header 3; line 5 has 4 cells",
        ),
        ("m.csv", b"id,image,mask\n1,a,b\n2,\xff\xfe,b\n", "manifest.unreadable", "line 3 is not"),
        ("m.csv", 'id,image,mask\n1,"a\nb",c\n,x,y\n', "manifest.missing_id", "no id in line 4"),
        ("m.csv", 'id,image,mask\n1,a,b\n2,a,"b\n3,a,b\n', "manifest.unreadable", "mark in line 3"),
        ("m.jsonl", '{"id": "1", "id": "2"}\n', "manifest.unreadable", "two fields of one name"),
        ("m.jsonl", '{"id": "1", "x": NaN}\n', "manifest.unreadable", "NaN is not a number"),
        ("m.jsonl", '{"id": "1"\n', "manifest.unreadable", "line 1: Expecting"),
        ("m.jsonl", "[1]\n", "manifest.unreadable", "line 1 is not an object (write one object"),
        (
            "m.jsonl",
            '[\n{"id": 1},\n',
            "manifest.unreadable",
            "without a list around them); line 2",
        ),
        (
            "m.jsonl",
            '{"id": 1, "image": "a", "mask": "b"}\n\n{"id": "x", "image": "a", "mask": "b"}\n',
            "manifest.unreadable",
            "column id, line 1 and line 3: ",
        ),
        ("m.jsonl", '{"image": "a", "mask": "b"}\n', "manifest.missing_column", "no column id"),
        ("m.parquet", b"PAR1", "manifest.unreadable", "m.parquet"),
        ("m.csv.gz", b"not gzip", "manifest.unreadable", "m.csv.gz"),
        ("instances.json", b"{}", "manifest.unreadable", "one object per row, each in a line"),
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
        make_plan(uri if "://" in uri else str(tmp_path / uri), str(tmp_path / "out"))
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


def test_a_scheme_that_is_never_read_is_an_error_of_its_row_when_planned(tmp_path: Path) -> None:
    lines = ["web,https://x/a.jpg,a.png", "cloud,a.jpg,gs://b/a.png", "two,HTTP://x/a,gs://b/c"]
    lines += ["s3,S3://b/a.jpg,FILE:///a.png", "odd,a:b.jpg,x"]
    path = write(tmp_path / "m.csv", "id,image,mask\n" + "\n".join(lines))
    plan = make_plan(path, str(tmp_path / "out"))
    assert plan.rejected == {"image.unknown_scheme": 2, "mask.unknown_scheme": 1}
    assert f"{path}, lines 2, 4: image.unknown_scheme (id 'web')." in plan.notes
    errors = [row["error"] for row in rows_of(plan)]
    assert "Use a local path, file:// or s3://." in str(errors[0])
    assert errors[3:] == [None, None]


BAD_ROWS = (
    "id,image,mask,note\n"
    "good,a.jpg,a.png,\n"
    "../up,a.jpg,a.png,\n"
    "a//b,a.jpg,a.png,\n"
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
    (table,) = tables_of(write(tmp_path / "m.jsonl", line))
    (row,) = table.to_pylist()
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
        tables_of(write(tmp_path / "m.jsonl", line))
    with pytest.raises(ManifestError, match="put them in quotes"):
        tables_of(write(tmp_path / "m.jsonl", line.replace("12345678901234567890", "1.5")))
    table = pa.table({"id": [1.0, None], "image": ["a", "a"], "mask": ["b", "b"]})
    pq.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match=r'\["id"\]\.astype\("Int64"\)\.astype\(str\)\.'):
        tables_of(tmp_path / "m.parquet")


def test_ids_that_end_like_pictures_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "id,image,mask\na.JPG,a.jpg,b\nb.v2,b.jpg,b\n")
    (note,) = make_plan(path, str(tmp_path / "out")).notes
    assert note.startswith("1 id ends like a picture's name.")


def test_a_column_of_other_types_in_other_files_is_text(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.jsonl", '{"id": "1", "image": "a", "mask": "b", "price": [1]}\n')
    write(tmp_path / "m" / "2.jsonl", '{"id": "2", "image": "a", "mask": "b", "price": "x"}\n')
    rows = rows_of(make_plan(str(tmp_path / "m"), str(tmp_path / "out")))
    assert [row["price"] for row in rows] == ["[1]", "x"]


def test_a_file_named_like_a_pattern_is_found(tmp_path: Path) -> None:
    assert tables_of(write(tmp_path / "[1].csv", CSV))


def test_duplicates_are_found_across_files(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", "id,image,mask\nx,a,b\n")
    write(tmp_path / "m" / "2.csv", "id,image,mask\ny,a,b\nx,c,d\n")
    plan = make_plan(str(tmp_path / "m"), str(tmp_path / "out"))
    assert plan.rows == 2
    assert [note.partition(": ")[0] for note in plan.notes] == [
        f"{tmp_path}/m/1.csv, line 2",
        f"{tmp_path}/m/2.csv, line 3",
        "3 rows have 2 ids",
    ]
    errors = {row["id"]: str(row["error"]) for row in rows_of(plan)}
    assert "that of 2.csv, line 3." in errors["x"], "no row is lost without a trace"


def test_shards_hold_every_row_once_in_order(tmp_path: Path) -> None:
    lines = "".join(f"{n},a.jpg,a.png\n" for n in range(103))
    path = write(tmp_path / "m.csv", "id,image,mask\n" + lines)
    plan = make_plan(path, str(tmp_path / "out"), rows_per_shard=10)
    assert plan.shards == 11
    assert [row["id"] for row in rows_of(plan)] == [str(n) for n in range(103)]
    assert load_plan(str(tmp_path / "out")) == plan


@pytest.mark.parametrize(
    ("rows", "in_shard", "shards"),
    [(8, 64, 1), (4000, 64, 63), (1_000_000, 976, 1025), (10_000_000, 1000, 10_000)],
)
def test_shards_have_64_rows_or_more_and_are_about_a_thousand(
    rows: int, in_shard: int, shards: int
) -> None:
    """Each has lineage files of its own, which cost requests."""
    assert choose_rows_per_shard(rows) == in_shard
    assert -(-rows // in_shard) == shards


def test_a_single_row_needs_no_end_of_line(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.csv", "id,image,mask\n1,1.jpg,1.png")
    assert [row["id"] for row in rows_of(make_plan(manifest, str(tmp_path / "out")))] == ["1"]


def test_the_plan_is_kept_and_another_manifest_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", CSV)
    first = make_plan(path, str(tmp_path / "out"), rows_per_shard=1)
    assert make_plan(path, str(tmp_path / "out"), rows_per_shard=2) == first
    write(tmp_path / "m.csv", CSV + "3,c.jpg,c.png,0014\n")
    with pytest.raises(OutputError, match="another manifest") as caught:
        make_plan(path, str(tmp_path / "out"))
    assert caught.value.code == "output.other_run"


@pytest.mark.parametrize("is_same", [True, False])
def test_of_two_that_plan_at_the_same_time_the_first_to_finish_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    path, out = write(tmp_path / "a.csv", CSV), str(tmp_path / "out")
    other = path if is_same else write(tmp_path / "b.csv", CSV.replace("1,", "b,"))
    write_shards, plans = planning._write_shards, []

    def meanwhile(plan: Plan, tables: Iterable[pa.Table]) -> int:
        monkeypatch.setattr(planning, "_write_shards", write_shards)
        plans.append(make_plan(other, out, rows_per_shard=1))
        return write_shards(plan, tables)

    monkeypatch.setattr(planning, "_write_shards", meanwhile)
    if is_same:
        assert [make_plan(path, out, rows_per_shard=2)] == plans
    else:
        with pytest.raises(OutputError, match="another manifest"):
            make_plan(path, out)
    assert make_plan(other, out) == load_plan(out) == plans[0]


def test_a_plan_whose_file_is_empty_is_made_again(tmp_path: Path) -> None:
    """As a process leaves it that is killed while it writes, on disks without hard links."""
    path, out = write(tmp_path / "m.csv", CSV), str(tmp_path / "out")
    write(tmp_path / "out" / PLAN, "")
    plan = make_plan(path, out)
    assert plan == load_plan(out)


def test_a_manifest_that_was_copied_is_still_the_same(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "m.csv", CSV))
    plan = make_plan(str(path), str(tmp_path / "out"))
    os.utime(path, (1, 1))
    assert make_plan(str(path), str(tmp_path / "out")) == plan


def test_a_manifest_of_the_same_size_and_time_is_not_read_again(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "m.csv", CSV))
    plan = make_plan(str(path), str(tmp_path / "out"))
    before = path.stat().st_mtime_ns
    path.write_bytes(b"\0" * path.stat().st_size)
    os.utime(path, ns=(before, before))
    assert make_plan(str(path), str(tmp_path / "out")) == plan


def test_a_manifest_that_changes_while_it_is_planned_is_refused(tmp_path: Path) -> None:
    lines = "".join(f"{n},a.jpg,a.png\n" for n in range(1000))
    path = Path(write(tmp_path / "m.csv", "id,image,mask\n" + lines))

    def change_once_shards_are_written() -> None:
        while not list((tmp_path / "out").rglob("shard=*")):
            time.sleep(0.001)
        with path.open("a") as file:
            file.write("late,a.jpg,a.png\n")

    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(change_once_shards_are_written)
        with pytest.raises(ManifestError) as caught:
            make_plan(str(path), str(tmp_path / "out"), rows_per_shard=1)
        changed.result()
    assert caught.value.code == "manifest.changed"
    assert load_plan(str(tmp_path / "out")) is None
    assert make_plan(str(path), str(tmp_path / "out")).rows == 1001


@pytest.mark.parametrize("rows_per_shard", [100, 1000])
def test_what_a_killed_planning_leaves_is_no_plan_and_disturbs_none(
    tmp_path: Path, rows_per_shard: int
) -> None:
    lines = "".join(f"{n},a.jpg,a.png\n" for n in range(20_000))
    path, out = write(tmp_path / "m.csv", "id,image,mask\n" + lines), tmp_path / "out"
    call = (
        "import sys, manifests.planning.plan as p; p.make_plan(*sys.argv[1:], rows_per_shard=100)"
    )
    with subprocess.Popen([sys.executable, "-c", call, path, str(out)]) as planning:
        while len(list(out.rglob("shard=*"))) < 20:
            assert planning.poll() is None
            time.sleep(0.01)
        planning.kill()
    assert load_plan(str(out)) is None
    plan = make_plan(path, str(out), rows_per_shard=rows_per_shard)
    assert [row["id"] for row in rows_of(plan)] == [str(n) for n in range(20_000)]
    assert load_plan(str(out)) == plan


@pytest.mark.parametrize(
    ("text", "shards"),
    [("0-3,7", [0, 1, 2, 3, 7]), (" 7 , 2-2,1 - 3", [1, 2, 3, 7]), ("0-10", list(range(11)))],
)
def test_shards_are_chosen_by_numbers_and_ranges(
    tmp_path: Path, text: str, shards: list[int]
) -> None:
    assert parse_shards(text, eleven_shards(tmp_path)) == shards


@pytest.mark.parametrize(
    "text", ["", "11", "0-11", "3-1", "-1", "1,,2", "x", "0-999999999", "\u0661"]
)
def test_shards_that_are_not_there_are_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(OutputError, match=r"is not a shard of .*, which has 11") as caught:
        parse_shards(text, eleven_shards(tmp_path))
    assert caught.value.code == "output.no_such_shard"


def eleven_shards(folder: Path) -> Plan:
    lines = "".join(f"{n},a.jpg,a.png\n" for n in range(11))
    path = write(folder / "m.csv", "id,image,mask\n" + lines)
    return make_plan(path, str(folder / "out"), rows_per_shard=1)


def test_other_columns_keep_plain_types_and_names_that_are_taken_are_changed(
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
    assert row["tags"] == '["new", "red"]'
    assert plan.shard_file(0).read_table().schema.field("price").type == pa.float32()
    assert "status is called manifest_status" in plan.notes[0]


def test_no_column_is_lost_when_a_changed_name_is_taken_too(tmp_path: Path) -> None:
    head = "id,image,mask,status,manifest_status\n"
    path = write(tmp_path / "m.csv", head + "1,a,b,first,second\n")
    (row,) = rows_of(make_plan(path, str(tmp_path / "out")))
    assert row["manifest_manifest_status"] == "first"
    assert row["manifest_status"] == "second"
