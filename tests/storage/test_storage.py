"""Objects by URI, on disk and on a real S3 server: read, written, told apart, versions, secrets."""

from __future__ import annotations

import errno
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from manifests.errors import OutputError, RowError, StorageError, redact
from manifests.planning.marks import Marks
from manifests.schema import LineageRow
from manifests.storage.path import StoragePath
from manifests.storage.row_files import fetch, read, versions, write
from manifests.storage.s3 import objects
from manifests.storage.s3.objects import Head, S3Path
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import run_steps
from stages.steps.fetch import build_fetch
from tests.support.s3_server import BUCKET, SECRET_KEY, S3Server


def code_of(uri: str, role: str = "image") -> str:
    with pytest.raises((RowError, StorageError)) as caught:
        read(uri, role)
    return caught.value.code


def test_local_files_by_path_and_uri(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a b%20c.bin"
    write(str(path), b"one")
    write(str(path), b"two")
    assert read(str(path), "image") == b"two"
    assert read(f"file://{tmp_path}/deep/a%20b%2520c.bin", "image") == b"two"
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


@pytest.mark.parametrize("way", ["row's", "write", "create"])
def test_a_local_file_and_its_name_are_flushed_to_disk_before_anyone_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    flushed = []
    flush = os.fsync
    target = tmp_path / "new" / "deep" / "a.bin"

    def note(handle: int) -> None:
        flush(handle)
        flushed.append(path := Path(f"/proc/self/fd/{handle}").readlink())
        assert target.exists() == (path == target.parent)

    monkeypatch.setattr(os, "fsync", note)
    if way == "row's":
        write(str(target), b"data")
    else:
        getattr(StoragePath.of(str(target)), way)(b"data")
    names, file, folder = flushed[:-2], flushed[-2], flushed[-1]
    assert names == [tmp_path, tmp_path / "new"], "each new folder's name, in the one above it"
    assert file.parent == folder == target.parent, "the file before its name"
    assert target.read_bytes() == b"data"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_is_created_once_on_file_systems_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = StoragePath.of(f"{tmp_path}/run.json")
    assert path.create(b"ours")
    assert not path.create(b"another's")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"ours"]


def test_s3_objects_with_odd_keys(s3: str) -> None:
    uri = f"{s3}/storage/a b%20c?d#e+ü.bin"
    write(uri, b"one")
    write(uri, b"two")
    assert read(uri, "image") == b"two"


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", "mask.no_uri"),
        ("https://shop/a.png", "mask.unknown_scheme"),
        ("http://169.254.169.254/latest/meta-data", "mask.unknown_scheme"),
        ("/nowhere/a.png", "mask.not_found"),
        ("/", "mask.not_found"),
        ("file:///nowhere/a.png", "mask.not_found"),
        ("/dev/zero", "mask.unreachable"),
        ("/nul\0byte", "mask.unreachable"),
    ],
)
def test_what_cannot_be_read_has_a_code(uri: str, code: str) -> None:
    assert code_of(uri, "mask") == code


def test_hints_say_why_a_file_may_be_missing(tmp_path: Path) -> None:
    for name, role, message in (
        ("a.png,a.png", "mask", r'several masks are a list: \["a\.png", "b\.png"\]\.'),
        ("a.jpg  ", "image", r"a\.jpg  , whose name ends with a space\."),
        ("", "mask", r"The mask \S+ is a folder\."),
    ):
        with pytest.raises(RowError, match=message) as caught:
            read(str(tmp_path / name), role)
        assert caught.value.code == f"{role}.not_found"


def test_missing_objects_buckets_and_forbidden_ones_are_told_apart(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"{s3}/storage/there.jpg", b"data")
    assert code_of(f"{s3}/storage/none.jpg") == "image.not_found"
    assert code_of("s3://no-such-bucket/none.jpg") == "image.not_found"
    s3_server.add_credentials("guest", "guest's", actions=["Read:another"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "guest")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guest's")
    assert code_of(f"{s3}/storage/there.jpg") == "image.access_denied"
    assert versions([f"{s3}/storage/there.jpg"]) == {}


def test_what_cannot_be_stored_is_no_fault_of_the_row(tmp_path: Path, s3: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    for uri in (str(tmp_path / "file" / "a.jpg"), "s3://no-such-bucket/a.jpg"):
        with pytest.raises(OutputError) as caught:
            write(uri, b"data")
        assert caught.value.code == "output.not_writable"


def test_versions_change_when_an_input_does(tmp_path: Path, s3: str, s3_server: S3Server) -> None:
    for uri in (f"{tmp_path}/a.bin", f"{s3}/storage/versions.bin"):
        assert versions([uri]) == {}
        write(uri, b"one")
        first = fetch(uri, "image").version
        assert versions([uri]) == {uri: first}
        write(uri, b"other")
        assert versions([uri]) == {uri: fetch(uri, "image").version} != {uri: first}
    s3_server.client().delete_object(Bucket=BUCKET, Key="storage/versions.bin")
    gone = [f"{s3}/storage/versions.bin", "s3://no-such-bucket/a.jpg"]
    assert versions([*gone, "https://shop/a.png", f"{tmp_path}"]) == {}


@pytest.mark.parametrize("between", [0, 30])
def test_versions_of_many_are_listed_or_asked_for(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, between: int
) -> None:
    """Thirty objects that lie between two are more pages than these two are worth."""
    monkeypatch.setattr(objects, "_PAGE_OBJECTS", 10)
    client, prefix = s3_server.client(), f"many-{uuid.uuid4().hex}"
    keys = [f"{prefix}/{name}" for name in ("a 1", "a%2", "z", *(f"m{n}" for n in range(between)))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))
    asked: list[str] = []
    ask = S3Path.head

    def head(path: S3Path) -> Head:
        asked.append(path.uri)
        return ask(path)

    monkeypatch.setattr(S3Path, "head", head)
    uris = [f"{s3}/{key}" for key in keys[:3]]
    found = versions([*uris, f"{s3}/{prefix}/none"])
    assert found == {uri: fetch(uri, "image").version for uri in uris}
    assert bool(asked) == bool(between)


def test_a_version_kept_by_the_bucket_is_named(s3: str, s3_server: S3Server) -> None:
    bucket = f"versions-{uuid.uuid4().hex}"
    client = s3_server.client()
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    write(f"s3://{bucket}/a.bin", b"same")
    first = fetch(f"s3://{bucket}/a.bin", "image").version
    write(f"s3://{bucket}/a.bin", b"same")
    second = fetch(f"s3://{bucket}/a.bin", "image").version
    assert first != second
    named = client.list_object_versions(Bucket=bucket)["Versions"]
    assert {first, second} == {f"{v['ETag'][1:-1]}@{v['VersionId']}" for v in named}


def fetched(image: str, masks: tuple[str, ...], *options: str) -> LineageRow:
    mask, rest = Marks(files=list(masks)).pack()
    photo = Photo(LineageRow(id="1", image_uri=image, mask_uri=mask, marks=rest))
    run_steps([photo], [("fetch", build_fetch(Recipe.load("telea", options)))])
    return photo.lineage


def test_the_lineage_tells_which_versions_were_read(tmp_path: Path, s3: str) -> None:
    photo, mask, other = f"{s3}/storage/p.jpg", f"{s3}/storage/m.png", f"{tmp_path}/m.png"
    for uri in (photo, mask, other):
        write(uri, uri.encode())
    row = fetched(photo, (mask, other, photo))
    now = versions([photo, mask, other])
    assert row.image_version == now[photo]
    assert row.mask_version == f"{now[mask]} {now[other]} {now[photo]}"
    missing = fetched(f"{s3}/storage/none.jpg", (mask,))
    assert (missing.error_code, missing.image_version) == ("image.not_found", None)
    assert fetched(photo, ()).mask_version is None


def test_a_run_reads_only_from_where_it_is_allowed_to(tmp_path: Path, s3: str) -> None:
    disk, cloud = f"{tmp_path}/a.jpg", f"{s3}/storage/a.jpg"
    for uri in (disk, cloud):
        write(uri, b"data")
    only_s3, only_disk = ("limits.schemes=['s3']", "limits.schemes=['file']")
    assert fetched(cloud, (cloud,), only_s3).error_code is None
    assert fetched(disk, (), only_s3).error_code == "image.scheme_not_allowed"
    assert fetched(f"file://{disk}", (), only_s3).error_code == "image.scheme_not_allowed"
    assert fetched(cloud, (disk,), only_s3).error_code == "mask.scheme_not_allowed"
    assert fetched(disk, (f"file://{disk}",), only_disk).error_code is None
    assert fetched(cloud, (), only_disk).error_code == "image.scheme_not_allowed"
    assert Recipe.load("telea", [only_s3]).hash == Recipe.load("telea").hash


SECRETS = ("hunter2", "abcdef0123", "AKIAEXAMPLE", "tok3n")
LOADED = (
    "https://user:hunter2@shop.example/a.jpg"
    "?X-Amz-Credential=AKIAEXAMPLE%2Fs3&X-Amz-Signature=abcdef0123&x-amz-security-token=tok3n&w=9"
)


def test_no_secret_of_a_uri_is_told() -> None:
    told = fetched(LOADED, ()).error
    assert told is not None
    assert "shop.example/a.jpg" in told
    assert "w=9" in told, "what is no secret stays"
    assert not [secret for secret in SECRETS if secret in told]
    assert redact(told) == told, "errors travel between processes, and are made anew there"
    plain = "s3://bucket/a@b:c/d.jpg and hf://org/model@main"
    assert redact(plain) == plain


def test_an_unforeseen_error_tells_no_secret_either() -> None:
    def fail(photo: Photo) -> None:
        raise ZeroDivisionError(LOADED)

    photo = Photo(LineageRow(id="1"))
    run_steps([photo], [("fail", fail)])
    assert "ZeroDivisionError" in str(photo.lineage.error)
    assert not [secret for secret in SECRETS if secret in str(photo.lineage.error)]


def test_refused_credentials_are_not_told(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "wrong-token")
    with pytest.raises(StorageError) as caught:
        read(f"{s3}/storage/a.jpg", "image")
    assert not [s for s in (SECRET_KEY, "wrong-secret", "wrong-token") if s in str(caught.value)]


def test_of_two_runs_the_later_ones_result_stays(s3: str) -> None:
    """Whichever is stored last; and the same run may store it again."""
    uri, earlier, later = f"{s3}/{uuid.uuid4().hex}.png", "000001-aaaaaa", "000002-bbbbbb"
    write(uri, b"by no run")
    write(uri, b"by the earlier", earlier)
    write(uri, b"by the later", later)
    with pytest.raises(OutputError, match=f"is from the later run {later}") as caught:
        write(uri, b"late", earlier)
    assert caught.value.code == "output.in_use"
    assert read(uri, "image") == b"by the later"
    write(uri, b"again", later)
    assert read(uri, "image") == b"again"


def test_results_stored_at_once_leave_the_latest_runs(s3: str) -> None:
    uri = f"{s3}/{uuid.uuid4().hex}.png"

    def store(number: int) -> None:
        with suppress(OutputError):
            write(uri, str(number).encode(), f"{number:06d}-aaaaaa")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, range(1, 33)))
    assert read(uri, "image") == b"32"
