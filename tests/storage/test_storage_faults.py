"""A real S3 server that stalls, dies, comes back, refuses and forgets who we are.

A double would miss what counts here: connections that hang or are cut in the middle, and what
boto3 makes of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from manifests.errors import CatalogCleanupError, RowError, StorageError
from manifests.storage import traffic
from manifests.storage.path import StoragePath
from manifests.storage.row_files import fetch, read, versions, write
from manifests.storage.s3 import client, retries
from manifests.storage.s3.objects import S3Path
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, running

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running() as server:
        yield server


@pytest.fixture
def own_s3_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A real S3 server with which a test may do what it likes; boto3 finds it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    client._connect.cache_clear()
    yield server
    server.mend()


@pytest.fixture
def impatient(own_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, and a client that gives up on a stalled request soon, so that ours is retried.

    boto3 by itself tries once: what succeeds does so by our own patience.
    """
    monkeypatch.setattr(client, "_READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(retries, "_MAX_WAIT_S", 1.0)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return own_s3_server


@pytest.fixture
def at_its_end(impatient: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with no time left to try again."""
    monkeypatch.setenv("CATALOG_CLEANUP_RETRY_S", "0")
    return impatient


@contextmanager
def meanwhile(action: Callable[[], object], after_s: float) -> Iterator[None]:
    """Do something in a while, beside what is in the block."""

    def later() -> None:
        time.sleep(after_s)
        action()

    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(later)
        yield
        doing.result()


def tries() -> list[str]:
    """The requests that the client sends from now on, by method."""
    sent: list[str] = []
    client.connect().client.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append(request.method)
    )
    return sent


def test_a_stall_is_waited_out(impatient: S3Server) -> None:
    write(f"s3://{BUCKET}/a", DATA)
    sent = tries()
    impatient.pause()
    with meanwhile(impatient.resume, 2.0):
        assert read(f"s3://{BUCKET}/a", "image") == DATA
    assert len(sent) > 1, "the stall was longer than a request may take"


def test_a_crash_and_its_end_are_waited_out(impatient: S3Server) -> None:
    """Pictures and tables, read and written."""
    table = pa.table({"id": ["a", "b"]})
    write(f"s3://{BUCKET}/a", DATA)
    impatient.kill()
    with meanwhile(impatient.revive, 1.0), ThreadPoolExecutor(4) as pool:
        reading = pool.submit(read, f"s3://{BUCKET}/a", "image")
        writing = pool.submit(write, f"s3://{BUCKET}/b", DATA)
        recording = pool.submit(StoragePath.of(f"s3://{BUCKET}/t.parquet").write_table, table)
        listing = pool.submit(StoragePath.of(f"s3://{BUCKET}").files)
        assert reading.result() == DATA
        writing.result()
        recording.result()
        assert f"{BUCKET}/a" in [path.path for path in listing.result()]
    assert read(f"s3://{BUCKET}/b", "image") == DATA
    assert StoragePath.of(f"s3://{BUCKET}/t.parquet").read_table() == table


def test_throttling_is_waited_out(impatient: S3Server) -> None:
    write(f"s3://{BUCKET}/a", DATA)
    impatient.slow_down(True)
    before, sent = traffic.total()["retries"], tries()
    with meanwhile(lambda: impatient.slow_down(False), 1.0):
        assert read(f"s3://{BUCKET}/a", "image") == DATA
        write(f"s3://{BUCKET}/b", DATA)
    assert sent.count("GET") > 1
    assert traffic.total()["retries"] - before >= sent.count("GET") - 1, "they are counted"


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(CatalogCleanupError) as caught:
        action()
    return caught.value.code


def test_one_object_that_fails_is_told_from_a_storage_that_does(at_its_end: S3Server) -> None:
    uri = f"s3://{BUCKET}/a"
    write(uri, DATA)
    at_its_end.kill("volume")  # holds the data; the gateway and its names go on
    with pytest.raises(RowError) as of_row:
        fetch(uri, "mask")
    assert of_row.value.code == "mask.unreachable"
    at_its_end.revive()
    at_its_end.slow_down(True)
    assert code_of(lambda: fetch(uri, "mask")) == "storage.unreachable"
    at_its_end.slow_down(False)
    assert read(uri, "mask") == DATA
    at_its_end.kill("s3")
    for action in (
        lambda: fetch(uri, "image"),
        lambda: versions([uri]),
        lambda: write(uri, DATA),
        lambda: StoragePath.of(uri).read(),
        lambda: StoragePath.of(uri).write(DATA),
        lambda: StoragePath.of(uri).info(),
        lambda: StoragePath.of(uri).open_input(),
    ):
        assert code_of(action) == "storage.unreachable"


def test_nobody_is_told_that_a_missing_object_is_a_storage_at_fault(s3: str) -> None:
    assert versions([f"{s3}/storage/none"]) == {}
    assert code_of(lambda: fetch(f"{s3}/storage/none", "image")) == "image.not_found"


def test_credentials_that_are_taken_away_are_no_fault_of_a_row(own_s3_server: S3Server) -> None:
    uri = f"s3://{BUCKET}/a"
    write(uri, DATA)
    own_s3_server.remove_credentials(ACCESS_KEY)
    for action in (
        lambda: fetch(uri, "image"),
        lambda: S3Path.of(uri).head(),  # a HEAD, whose answer says no more than 403
        lambda: write(uri, DATA),
        lambda: StoragePath.of(uri).read(),
        lambda: StoragePath.of(f"s3://{BUCKET}").files(),
    ):
        assert code_of(action) == "storage.credentials"
    own_s3_server.add_credentials(ACCESS_KEY, SECRET_KEY)
    assert read(uri, "image") == DATA


def test_credentials_that_were_renewed_on_disk_are_taken_up(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    form = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(form.format("expired", "gone"))
    assert code_of(lambda: write(f"{s3}/storage/a", DATA)) == "storage.credentials"
    file.write_text(form.format(ACCESS_KEY, SECRET_KEY))
    write(f"{s3}/storage/a", DATA)
    file.write_text(form.format("expired", "gone"))
    assert read(f"{s3}/storage/a", "image") == DATA, "what works is not looked up again"


def test_no_credentials_are_no_fault_of_a_row(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError) as caught:
        read(f"{s3}/storage/a", "image")
    assert caught.value.code == "storage.credentials"
