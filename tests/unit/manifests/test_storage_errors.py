"""What S3 answers for one object, or for one account: whose fault it is, and what is to be done.

A server that answers as the S3 API reference documents each error (code, status and XML). It misses
signatures, and what else AWS may send along; no S3 server that can be installed archives objects or
has KMS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from manifests.errors import CatalogCleanupError, OutputError, RowError, StorageError
from manifests.storage.row_files import fetch, is_same, write
from manifests.storage.s3 import retries
from manifests.storage.s3.objects import S3Path
from tests.support.s3_server import BUCKET

ARCHIVED = "The operation is not valid for the object's storage class"

URI = f"s3://{BUCKET}/photo.jpg"


class Refusing:
    """Answers each request with the error set; after ``times`` of them with ``photo``."""

    def __init__(self) -> None:
        self.status, self.code, self.message, self.times = 403, "AccessDenied", "", -1
        self.asked: list[str] = []

    def set(self, status: int, code: str, message: str = "", times: int = -1) -> None:
        self.status, self.code, self.message, self.times = status, code, message, times


@contextmanager
def _serving() -> Iterator[tuple[Refusing, int]]:
    refusing = Refusing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            refusing.asked.append(self.command)
            refused, refusing.times = refusing.times != 0, refusing.times - 1
            body = f"<Error><Code>{refusing.code}</Code><Message>{refusing.message}</Message>"
            data = f"{body}</Error>".encode() if refused else b"photo"
            self.send_response(refusing.status if refused else 200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Thu, 26 Nov 2026 12:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield refusing, server.server_port
        server.shutdown()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    monkeypatch.setattr(retries, "_MAX_WAIT_S", 0.01)
    with _serving() as (server, port):
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "CATALOG_CLEANUP_RETRY_S": "0",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize(
    ("status", "code", "ends", "says"),
    [
        (403, "InvalidObjectState", "archived", "InvalidObjectState"),
        (403, "ObjectNotInActiveTierError", "archived", "ObjectNotInActiveTierError"),
        (403, "AccessDenied", "access_denied", "AccessDenied"),
        (400, "KMS.DisabledException", "access_denied", "KMS.DisabledException"),
        (400, "KMS.NotFoundException", "access_denied", "KMS.NotFoundException"),
        (400, "KMS.KMSInvalidStateException", "access_denied", "KMSInvalidState"),
        (404, "NoSuchKey", "not_found", ""),
        (404, "NoSuchVersion", "not_found", ""),
        (412, "PreconditionFailed", "unreachable", "it changed while it was being read"),
        (405, "MethodNotAllowed", "unreachable", "MethodNotAllowed"),
        (400, "InvalidRequest", "unreachable", "InvalidRequest"),
    ],
)
def test_what_is_wrong_with_one_object_is_told_of_its_row(
    refusing: Refusing, status: int, code: str, ends: str, says: str
) -> None:
    refusing.set(status, code, ARCHIVED if ends == "archived" else "")
    for role in ("image", "mask"):
        with pytest.raises(RowError) as caught:
            fetch(URI, role)
        assert caught.value.code == f"{role}.{ends}"
        assert says in caught.value.message
    if ends == "archived":
        assert "Restore it" in caught.value.remedy
        assert "redentials" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (403, "InvalidAccessKeyId"),
        (403, "RequestTimeTooSkewed"),
        (403, "AccountProblem"),
        (403, "NotSignedUp"),
        (403, "InvalidSecurity"),
    ],
)
def test_what_is_wrong_with_the_account_is_no_fault_of_a_row(
    refusing: Refusing, status: int, code: str
) -> None:
    refusing.set(status, code)
    with pytest.raises(StorageError) as caught:
        fetch(URI, "image")
    assert caught.value.code == "storage.credentials"
    assert code in caught.value.message


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "SlowDown"), (400, "KMS.ThrottlingException"), (400, "ThrottlingException")],
)
def test_throttling_of_whatever_kind_is_waited_out(
    refusing: Refusing, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATALOG_CLEANUP_RETRY_S", "60")
    refusing.set(status, code, times=3)
    assert fetch(URI, "image").data == b"photo"
    assert refusing.asked == ["GET"] * 4


def test_an_output_that_kms_does_not_let_us_write_stops_the_run(refusing: Refusing) -> None:
    refusing.set(400, "KMS.DisabledException", "arn:aws:kms:key is disabled")
    with pytest.raises(OutputError, match="KMS") as caught:
        write(URI, b"photo")
    assert caught.value.code == "output.not_writable"


def test_a_head_that_says_403_finds_out_why(refusing: Refusing) -> None:
    refusing.set(403, "InvalidObjectState", ARCHIVED)
    with pytest.raises(OSError, match="storage class") as caught:
        S3Path.of(URI).head()
    assert not isinstance(caught.value, (PermissionError, CatalogCleanupError))


def test_a_file_is_the_same_by_its_path_its_uri_and_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "a b.png", tmp_path / "link.png"
    path.touch()
    link.symlink_to(path)
    assert is_same(str(path), f"file://{tmp_path}/a%20b.png")
    assert is_same(str(path), str(link))
    assert is_same("s3://x/a.png", "s3://x/a.png")
    assert not is_same(str(path), "other.png")
    assert not is_same(str(path), "s3://x/a.png")
