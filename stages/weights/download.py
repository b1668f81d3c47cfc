"""Downloads weights; :mod:`stages.weights.cache` verifies them."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from tenacity import (
    before_sleep_log,
    retry,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
)

from manifests.errors import WeightsError
from manifests.storage import scheme_of
from stages.method_options import FolderPart
from stages.optional_imports import load_module
from stages.weights.hashes import in_part
from stages.weights.registry import repo_and_revision

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_log = logging.getLogger(__name__)

#: Suffixes of files that can run code when loaded, such as pickles and TorchScript.
CODE_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".ckpt", ".bin", ".pkl", ".pickle", ".th"})

#: Diffusers' name of the variant of weights in 16 bits, a part of their files' names.
HALF = "fp16"

_MAX_ATTEMPTS = 3
_TIMEOUT_S = 60.0
_SIZE_MESSAGE = "%s: %d files, %.0f MB"


def version(source: str) -> str:
    """Return a text that changes when an S3 source changes; empty for other schemes.

    Raises:
        OSError: the source cannot be read.
    """
    if scheme_of(source) != "s3":
        return ""
    from manifests.storage.s3.objects import S3Path  # boto3 takes 0.2 s to load

    listing = S3Path.of(source).listing()
    return hashlib.sha256(repr(sorted(listing.items())).encode()).hexdigest()


def needed_files(names: Iterable[str], part: FolderPart) -> list[str]:
    """Select the files of a model's folder that are needed for a part.

    Pickles in a folder with safetensors are omitted. In the top folder of a diffusers pipeline or
    network, copies of the weights for other programs are omitted, and in both weights in 32 bits
    that exist in 16 bits too, since models run in 16 bits.
    """
    kept = [name for name in names if not any(p[0] == "." for p in PurePosixPath(name).parts)]
    safe = {PurePosixPath(name).parent for name in kept if name.endswith(".safetensors")}
    if "model_index.json" in kept or any(map(_is_diffusers_own, kept)):
        heavy = CODE_SUFFIXES | {".safetensors", ".gguf", ".onnx"}
        kept = [
            name
            for name in kept
            if "/" in name or _is_diffusers_own(name) or PurePosixPath(name).suffix not in heavy
        ]
        halves = {name.replace(f".{HALF}.", ".") for name in kept if f".{HALF}." in name}
        kept = [name for name in kept if name not in halves]
    return sorted(
        name
        for name in kept
        if in_part(name, part)
        and not (PurePosixPath(name).suffix in CODE_SUFFIXES and PurePosixPath(name).parent in safe)
    )


def _is_diffusers_own(name: str) -> bool:
    """Whether diffusers looks for a network's weights by this name in the top folder."""
    return name.startswith("diffusion_pytorch_model") and name.endswith(".safetensors")


def _from_web(url: str, folder: Path, part: FolderPart) -> Path:  # noqa: ARG001 - always a file
    path = folder / (unquote(urlsplit(url).path.rpartition("/")[2]).replace("/", "_") or "weights")
    _get(url, path)
    return path


def _is_transient(error: BaseException) -> bool:
    is_final = isinstance(error, HTTPError) and error.code < 500 and error.code != 429
    return isinstance(error, OSError) and not is_final


@retry(
    retry=retry_if_exception(_is_transient),
    stop=stop_after_attempt(_MAX_ATTEMPTS),
    wait=wait_exponential(),
    before_sleep=before_sleep_log(_log, logging.INFO),
    reraise=True,
)
def _get(url: str, path: Path) -> None:
    request = Request(url, headers={"User-Agent": "catalog-cleanup"})  # noqa: S310 - http or https
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as response, path.open("wb") as file:  # noqa: S310 - as above
            total = int(response.headers.get("Content-Length") or 0)
            _log.info(_SIZE_MESSAGE, url, 1, total / 1e6)
            shutil.copyfileobj(response, file)
            if total and file.tell() != total:
                raise OSError(f"the connection ended after {file.tell():,} of {total:,} bytes")
    except HTTPError as error:
        error.close()
        raise
    except HTTPException as error:
        raise OSError(f"not an answer in HTTP: {error!r}") from None


def _from_s3(uri: str, folder: Path, part: FolderPart) -> Path:
    from manifests.storage.s3.objects import S3Path

    source = S3Path.of(uri)
    listing = source.listing()
    path = folder / unquote(uri.rstrip("/").rpartition("/")[2])
    names = [""] if "" in listing else needed_files(listing, part)
    _log.info(_SIZE_MESSAGE, uri, len(names), sum(listing[name][0] for name in names) / 1e6)
    for name in names:
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (source / name if name else source).download(target)
    return path


def _from_hub(uri: str, folder: Path, part: FolderPart) -> Path:
    """Download the needed files of a repository, and check them against the Hub's hashes."""
    repo, revision = repo_and_revision(uri)
    path = folder / repo.rpartition("/")[2]
    hub: HfApi = load_module("huggingface_hub", uri).HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        info = hub.model_info(repo, revision=revision or None, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
        names = needed_files(sizes, part)
        _log.info(_SIZE_MESSAGE, uri, len(names), sum(sizes[name] for name in names) / 1e6)
        patterns = [glob.escape(name) for name in names]
        hub.snapshot_download(repo, revision=info.sha, allow_patterns=patterns, local_dir=path)
        check = hub.verify_repo_checksums(repo, revision=info.sha, local_dir=path)
    except Exception as error:  # its HTTP library, and thus the errors, depends on its version
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        status = getattr(response, "status_code", 0)
        reason = f"HTTP {status}" if status else str(error).strip().partition("\n")[0]
        if status in (401, 403):
            text = f"{uri}: {reason}. Its page is https://huggingface.co/{repo}."
            raise WeightsError("weights.gated", text) from error
        raise OSError(reason) from error
    wrong = [each["path"] for each in check.mismatches] + sorted({*names} & {*check.missing_paths})
    if wrong:
        raise OSError(f"{', '.join(wrong)}: not the content that the Hugging Face Hub lists")
    shutil.rmtree(path / ".cache", ignore_errors=True)  # huggingface_hub's metadata
    return path


#: By scheme, what downloads weights. It takes their URI (``https://…``, ``s3://…`` of an object or
#: a folder, ``hf://org/repo[@revision]``), an empty folder, and the part that is needed of a folder
#: of weights. It returns the file or folder that it made. Raises OSError, or WeightsError:
#: ``weights.gated``, ``model.not_installed`` (``huggingface_hub``).
DOWNLOADERS: dict[str, Callable[[str, Path, FolderPart], Path]] = {
    "http": _from_web,
    "https": _from_web,
    "s3": _from_s3,
    "hf": _from_hub,
}
