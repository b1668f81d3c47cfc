"""S3 as boto3's users set it up, and our own settings: what really goes out, and what is stored."""

from __future__ import annotations

import base64
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest

from manifests.errors import OutputError, StorageError
from manifests.storage.path import StoragePath
from manifests.storage.row_files import fetch, read, versions, write
from manifests.storage.s3.client import CONNECTIONS, connect
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, running

DATA = bytes(range(256)) * 1000


def sent() -> list[AWSPreparedRequest]:
    """The requests that the client sends from now on, as they go out."""
    requests: list[AWSPreparedRequest] = []
    connect().client.meta.events.register(
        "before-send.s3", lambda request, **_: requests.append(request)
    )
    return requests


def header(request: AWSPreparedRequest, name: str) -> str:
    value = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture
def profile(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile that tells all about the server, and an environment that tells nothing else."""
    for name in s3_server.environment:
        monkeypatch.delenv(name, raising=False)
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text(
        "[profile studio]\nregion = eu-central-1\n"
        f"endpoint_url = {s3_server.endpoint}\ns3 =\n  addressing_style = path\n"
    )
    credentials.write_text(
        f"[studio]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "studio")
    return config


def test_a_profile_is_enough_for_pictures_and_tables(profile: Path) -> None:
    requests = sent()
    write(f"s3://{BUCKET}/settings/a.jpg", DATA)
    assert StoragePath.of(f"s3://{BUCKET}/settings/a.jpg").read() == DATA
    with StoragePath.of(f"s3://{BUCKET}/settings/a.jpg").open_input() as stream:
        assert stream.read() == DATA
    assert len(requests) == 4
    for request in requests:
        assert "/eu-central-1/s3/aws4_request" in header(request, "Authorization")


def test_the_addressing_style_is_the_profiles(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATALOG_CLEANUP_RETRY_S", "0")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://nowhere.invalid")
    hosts = []
    for style in ("path", "virtual"):
        profile.write_text(re.sub("= (path|virtual)", f"= {style}", profile.read_text()))
        monkeypatch.setenv("CATALOG_CLEANUP_RETRY_S", "0" if style == "path" else "0.0")
        requests = sent()
        with suppress(StorageError):
            read(f"s3://{BUCKET}/a", "image")
        hosts.append(requests[0].url)
    assert hosts == [f"http://nowhere.invalid/{BUCKET}/a", f"http://{BUCKET}.nowhere.invalid/a"]


def test_a_profile_that_is_not_there_is_told(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match="nobody") as caught:
        read(f"s3://{BUCKET}/a", "image")
    assert caught.value.code == "storage.bad_setting"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_REQUEST_PAYER", "yes"),
        ("S3_SSE", "rot13"),
        ("S3_SSE_KMS_KEY_ID", "alias/mine"),
        ("RETRY_S", "soon"),
        ("RETRY_S", "-1"),
        ("RETRY_S", "inf"),
    ],
)
def test_a_setting_that_means_nothing_is_told(
    s3: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"CATALOG_CLEANUP_{name}", value)
    with pytest.raises(StorageError, match=f"{name}={value}") as caught:
        read(f"{s3}/a", "image")
    assert caught.value.code == "storage.bad_setting"


def test_connections_are_kept_for_as_many_threads_as_there_may_be(
    s3: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(f"{s3}/settings/pool.jpg", DATA)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda _: read(f"{s3}/settings/pool.jpg", "image"), range(4 * CONNECTIONS)))
    assert "pool is full" not in caplog.text


def test_whoever_asks_can_be_the_one_who_pays(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALOG_CLEANUP_S3_REQUEST_PAYER", "requester")
    requests = sent()
    write(f"{s3}/settings/a.jpg", DATA)
    fetch(f"{s3}/settings/a.jpg", "image")
    versions([f"{s3}/settings/a.jpg"])
    StoragePath.of(f"{s3}/settings").files()
    assert [request.method for request in requests] == ["PUT", "GET", "GET", "GET"]
    assert [header(r, "x-amz-request-payer") for r in requests] == ["requester"] * 4


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that is stored in several parts."""
    path = tmp_path / "large.bin"
    path.write_bytes(DATA * 40)
    return path


def test_what_is_written_is_encrypted_by_the_server(
    s3: str, s3_server: S3Server, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATALOG_CLEANUP_S3_SSE", "AES256")
    write(f"{s3}/settings/a.jpg", DATA)
    StoragePath.of(f"{s3}/settings/b.parquet").write(DATA)
    StoragePath.of(f"{s3}/settings/c.bin").upload(large)
    for name in ("a.jpg", "b.parquet", "c.bin"):
        found = s3_server.client().head_object(Bucket=BUCKET, Key=f"settings/{name}")
        assert found["ServerSideEncryption"] == "AES256"
    assert read(f"{s3}/settings/a.jpg", "image") == DATA
    assert read(f"{s3}/settings/c.bin", "image") == large.read_bytes()


def test_a_key_of_ones_own_is_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has no such key, and says so: it is what was asked for that counts."""
    monkeypatch.setenv("CATALOG_CLEANUP_RETRY_S", "0")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("CATALOG_CLEANUP_S3_SSE", "aws:kms")
    monkeypatch.setenv("CATALOG_CLEANUP_S3_SSE_KMS_KEY_ID", "alias/studio")
    requests = sent()
    with suppress(OutputError):
        write(f"{s3}/settings/kms.jpg", DATA)
    assert header(requests[0], "x-amz-server-side-encryption") == "aws:kms"
    assert header(requests[0], "x-amz-server-side-encryption-aws-kms-key-id") == "alias/studio"


def test_objects_carry_their_checksums(s3: str, s3_server: S3Server, large: Path) -> None:
    write(f"{s3}/settings/sum.jpg", DATA)
    assert StoragePath.of(f"{s3}/settings/claim.json").create(DATA)
    StoragePath.of(f"{s3}/settings/parts.bin").upload(large)
    *whole, parts = [
        s3_server.client().head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        for key in ("settings/sum.jpg", "settings/claim.json", "settings/parts.bin")
    ]
    for head in whole:
        assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(DATA).digest()
    assert any(name.startswith("Checksum") for name in parts)


def test_bytes_that_change_on_the_way_are_sent_again(s3: str, s3_server: S3Server) -> None:
    requests = sent()
    damaged: list[AWSPreparedRequest] = []

    def damage(request: AWSPreparedRequest, **_: object) -> None:
        if request.method == "PUT" and not damaged:
            damaged.append(request)
            request.body = DATA[:-1] + b"!"

    connect().client.meta.events.register("before-send.s3", damage)
    write(f"{s3}/settings/damaged.jpg", DATA)
    assert [request.method for request in requests] == ["PUT", "PUT"]
    assert read(f"{s3}/settings/damaged.jpg", "image") == DATA


def test_a_server_that_keeps_no_checksums_is_asked_for_the_size(
    s3: str, s3_server: S3Server
) -> None:
    """Its answer is made one of those; in between, another writer stores something else."""
    others = [b"less"]

    def forget(parsed: dict[str, Any], **_: object) -> None:
        parsed.pop("ChecksumSHA256", None)
        if others:
            s3_server.client().put_object(Bucket=BUCKET, Key="settings/old.jpg", Body=others.pop())

    events = connect().client.meta.events
    events.register("after-call.s3.PutObject", forget)
    requests = sent()
    try:
        write(f"{s3}/settings/old.jpg", DATA)
    finally:
        events.unregister("after-call.s3.PutObject", forget)
    assert [request.method for request in requests] == ["PUT", "HEAD", "PUT", "HEAD"]
    assert read(f"{s3}/settings/old.jpg", "image") == DATA


def test_tls_with_ones_own_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tls=True) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert server.endpoint.startswith("https://")
        write(f"s3://{BUCKET}/a.jpg", DATA)
        assert StoragePath.of(f"s3://{BUCKET}/a.jpg").read() == DATA
        monkeypatch.delenv("AWS_CA_BUNDLE")
        with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            read(f"s3://{BUCKET}/a.jpg", "image")  # at once: no patience helps
        assert caught.value.code == "storage.unreachable"
