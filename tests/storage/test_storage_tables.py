"""Places in S3: tables, listings, and files of any size as streams, through our own client."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ConnectionClosedError
from pyarrow import fs

from jobs.pipeline.recorder import ROWS_PER_RECORD
from manifests.errors import OutputError
from manifests.ledger import Ledger
from manifests.schema import LineageRow, lineage_dict, lineage_schema
from manifests.storage.path import StoragePath
from manifests.storage.s3 import objects
from manifests.storage.s3.client import connect
from manifests.storage.s3.objects import S3Path
from tests.support.s3_server import BUCKET

TABLE = pa.table({"id": [f"{number:06d}" for number in range(50_000)], "n": range(50_000)})


@pytest.fixture
def folder(s3: str, request: pytest.FixtureRequest) -> StoragePath:
    """A prefix for each test."""
    return StoragePath.of(f"{s3}/tables/{request.node.name}/")


def test_tables_come_back(folder: StoragePath) -> None:
    (folder / "a.parquet").write_table(TABLE)
    assert (folder / "a.parquet").read_table() == TABLE
    assert (folder / "a.parquet").read_table(["n"]) == TABLE.select(["n"])


def test_kinds_and_names(folder: StoragePath, s3: str) -> None:
    odd = folder / "a b%20c?d#e+ü.csv"
    for path in (odd, folder / "b.csv", folder / "deep" / "c.csv", folder / ".hidden"):
        path.write(b"data")
    assert odd.info().type == fs.FileType.File
    assert folder.info().type == fs.FileType.Directory
    assert (folder / "deep").info().type == fs.FileType.Directory
    assert (folder / "dee").info().type == fs.FileType.NotFound
    assert StoragePath.of(s3).info().type == fs.FileType.Directory
    assert StoragePath.of("s3://no-such-bucket").info().type == fs.FileType.NotFound
    assert folder.files() == [odd, folder / "b.csv"]
    assert (folder / "none").files() == []
    assert odd.uri == f"s3://{odd.path}"
    odd.delete()
    assert folder.files() == [folder / "b.csv"]
    with pytest.raises(FileNotFoundError):
        odd.read()
    with pytest.raises(FileNotFoundError):
        odd.open_input()
    assert (folder / "b.csv").info().size == 4
    listed = S3Path.of(folder.uri).listing()
    assert {name: size for name, (size, _) in listed.items()} == {"b.csv": 4, "deep/c.csv": 4}


def test_a_folder_of_many_objects_is_listed_whole(
    folder: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PAGE_OBJECTS", 3)
    for number in range(7):
        (folder / f"{number}.csv").write(b"")
    assert [each.name for each in folder.files()] == [f"{number}.csv" for number in range(7)]


def test_large_files_are_read_in_parts(
    folder: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PART_BYTES", 100_000)
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(TABLE, sink)
    text = sink.getvalue().to_pybytes()
    (folder / "a.csv").write(text)
    (folder / "a.parquet").write_table(TABLE)
    path, parquet = folder / "a.csv", folder / "a.parquet"
    ranges: list[bytes] = []
    events = connect().client.meta.events
    events.register(
        "before-send.s3", lambda request, **_: ranges.append(request.headers.get("Range", b""))
    )
    with path.open_input() as stream:
        assert stream.read(10) == text[:10]
        assert ranges[1:] == [b"bytes=0-99999"], "no more than a part is asked for"
        assert stream.read() == text[10:]
    with path.open_input() as stream:
        reader = pa_csv.open_csv(
            stream,
            convert_options=pa_csv.ConvertOptions(column_types={"id": pa.string()}),
        )
        assert pa.Table.from_batches(reader) == TABLE
    with parquet.open_input() as file:
        assert file.size() == parquet.info().size
        assert pq.ParquetFile(file).read(["n"]) == TABLE.select(["n"])
    with parquet.open_input() as file:
        batches = list(pq.ParquetFile(file).iter_batches(10_000))
        assert pa.Table.from_batches(batches) == TABLE


def test_a_file_that_changes_while_it_is_read_is_refused(
    folder: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PART_BYTES", 1000)
    path = folder / "a.csv"
    path.write(b"a" * 5000)
    with path.open_input() as stream:
        assert stream.read(10) == b"a" * 10
        path.write(b"b" * 5000)
        with pytest.raises(OSError, match="PreconditionFailed"):
            stream.read()


def test_places_travel_between_processes_and_are_compared(folder: StoragePath) -> None:
    copy = pickle.loads(pickle.dumps(folder))  # noqa: S301 - our own
    assert copy == folder == StoragePath.of(folder.uri)
    assert copy != folder / "a"
    assert copy.info().type == fs.FileType.NotFound
    assert copy != StoragePath.of(f"/{BUCKET}")


def test_of_several_that_create_a_file_one_does(folder: StoragePath, tmp_path: Path) -> None:
    for path in (folder / "run.json", StoragePath.of(f"{tmp_path}/runs/1/run.json")):
        texts = [f"run {number}".encode() for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(path.create, texts))
        assert made.count(True) == 1
        assert path.read() == texts[made.index(True)]


def test_a_creation_whose_answer_was_lost_is_still_ours(folder: StoragePath) -> None:
    lost: list[object] = []

    def lose(parsed: dict[str, Any], **_: object) -> None:
        if not lost:
            lost.append(parsed)
            raise ConnectionClosedError(endpoint_url="the server")

    events = connect().client.meta.events
    events.register("after-call.s3.PutObject", lose)
    try:
        assert (folder / "run.json").create(b"ours")
        assert not (folder / "run.json").create(b"another's")
    finally:
        events.unregister("after-call.s3.PutObject", lose)
    assert lost


def test_files_are_uploaded_and_renamed(folder: StoragePath, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"one,two")
    for path in (folder / "a b.csv", StoragePath.of(f"{tmp_path}/out/a b.csv")):
        path.upload(tmp_path / "source")
        path.rename("c d.csv")
        assert [each.name for each in path.parent.files()] == ["c d.csv"]
        assert (path.parent / "c d.csv").read() == b"one,two"
        with pytest.raises(OutputError):
            path.upload(tmp_path / "none")
        assert path.info().type == fs.FileType.NotFound
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["c d.csv"]


def test_a_thousand_rows_are_recorded_and_merged_in_fifty_requests(folder: StoragePath) -> None:
    """This server does not return checksums: it is asked for sizes, too, which S3 is not."""
    ledger, rows = Ledger(folder.uri, "0123456789abcdef"), 1000
    sent: list[str] = []
    events = connect().client.meta.events
    events.register("before-send.s3", note := lambda request, **_: sent.append(request.method))
    try:
        for start in range(0, rows, ROWS_PER_RECORD):
            ids = map(str, range(start, min(start + ROWS_PER_RECORD, rows)))
            recorded = [lineage_dict(LineageRow(id=each, run_id="000001-aaaaaa")) for each in ids]
            ledger.add(0, recorded, lineage_schema())
        ledger.compact(0)
    finally:
        events.unregister("before-send.s3", note)
    assert len(ledger.latest(0)) == rows
    assert len([method for method in sent if method != "HEAD"]) <= 50
