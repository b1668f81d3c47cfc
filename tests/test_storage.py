"""Objects by URI, on disk and on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.errors import DestinationError, RowError
from stages.storage import read, storage_for, write


@pytest.fixture
def fresh_clients(s3: str) -> str:
    """The server's bucket, with clients that were made in this environment."""
    storage_for.cache_clear()
    return s3


def test_local_files_by_path_and_uri(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a b%20c.bin"
    write(str(path), b"one")
    write(str(path), b"two")
    assert read(str(path), "image") == b"two"
    assert read(f"file://{tmp_path}/deep/a%20b%2520c.bin", "image") == b"two"
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_s3_objects_with_odd_keys(fresh_clients: str) -> None:
    uri = f"{fresh_clients}/storage/a b%20c?d#e+ü.bin"
    write(uri, b"one")
    write(uri, b"two")
    assert read(uri, "image") == b"two"


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", "mask.no_uri"),
        ("https://shop/a.png", "mask.unknown_scheme"),
        ("/nowhere/a.png", "mask.not_found"),
        ("/", "mask.not_found"),
        ("file:///nowhere/a.png", "mask.not_found"),
        ("/nul\0byte", "mask.unreachable"),
    ],
)
def test_what_cannot_be_read_has_a_code(uri: str, code: str) -> None:
    with pytest.raises(RowError) as caught:
        read(uri, "mask")
    assert caught.value.code == code


def test_missing_objects_buckets_and_wrong_keys_are_told_apart(
    fresh_clients: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def code(uri: str) -> str:
        with pytest.raises(RowError) as caught:
            read(uri, "image")
        return caught.value.code

    assert code(f"{fresh_clients}/storage/none.jpg") == "image.not_found"
    assert code("s3://no-such-bucket/none.jpg") == "image.not_found"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage_for.cache_clear()
    assert code(f"{fresh_clients}/storage/none.jpg") == "image.access_denied"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    storage_for.cache_clear()
    assert code(f"{fresh_clients}/storage/none.jpg") == "image.unreachable"
    storage_for.cache_clear()


def test_what_cannot_be_stored_is_no_fault_of_the_row(tmp_path: Path, fresh_clients: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    for uri in (str(tmp_path / "file" / "a.jpg"), "s3://no-such-bucket/a.jpg"):
        with pytest.raises(DestinationError) as caught:
            write(uri, b"data")
        assert caught.value.code == "output.not_writable"
