"""Bring weights from where they are listed or named onto this machine: HTTP, S3, a model hub.

Each source is copied into an empty folder that nobody reads yet; what comes of it is for
:mod:`stages.weights.find` to check and to move to its place.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from manifests.errors import WeightsError
from manifests.storage.base import scheme_of
from stages.weights import hashes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

#: Hears what goes on, a line each.
Tell = Callable[[str], None]

#: Of files that can run code when loaded, as pickles and TorchScript do.
CODE_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".ckpt", ".bin", ".pkl", ".pickle", ".th"})

#: Where weights can be fetched from, beside local paths.
SCHEMES = ("http", "https", "s3", "hf")

_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 2**20
_SECONDS_PER_LINE = 5.0


class GatedError(OSError):
    """The owner wants something first: a licence accepted, or a login."""


def fetch(source: str, folder: Path, tell: Tell) -> Path:
    """Copy a source into a folder.

    Args:
        source: ``https://…``, ``s3://…`` (an object, or a folder), ``hf://org/repo[@revision]``.
        folder: exists, and is empty.
        tell: hears of the progress.

    Returns:
        The file or folder, somewhere in ``folder``.

    Raises:
        OSError: it cannot be had; :class:`GatedError` if its owner refuses.
        WeightsError: ``model.not_installed``, the hub's library is missing.
    """
    match scheme_of(source):
        case "http" | "https":
            return _from_web(source, folder, tell)
        case "s3":
            return _from_s3(source, folder, tell)
        case "hf":
            return _from_hub(source, folder, tell)
        case scheme:
            raise OSError(f"weights cannot be fetched by {scheme}://")


def version(source: str) -> str:
    """What changes when the source does, where that can be asked for cheaply: in S3.

    Raises:
        OSError: it cannot be had.
    """
    if scheme_of(source) != "s3":
        return ""
    from manifests.storage.s3 import objects  # noqa: PLC0415 - boto3 takes 0.2 s

    return hashlib.sha256(repr(sorted(objects.listing(source).items())).encode()).hexdigest()


def hub_page(source: str) -> str:
    """Where a hub's ``hf://`` source is described."""
    repo = source.removeprefix("hf://").partition("@")[0]
    return f"https://huggingface.co/{repo}"


def worth_fetching(names: Iterable[str]) -> list[str]:
    """Of a folder's files those that are needed.

    Pickles are left out where there is safetensors beside them. Of a diffusers pipeline, the whole
    model in one file, which lies beside the folders of its parts, is left out.
    """
    kept = [name for name in names if not any(p[0] == "." for p in PurePosixPath(name).parts)]
    safe = {PurePosixPath(name).parent for name in kept if name.endswith(".safetensors")}
    if "model_index.json" in kept:
        heavy = CODE_SUFFIXES | {".safetensors", ".gguf", ".onnx"}
        kept = [name for name in kept if "/" in name or PurePosixPath(name).suffix not in heavy]
    return sorted(
        name
        for name in kept
        if not (PurePosixPath(name).suffix in CODE_SUFFIXES and PurePosixPath(name).parent in safe)
    )


class _Progress:
    """Tells how far it is, every few seconds."""

    def __init__(self, name: str, total: int, tell: Tell) -> None:
        self._name, self._total, self._tell = name, total, tell
        self._done = 0
        self._told = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._told >= _SECONDS_PER_LINE:
            self._told = time.monotonic()
            of = f" of {self._total / 1e6:,.0f}" if self._total else ""
            self._tell(f"{self._name}: {self._done / 1e6:,.0f}{of} MB")


def _from_web(url: str, folder: Path, tell: Tell) -> Path:
    path = folder / (unquote(urlsplit(url).path.rpartition("/")[2]).replace("/", "_") or "weights")
    for attempt in range(_ATTEMPTS):
        try:
            _get(url, path, tell)
        except HTTPError as error:
            error.close()
            problem = OSError(f"HTTP {error.code} {error.reason}")
            if error.code < 500 and error.code != 429:
                raise problem from None
        except (OSError, http.client.HTTPException) as error:
            problem = OSError(str(getattr(error, "reason", error)))
        else:
            return path
        if attempt + 1 < _ATTEMPTS:
            tell(f"{path.name}: {problem}; once more ...")
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    raise problem


def _get(url: str, path: Path, tell: Tell) -> None:
    request = Request(url, headers={"User-Agent": "catalog-cleanup"})  # noqa: S310 - http or https
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as file:  # noqa: S310 - as above
        total = int(answer.headers.get("Content-Length") or 0)
        progress = _Progress(path.name, total, tell)
        while chunk := answer.read(_CHUNK_BYTES):
            file.write(chunk)
            progress.add(len(chunk))
        if total and file.tell() != total:
            raise OSError(f"the connection ended after {file.tell():,} of {total:,} bytes")


def _from_s3(uri: str, folder: Path, tell: Tell) -> Path:
    from manifests.storage.s3 import objects  # noqa: PLC0415 - as above

    listing = objects.listing(uri)
    name = unquote(uri.rstrip("/").rpartition("/")[2])
    names = [""] if "" in listing else worth_fetching(listing)
    progress = _Progress(name, sum(listing[each][0] for each in names), tell)
    for each in names:
        path = folder / name / each if each else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        objects.download(f"{uri.rstrip('/')}/{each}" if each else uri, path, progress.add)
    return folder / name


def _from_hub(uri: str, folder: Path, tell: Tell) -> Path:
    try:
        from huggingface_hub import HfApi  # noqa: PLC0415 - of the extra
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - as above
    except ImportError:
        raise WeightsError("model.not_installed", f"{uri} takes huggingface-hub.") from None
    disable_progress_bars()
    repo, _, revision = uri.removeprefix("hf://").partition("@")
    path = folder / repo.rpartition("/")[2]
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with _hub_errors():
        info = hub.model_info(repo, revision=revision or None, files_metadata=True)
        files = {each.rfilename: each for each in info.siblings or []}
        names = worth_fetching(files)
        total = sum(files[name].size or 0 for name in names)
        done = 0
        for number, name in enumerate(names):
            tell(
                f"{repo}: {number} of {len(names)} files, {done / 1e9:.1f} of {total / 1e9:.1f} GB"
            )
            got = hub.hf_hub_download(repo, name, revision=info.sha, local_dir=path)
            _check_hub_file(Path(got), files[name])
            done += files[name].size or 0
    shutil.rmtree(path / ".cache", ignore_errors=True)  # the hub library's notes
    return path


def _check_hub_file(path: Path, file: RepoSibling) -> None:
    """Hold a large file against the hash that the hub's commit names, a small one against its size.

    Raises:
        OSError: it is another.
    """
    if file.lfs and hashes.read(path) != file.lfs.sha256:
        raise OSError(f"{file.rfilename} has another sha256 than the hub names")
    if file.size is not None and path.stat().st_size != file.size:
        raise OSError(f"{file.rfilename} has {path.stat().st_size:,} of {file.size:,} bytes")


@contextmanager
def _hub_errors() -> Iterator[None]:
    """Turn what the hub's library and its HTTP library raise into OSErrors."""
    try:
        yield
    except Exception as error:  # its HTTP library changes with its versions, and so do the errors
        answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        status = getattr(answer, "status_code", 0)
        reason = f"HTTP {status}" if status else str(error).strip().partition("\n")[0]
        if status in (401, 403):
            raise GatedError(reason) from error
        raise OSError(reason) from error
