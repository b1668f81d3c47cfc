"""Manifests as people have them: folders of unlike files, partitions, spreadsheets' leftovers."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import ManifestError, RowError
from manifests.planning.plan import make_plan
from manifests.reading.read import count_rows, find_files
from manifests.storage.row_files import fetch
from tests.support import rows_of, tables_of, write


def parquet(path: Path, number: int, **columns: Sequence[object] | pa.Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": [str(number)], "image": ["a"], "mask": ["b"], **columns}), path)


def planned(folder: Path) -> list[dict[str, object]]:
    return rows_of(make_plan(str(folder / "m"), str(folder / "out")))


NOON = dt.datetime(2024, 5, 1, 12)


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        ([pa.array([13]), pa.array(["0012"], pa.large_string())], ["13", "0012"]),
        ([pa.array([13], pa.int32()), pa.array([2**40]), pa.array([1.5])], [13.0, 2.0**40, 1.5]),
        ([pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.string_view())], ["a", "b"]),
        ([pa.array([None]), pa.array(["b"])], [None, "b"]),
        ([pa.array([True]), pa.array(["b"])], ["true", "b"]),
        ([pa.array([NOON], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")], [NOON] * 4),
        ([pa.array([Decimal("1.5")]), pa.array([2.25])], [1.5, 2.25]),
        ([pa.array([[1]], pa.large_list(pa.int8())), pa.array([[2**40]])], ["[1]", f"[{2**40}]"]),
        ([pa.array([[None]]), pa.array([["x"]])], ["[null]", '["x"]']),
        ([pa.array([["x"]]), pa.array(["x"])], ['["x"]', "x"]),
        ([pa.array([True]), pa.array([1])], ["true", "1"]),
        ([pa.array([NOON]), pa.array([NOON.date()])], ["2024-05-01 12:00:00.000000", "2024-05-01"]),
    ],
)
def test_a_column_may_have_another_type_in_each_file(
    tmp_path: Path, cells: list[pa.Array], read: list[object]
) -> None:
    for number, array in enumerate(cells):
        parquet(tmp_path / "m" / f"{number}.parquet", number, theirs=array)
    assert [row["theirs"] for row in planned(tmp_path)] == read


def test_a_number_that_the_common_type_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    parquet(tmp_path / "m" / "1.parquet", 1, theirs=[2**60 + 1])
    parquet(tmp_path / "m" / "2.parquet", 2, theirs=[1.5])
    with pytest.raises(ManifestError, match=r"1\.parquet: column theirs: Integer value .* not in"):
        planned(tmp_path)


def test_partitions_are_columns_and_paths_stay_those_of_the_folder(tmp_path: Path) -> None:
    parquet(tmp_path / "m" / "country=de" / "year=2024" / "part-0.parquet", 1)
    parquet(tmp_path / "m" / "country=a%20b" / "part-0.parquet", 2, country=["its own"])
    parquet(tmp_path / "m" / "country=__HIVE_DEFAULT_PARTITION__" / "part-0.parquet", 3)
    write(tmp_path / "m" / "country=fr" / "year=0012" / "part-1.csv", "id,image,mask\n4,a,b\n")
    write(tmp_path / "m" / "_delta_log" / "x=1" / "0.jsonl", "{}")
    write(tmp_path / "m" / "photos" / "x.csv", "not,a,manifest\n")
    rows = {row["id"]: row for row in planned(tmp_path)}
    assert {name: (row["country"], row["year"]) for name, row in rows.items()} == {
        "1": ("de", "2024"),
        "2": ("its own", None),
        "3": (None, None),
        "4": ("fr", "0012"),
    }
    assert {row["image_uri"] for row in rows.values()} == {f"{tmp_path}/m/a"}


def test_the_folder_of_a_single_file_is_no_partition(tmp_path: Path) -> None:
    path = tmp_path / "day=1" / "m.parquet"
    parquet(path, 1)
    (row,) = rows_of(make_plan(str(path), str(tmp_path / "out")))
    assert row["image_uri"] == f"{tmp_path}/day=1/a"
    assert "day" not in row


def test_partitions_in_s3_are_read_and_sampled(s3: str, tmp_path: Path) -> None:
    for day in (1, 2):
        key = f"hive/m/day={day}/part.csv"
        body = f"id,image,mask\n{day},a,b\n".encode()
        boto3.client("s3").put_object(Bucket="catalog", Key=key, Body=body)
    rows = rows_of(make_plan(f"{s3}/hive/m", str(tmp_path / "out")))
    assert [(row["id"], row["day"], row["image_uri"]) for row in rows] == [
        ("1", "1", f"{s3}/hive/m/a"),
        ("2", "2", f"{s3}/hive/m/a"),
    ]
    assert count_rows(find_files(f"{s3}/hive/m")) == 2


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("mask", pa.array([{"uri": "b"}]), "struct<uri: string>"),
        ("mask", pa.array([[{"uri": "b"}]]), "list<element: struct<uri: string>>"),
        ("image", pa.array([{"bytes": b"", "path": "a"}]), "struct<bytes: binary, path: string>"),
        ("id", pa.array([["1"]]), "list<element: string>"),
    ],
)
def test_columns_of_ours_that_hold_no_text_are_refused(
    tmp_path: Path, name: str, cells: pa.Array, kind: str
) -> None:
    parquet(tmp_path / "m" / "1.parquet", 1, **{name: cells})
    with pytest.raises(ManifestError) as caught:
        planned(tmp_path)
    also = " or lists of paths" if name == "mask" else ""
    assert caught.value.message.endswith(f": column {name} is {kind}; it takes text{also}.")


def test_an_object_as_a_mask_fails_its_row_alone(tmp_path: Path) -> None:
    line = '{"id": "%s", "image": "a", "mask": %s}\n'
    write(tmp_path / "m" / "1.jsonl", line % (1, '{"uri": "b"}') + line % (2, '"{b}.png"'))
    bad, good = planned(tmp_path)
    assert (bad["error_code"], good["error_code"]) == ("mask.bad_shape", None)
    assert "is not a list of paths" in str(bad["error"])


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string(), pa.binary()])
def test_text_of_any_type_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    boxes = pa.array(["[1,2,3,4]"], pa.string() if kind == pa.binary() else kind)
    columns = {name: pa.array(["x"], kind) for name in ("id", "image", "mask")}
    parquet(tmp_path / "m" / "1.parquet", 1, **columns, boxes=boxes)
    (row,) = planned(tmp_path)
    assert (row["id"], row["marks"]) == ("x", '{"boxes":[1,2,3,4]}')


def test_boxes_of_decimals_are_numbers(tmp_path: Path) -> None:
    boxes = pa.array([[Decimal("1.5"), Decimal(2), Decimal(3), Decimal(4)]])
    parquet(tmp_path / "m" / "1.parquet", 1, boxes=boxes)
    (row,) = planned(tmp_path)
    assert row["marks"] == '{"boxes":[1.5,2.0,3.0,4.0]}'


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_rows_of_commas_are_passed_over_and_lines_counted_on(tmp_path: Path, line_end: str) -> None:
    lines = ["id,image,mask,note", ",,,", "1,a,b,", " ,,\t,", "2,,b,x", ",,,", ",,,"]
    write(tmp_path / "m" / "1.csv", "\ufeff" + line_end.join(lines) + 3 * line_end)
    plan = make_plan(str(tmp_path / "m"), str(tmp_path / "out"))
    assert [row["id"] for row in rows_of(plan)] == ["1", "2"]
    assert "line 5: image.no_uri (id '2')" in plan.notes[0]


def test_a_row_that_lacks_no_more_than_its_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", "id,image,mask,note\n,,,\n,,,x\n")
    with pytest.raises(ManifestError, match="no id in line 3"):
        planned(tmp_path)


def test_blanks_behind_commas_are_not_meant(tmp_path: Path) -> None:
    text = "id, image , mask, note\n 1, a b.jpg,\tb.png , kept \n2,a,  ,\n"
    write(tmp_path / "m" / "1.csv", text)
    first, second = planned(tmp_path)
    assert (first["id"], first["image_uri"]) == ("1", f"{tmp_path}/m/a b.jpg")
    assert (first["mask_uri"], first["note"]) == (f"{tmp_path}/m/b.png", " kept ")
    assert second["error_code"] == "mask.no_uri"


def test_a_blank_before_a_quotation_mark_is_refused_with_its_line(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.csv", 'id, image, mask\n1,"a", b\n2, "a", b\n')
    with pytest.raises(ManifestError, match=r"1\.csv: line 3: a space before a quotation mark"):
        planned(tmp_path)


def test_blanks_in_typed_files_are_meant(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1.jsonl", '{"id": "1", "image": " a", "mask": "b"}\n')
    (row,) = planned(tmp_path)
    assert row["image_uri"] == f"{tmp_path}/m/ a"


def test_dates_inside_of_json_objects_and_lists_stay_text(tmp_path: Path) -> None:
    line = '{"id": "1", "image": "a", "mask": "b", "x": {"on": "2024-01-01"}, "y": ["2024-01-01"]}'
    (table,) = tables_of(write(tmp_path / "m.jsonl", line))
    assert table.select(["x", "y"]).to_pylist() == [
        {"x": '{"on": "2024-01-01"}', "y": '["2024-01-01"]'}
    ]


def test_lists_of_nothing_but_nulls_are_read(tmp_path: Path) -> None:
    line = '{"id": "%d", "image": "a", "mask": "b", "x": [null, null]}\n'
    write(tmp_path / "m" / "1.jsonl", line % 1 + line % 2)
    assert [row["x"] for row in planned(tmp_path)] == ["[null, null]"] * 2


@pytest.mark.parametrize("cell", ["[null, null]", "[1]"])
def test_a_number_too_large_for_64_bits_is_a_float_beside_any_list(
    tmp_path: Path, cell: str
) -> None:
    line = '{"id": "%d", "image": "a", "mask": "b", "x": ' + cell + ', "y": %d}\n'
    write(tmp_path / "m" / "1.jsonl", line % (1, 2**80) + line % (2, 0))
    rows = rows_of(make_plan(str(tmp_path / "m"), str(tmp_path / "out")))
    assert [row["y"] for row in rows] == [float(2**80), 0.0]


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))


def test_ids_that_look_alike_are_duplicates_and_each_has_its_row(tmp_path: Path) -> None:
    ids = [COMPOSED, "cafe", DECOMPOSED, "CAFE", DECOMPOSED]
    text = "".join(f"{name},a,b\n" for name in ids)
    plan = make_plan(write(tmp_path / "m.csv", f"id,image,mask\n{text}"), str(tmp_path / "out"))
    assert [(row["id"], row["error_code"]) for row in rows_of(plan)] == [
        (COMPOSED, "id.duplicate"),
        ("cafe", None),
        (DECOMPOSED, "id.duplicate"),
        ("CAFE", None),
    ]
    assert plan.rows == 4
    assert "lines 2, 4, 6: id.duplicate" in plan.notes[0]


def test_an_id_is_kept_as_it_is_spelled(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", f"id,image,mask\n{DECOMPOSED},a,b\n")
    assert rows_of(make_plan(path, str(tmp_path / "out")))[0]["id"] == DECOMPOSED


@pytest.mark.parametrize(("asked", "there"), [(COMPOSED, "NFD"), (DECOMPOSED, "NFC")])
def test_a_file_that_looks_the_same_is_named_when_one_is_missing(
    s3: str, tmp_path: Path, asked: str, there: Literal["NFC", "NFD"]
) -> None:
    stored = unicodedata.normalize(there, asked) + ".jpg"
    (tmp_path / stored).write_bytes(b"x")
    boto3.client("s3").put_object(Bucket="catalog", Key=f"{there}/{stored}", Body=b"x")
    for folder in (str(tmp_path), f"{s3}/{there}"):
        with pytest.raises(RowError, match=f"the same name in Unicode's {there}: rename") as e:
            fetch(f"{folder}/{asked}.jpg", "image")
        assert e.value.code == "image.not_found"
        with pytest.raises(RowError, match=r"There is no image \S+/caf\S+\.png\. Check the path"):
            fetch(f"{folder}/{asked}.png", "image")
    with pytest.raises(RowError) as caught:
        fetch(f"s3://no-such-bucket/{asked}.jpg", "image")
    assert caught.value.code == "image.not_found"
