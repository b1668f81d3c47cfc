"""Columns of any type that Parquet has: handled to the end, or refused when they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jobs.pipeline.pending import extra_schema, photos_of, read_pending
from jobs.pipeline.recorder import Recorder
from jobs.pipeline.spec import RunSpec
from jobs.results.failures import write_failures
from manifests import runs
from manifests.errors import ManifestError
from manifests.ledger import Ledger, RetryPolicy
from manifests.planning.plan import load_plan, make_plan
from manifests.reading.arrow_types import plain_column, plain_table
from manifests.schema import LineageRow
from stages.photo import Photo
from stages.pipeline import steps
from stages.recipe import Recipe
from stages.steps.base import fail
from tests.support import as_sent, rows_of
from tests.support.output_folders import write_page

TELEA = Recipe.load("telea")
UNITS = ("s", "ms", "us", "ns")
NOON = datetime(2024, 5, 1, 12)
JSON = '{"on": "2024-05-01", "b": "a"}'


LEAVES = st.sampled_from(
    [
        *(pa.null(), pa.bool_(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.string(), pa.large_string(), pa.string_view()),
        *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us")),
        *(pa.time64("ns"), pa.month_day_nano_interval()),
        *(pa.duration(unit) for unit in UNITS),
        *(
            pa.timestamp(unit, zone)
            for unit in UNITS
            for zone in (None, "UTC", "Asia/Tokyo", "X/Y")
        ),
        *(pa.decimal32(9, 2), pa.decimal64(18, 3), pa.decimal128(38, 4), pa.decimal256(70, 5)),
        *(pa.uuid(), pa.json_(), pa.bool8(), pa.opaque(pa.binary(), "point", "some")),
        pa.fixed_shape_tensor(pa.float32(), [2]),
    ]
)


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    makers: list[Callable[[pa.DataType], pa.DataType]] = [
        pa.list_,
        pa.large_list,
        pa.list_view,
        pa.large_list_view,
        lambda kind: pa.list_(kind, 2),
        lambda kind: pa.dictionary(pa.int16(), kind),
        lambda kind: pa.map_(pa.string(), kind),
        lambda kind: pa.map_(pa.int32(), kind),
        lambda kind: pa.struct([("a", kind), ("b", pa.string())]),
        lambda kind: pa.struct([("a", kind), ("a", kind)]),
        lambda _: pa.struct([]),
    ]
    return st.builds(lambda make, kind: make(kind), st.sampled_from(makers), inner)


TYPES = st.recursive(LEAVES, _nested, max_leaves=3)


def cells(kind: pa.DataType, data: st.DataObject) -> pa.Array:
    """Two cells, at random, null among them."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, cells(kind.storage_type, data))
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return nested_cells(kind, data)
    return pa.array([data.draw(one_cell(kind)), data.draw(one_cell(kind) | st.none())], kind)


def nested_cells(kind: pa.DataType, data: st.DataObject) -> pa.Array:  # noqa: PLR0911 - a return for each type
    if pa.types.is_struct(kind):
        children = [cells(field.type, data) for field in kind]
        mask = pa.array([False, data.draw(st.booleans())])
        if not children:
            return pa.array([{}, None], kind)
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
    if pa.types.is_map(kind):
        keys, items = pa.array(["1", "2"]).cast(kind.key_type), cells(kind.item_type, data)
        return pa.MapArray.from_arrays(pa.array([0, 2, 2], pa.int32()), keys, items)
    values = cells(kind.value_type, data)
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(pa.array([1, None], kind.index_type), values)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.concat_arrays([values, values]), 2)
    ends = data.draw(st.sampled_from([[0, 2, 2], [0, 1, 2]]))
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(ends, values)
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(ends, values)
    view = pa.ListViewArray if pa.types.is_list_view(kind) else pa.LargeListViewArray
    return view.from_arrays(ends[:2], [ends[1], ends[2] - ends[1]], values)


def one_cell(kind: pa.DataType) -> st.SearchStrategy[object]:  # noqa: PLR0911 - likewise
    name = str(kind)
    if "string" in name:
        return st.sampled_from(["", "plain", "\u00e9\u2028\U0001f600", '{"a": 1}', "2024-01-01"])
    if "binary" in name:
        width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else 0
        return st.binary(min_size=width, max_size=width or 4)
    if pa.types.is_decimal(kind):
        return st.decimals(-100, 100, places=2)
    if pa.types.is_floating(kind):
        return st.floats(width=16)
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        most = 2 ** (kind.bit_width - signed) - 1
        return st.sampled_from([0, 1, most, -most - 1 if signed else most])
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return st.sampled_from(
            [0, 1, 86_399, 86_400_000, 10**9, 2**62][: 3 if kind.bit_width < 64 else None]
        )
    return st.none()


@settings(suppress_health_check=list(HealthCheck))
@given(kind=TYPES, data=st.data())
def test_any_column_is_handled_to_the_end_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, kind: pa.DataType, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("types")
    try:
        theirs = cells(kind, data)
        rows = {"id": ["1", "2"], "image": ["no", "no"], "mask": ["no", "no"], "theirs": theirs}
        pq.write_table(pa.table(rows), folder / "m.parquet")
        pq.read_table(folder / "m.parquet")
    except (pa.ArrowException, OSError):  # Arrow cannot write it, or not read what it wrote
        assume(False)
    refused: ManifestError | None = None
    try:
        make_plan(str(folder / "m.parquet"), str(folder / "out"), rows_per_shard=2)
    except ManifestError as error:
        refused = error
    if refused:
        assert refused.code == "manifest.unreadable"
        assert "column theirs of type " in refused.message
        assert "\n" not in str(refused)
        assert not (folder / "out").exists()
        return
    fail_all(str(folder / "out"))
    assert write_failures(str(folder / "out"), str(folder / "again.jsonl")) == 2
    assert write_page(folder / "out").exists()
    for line in (folder / "again.jsonl").read_text().rstrip().split("\n"):
        json.loads(line, parse_constant=pytest.fail)
    again = make_plan(str(folder / "again.jsonl"), str(folder / "again"), rows_per_shard=2)
    assert [row["id"] for row in rows_of(again)] == ["1", "2"]
    assert not again.rejected
    fail_all(str(folder / "again"))


def fail_all(output: str) -> None:
    """Let each row of a plan travel as between actors, fail, and be recorded."""
    plan = load_plan(output)
    assert plan
    run = runs.claim(output, {"recipe": TELEA.model_dump(mode="json"), "recipe_hash": TELEA.hash})
    planned = plan.shard_file(0).read_table()
    job = RunSpec(plan, extra_schema(planned.schema), TELEA, RetryPolicy(run.run_id), steps)
    recorder = Recorder(job)
    extra = job.extra.names
    for photo in photos_of(job, read_pending(job, 0)):
        arrived = as_sent(photo)
        assert repr(arrived.extra) == repr(photo.extra)  # NaN is not equal to itself
        fail(arrived, "image.not_found", "It is not there.", "fetch")
        recorder.add(arrived)
    recorder.record()
    run.write(status="finished", seconds=1.0)
    runs.release(run)
    recorded = Ledger(output, TELEA.hash).latest(0, ["id", *extra]).sort_by("id")
    assert repr(recorded.to_pylist()) == repr(planned.select(["id", *extra]).to_pylist())


@pytest.mark.parametrize(
    ("cell", "kind", "plain", "read"),
    [
        ("a", pa.string_view(), pa.string(), "a"),
        (b"a", pa.binary_view(), pa.binary(), b"a"),
        (["a"], pa.list_view(pa.large_string()), pa.string(), '["a"]'),
        ([("a", 1)], pa.map_(pa.string(), pa.int8()), pa.string(), '[["a", 1]]'),
        (1.5, pa.float16(), pa.float32(), 1.5),
        (Decimal("1.50"), pa.decimal32(5, 2), pa.decimal128(5, 2), Decimal("1.50")),
        ({"a": ["x"]}, pa.struct([("a", pa.large_list(pa.string_view()))]), None, '{"a": ["x"]}'),
        ({"on": NOON, "b": b"a"}, pa.struct([("on", pa.date64()), ("b", pa.binary())]), None, JSON),
        ({}, pa.struct([]), pa.string(), "{}"),
        ([], pa.list_(pa.int8()), pa.string(), "[]"),
    ],
)
def test_types_become_plain(
    cell: object, kind: pa.DataType, plain: pa.DataType | None, read: object
) -> None:
    column = pa.chunked_array([pa.array([None, cell, None], kind).slice(1)])
    found = plain_column(column)
    assert found.to_pylist() == [read, None]
    assert plain is None or found.type == plain
    assert plain_column(found).type == found.type
    assert plain_column(pa.chunked_array([], kind)).type == found.type


def test_uuids_become_text_and_are_ids(tmp_path: Path) -> None:
    given = [UUID(int=n << 64 | 0xFEDCBA9876543210) for n in range(3)]
    ids = pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([each.bytes for each in given], pa.binary(16))
    )
    nested = pa.ListArray.from_arrays([0, 2, 3, 3], ids)
    table = pa.table({"id": ids, "image": ["a"] * 3, "mask": ["b"] * 3, "theirs": nested})
    pq.write_table(table, tmp_path / "m.parquet")
    rows = rows_of(make_plan(str(tmp_path / "m.parquet"), str(tmp_path / "out")))
    texts = [str(each) for each in given]
    assert [row["id"] for row in rows] == texts
    assert [json.loads(str(row["theirs"])) for row in rows] == [texts[:2], texts[2:], []]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pa.array([1], pa.timestamp("ns")), r"timestamp\[ns\] .*would lose data"),
        (pa.array([2**62], pa.timestamp("us", "UTC")), "out of range"),
        (pa.array([2**22], pa.date32()), "out of range"),
        (pa.array([90_000_000_000], pa.time64("us")), "times over 24 h"),
        (pa.array([[2**22]], pa.list_(pa.date32())), "date value out of range"),
        (pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), "duplicate field"),
        (pa.nulls(1, pa.month_day_nano_interval()), "no such type is supported"),
    ],
)
def test_what_no_plain_type_holds_is_refused(cells: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=f"column x of type .*{message}.*; write it as text"):
        plain_table(pa.table({"x": cells}))


def test_columns_called_like_those_of_the_way_arrive_as_they_left() -> None:
    names = ["_shard", "_original", "_patches", "_run_error", "manifest: x"]
    photo = Photo(LineageRow(id="1"), shard=7, extra={name: f"their {name}" for name in names})
    arrived = as_sent(photo)
    assert (arrived.extra, arrived.shard, arrived.original) == (photo.extra, 7, b"")
