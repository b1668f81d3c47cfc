"""Manifests of any size are read in parts: where a part ends must make no difference."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ManifestError
from manifests.planning.duplicates import FIRST, REPEATED, UNIQUE, IdHashes
from manifests.planning.plan import make_plan
from manifests.reading import formats
from manifests.reading.read import find_files, read_parts
from tests.support import rows_of, tables_of, write

CELLS = st.text(st.sampled_from('ab," \n\r\u00e9'), max_size=6)


@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=8),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quote_all=st.booleans(),
    size=st.integers(3, 40),  # a byte order mark has 3
    mark=st.booleans(),
)
def test_csv_is_the_same_wherever_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    line_end: str,
    quote_all: bool,
    size: int,
    mark: bool,
) -> None:
    def written(cell: str) -> str:
        doubled = cell.replace('"', '""')
        return f'"{doubled}"' if quote_all or set(cell) & set(',"\n\r') else cell

    table = [["id", "image", "mask", "note", "last"]]
    table += [[str(number), "i", "m", *cells] for number, cells in enumerate(rows)]
    body = "".join(",".join(map(written, cells)) + line_end for cells in table)
    text = ("\ufeff" if mark else "") + body
    path = write(tmp_path_factory.getbasetemp() / "any" / "m.csv", text)
    with io.StringIO(body, newline="") as file:
        reader = csv.reader(file)
        ends = [(reader.line_num, cells) for cells in reader]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "PART_BYTES", size)
        found, lines = [], []
        for part in read_parts(*find_files(path)):
            found += part.table.select(["note", "last"]).to_pylist()
            lines += part.lines(range(part.table.num_rows))
    assert [[row["note"], row["last"]] for row in found] == rows == [row[3:] for _, row in ends[1:]]
    assert lines == [line + 1 for line, _ in ends[:-1]]


@pytest.mark.parametrize("blank", ["", "\n" * 100, "1,a,b\n" + "\r\n" * 100])
def test_files_and_parts_without_rows_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", 20)
    write(tmp_path / "m" / "1.csv", "id,image,mask\n" + blank)
    write(tmp_path / "m" / "2.csv", "id,image,mask\n2,a,b\n")
    rows = rows_of(make_plan(str(tmp_path / "m"), str(tmp_path / "out")))
    assert [row["id"] for row in rows] == [*blank[:1].strip(), "2"]


@pytest.mark.parametrize("size", [1, 7, 30, 1000])
def test_a_quote_inside_a_cell_is_a_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", size)
    text = 'id,image,mask,note\n1,a,b,TV 42"\n\n2,a,b,"two\n""lines"""\n3,a,b,"x" y\n'
    (table,) = tables_of(write(tmp_path / "m.csv", text))
    assert table["note"].to_pylist() == ['TV 42"', 'two\n"lines"', "x y"]


@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_json_lines_are_the_same_wherever_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", size)
    rows: list[dict[str, object]] = [
        {"id": 1, "image": "a", "mask": "b", "price": 1, "on": "2024-01-01", "size": {"w": 1}},
        {"id": 2, "image": "a", "boxes": [1, 2, 3, 4], "price": 2.5, "on": "soon"},
        {"id": 3, "image": "a", "mask": ["b", "c"], "price": None, "size": {"w": 2, "h": 3}},
        {"id": 4, "image": "a", "mask": "b", "tags": ["x"], "new": True},
    ]
    path = write(tmp_path / "m.jsonl", "\n\n".join(map(json.dumps, rows)))
    found = rows_of(make_plan(path, str(tmp_path / "out")))
    assert [row["id"] for row in found] == ["1", "2", "3", "4"]
    assert [row["price"] for row in found] == [1.0, 2.5, None, None]
    assert [row["on"] for row in found] == ["2024-01-01", "soon", None, None]
    assert [row["size"] for row in found] == ['{"w": 1}', None, '{"w": 2, "h": 3}', None]
    assert [row["tags"] for row in found] == [None, None, None, '["x"]']
    assert [row["marks"] for row in found][1:3] == [
        '{"boxes":[1,2,3,4]}',
        f'{{"masks":["{tmp_path}/c"]}}',
    ]


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_column_of_several_types_is_text_in_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", size)
    line = '{"id": 1%s, "image": "a", "mask": "b", "x": %s}\n'
    cells = ["1", '"one"', "null", "[1]", "true"]
    text = "".join(line % (number, cell) for number, cell in enumerate(cells))
    plan = make_plan(write(tmp_path / "m.jsonl", text), str(tmp_path / "out"))
    assert [row["x"] for row in rows_of(plan)] == ["1", "one", None, "[1]", "true"]


@pytest.mark.parametrize(("name", "cell"), [("id", '"x"'), ("image", '["x"]'), ("id", "[1]")])
def test_an_id_or_photo_of_several_types_is_refused(tmp_path: Path, name: str, cell: str) -> None:
    row = {"id": "1", "image": "a", "mask": "b"}
    lines = [json.dumps(row | {name: value}) for value in (2**70, json.loads(cell))]
    with pytest.raises(ManifestError, match=f"column {name}.* in quotes") as caught:
        make_plan(write(tmp_path / "m.jsonl", "\n".join(lines)), str(tmp_path / "out"))
    assert caught.value.code == "manifest.unreadable"
    assert not (tmp_path / "out").exists()


def test_lines_without_an_id_are_not_named_as_of_another_type(tmp_path: Path) -> None:
    lines = [json.dumps({"id": each, "image": "a", "mask": "b"}) for each in (None, "a", None, 5)]
    with pytest.raises(ManifestError, match="line 2 and line 4: "):
        make_plan(write(tmp_path / "m.jsonl", "\n".join(lines)), str(tmp_path / "out"))


def test_notes_name_the_first_lines_of_all_parts_and_count_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", 100)
    lines = "".join(f'{n},a.jpg,"b\n.png"\nx,c,d\n/,e,f\n' for n in range(50))
    plan = make_plan(write(tmp_path / "m.csv", "id,image,mask\n" + lines), str(tmp_path / "out"))
    first = ", ".join(str(4 + 4 * n) for n in range(10))
    assert f"lines {first} and 40 more: id.duplicate (id 'x')" in plan.notes[0]
    assert plan.rejected == {"id.duplicate": 1, "id.unsafe": 1}
    assert plan.rows == 52


def test_a_manifest_of_nothing_but_one_id_is_one_row(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "id,image,mask\n" + "x,a,b\n" * 30_000)
    plan = make_plan(path, str(tmp_path / "out"))
    assert (plan.rows, plan.shards, plan.rejected) == (1, 1, {"id.duplicate": 1})
    assert "lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 29,990 more: id.duplicate" in plan.notes[0]


def test_notes_on_many_files_are_cut_short(tmp_path: Path) -> None:
    for number in range(130):
        write(tmp_path / "m" / f"{number:03}.csv", f"id,image,mask\n{number},,b\n/{number},a,b\n")
    plan = make_plan(str(tmp_path / "m"), str(tmp_path / "out"))
    assert plan.rejected == {"image.no_uri": 130, "id.unsafe": 130}
    assert len(plan.notes) == 101
    assert plan.notes[-1] == "160 more rows, of further files, cannot be used."


def test_parquet_is_the_same_in_any_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "PART_BYTES", 200)
    ids = [str(n) for n in range(500)] + ["7"]
    table = pa.table({"id": pa.array(ids).dictionary_encode(), "image": ids, "mask": ids})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=70)
    plan = make_plan(str(tmp_path / "m.parquet"), str(tmp_path / "out"))
    assert [row["id"] for row in rows_of(plan)] == ids[:-1]
    assert "rows 8, 501: id.duplicate" in plan.notes[0]
    errors = [str(row["error"]) for row in rows_of(plan) if row["error"]]
    assert [error[:32] for error in errors] == ["The id is also that of row 501. "]


@given(
    st.lists(
        st.text(st.sampled_from("ab\0\u00e9e\u0301"), min_size=1, max_size=3) | st.just("z" * 300)
    )
)
def test_repeated_ids_are_found_exactly(ids: list[str]) -> None:
    hashes = IdHashes()
    for start in range(0, len(ids), 5):
        hashes.add(pa.array(ids[start : start + 5], pa.string()))
    looks = [unicodedata.normalize("NFC", name) for name in ids]
    spelled = [(look, look == name) for look, name in zip(looks, ids, strict=True)]
    wanted = [
        UNIQUE if looks.count(look) == 1 else REPEATED if spelled[row] in spelled[:row] else FIRST
        for row, look in enumerate(looks)
    ]
    found = hashes.classify()
    assert found.kinds.tolist() == wanted
    shared = [row for row, kind in enumerate(wanted) if kind != UNIQUE]
    assert found.shared.tolist() == shared
    named = replace(found, labels=pa.array([f"row {row}" for row in shared], pa.string()))
    for row, error in enumerate(named.errors(0, len(ids)).to_pylist()):
        others = [f"row {n}" for n, look in enumerate(looks) if look == looks[row] and n != row]
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        told = f"The id is also that of {', '.join(others[:3])}{more}. "
        if wanted[row] == FIRST:
            assert error.startswith(told)
        else:
            assert error == ("" if wanted[row] == REPEATED else None)
    half = len(ids) // 2
    assert named.errors(half, len(ids) - half) == named.errors(0, len(ids)).slice(half)


def test_long_ids_are_told_apart_behind_their_common_beginning() -> None:
    hashes = IdHashes()
    hashes.add(pa.array(["z" * 300 + "1", "z" * 300 + "2", "z" * 300 + "1"]).slice(0))
    assert hashes.classify().kinds.tolist() == [FIRST, UNIQUE, REPEATED]


def test_shards_of_large_rows_have_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifests.planning.plan._SHARD_BYTES", 1000)
    monkeypatch.setattr(formats, "PART_BYTES", 300)
    lines = "".join(f"{n},a.jpg,a.png,{'long' * 50}\n" for n in range(30))
    path = write(tmp_path / "m.csv", "id,image,mask,note\n" + lines)
    plan = make_plan(path, str(tmp_path / "out"), rows_per_shard=20)
    assert 5 < plan.shards < 15
    assert [row["id"] for row in rows_of(plan)] == [str(n) for n in range(30)]
