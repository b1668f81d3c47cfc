"""Checks what a run needs on this machine, and suggests remedies."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from manifests.errors import ClusterError, StorageError, WeightsError

#: With less free space in Ray's temporary folder, runs fail half-way.
_MIN_FREE_GIB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: e.g. ``GPU``.
        state: ``ok``; ``note`` (optional part missing); ``bad`` (something will fail).
        result: what was found.
        remedy: what to do; empty if nothing is needed.
    """

    subject: str
    state: Literal["ok", "note", "bad"]
    result: str
    remedy: str = ""


def examine(s3_uri: str | None = None) -> Iterator[Finding]:
    """Check this machine; yields one finding after the other.

    Args:
        s3_uri: ``s3://bucket/prefix`` for a test object that is written, read and deleted.
    """
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield _cpus()
    yield _disk_space()
    yield from _libraries()
    yield _gpus()
    yield _weights()
    yield _ray()
    yield _s3_credentials()
    if s3_uri:
        yield _s3_access(s3_uri)


def _cpus() -> Finding:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = f"{os.cpu_count()} cores, {memory_gib:.0f} GiB of memory"
    if memory_gib < 4:
        return Finding(
            "Machine", "note", found, "Photos over 12 megapixels may not fit; add memory."
        )
    return Finding("Machine", "ok", found)


def _disk_space() -> Finding:
    from cluster.private_ray import StartError, temp_folders

    try:
        folder, spill = temp_folders()
    except StartError as error:
        return Finding(
            "Disk", "bad", str(error), "Free disk space, or correct RAY_TMPDIR or TMPDIR."
        )
    folder = spill or folder
    free_gib = shutil.disk_usage(folder).free / 2**30
    found = f"{free_gib:.0f} GiB free in {folder}"
    if free_gib < _MIN_FREE_GIB:
        return Finding(
            "Disk", "bad", found, "Free disk space, or set RAY_TMPDIR to another folder."
        )
    return Finding("Disk", "ok", found)


def _libraries() -> Iterator[Finding]:
    import cv2  # slow to load
    from patchmatch import patch_match
    from PIL import features

    from stages.codecs.jpeg import libjpeg

    names = ["ray", "pyarrow", "opencv-python-headless", "pillow", "imagecodecs", "tifffile"]
    names += ["pycocotools", "boto3", "pypatchmatch"]
    yield Finding("Libraries", "ok", ", ".join(f"{name} {version(name)}" for name in names))
    yield Finding("OpenCV", "ok", f"{cv2.getNumberOfCPUs()} CPUs, telea and navier-stokes")
    if patch_match.patchmatch_available:
        yield Finding("PatchMatch", "ok", "its native library loads")
    else:
        yield Finding(
            "PatchMatch",
            "bad",
            "its native library does not load",
            "Use --recipe telea, or a platform that pypatchmatch has a wheel for.",
        )
    if libjpeg.library() is None:
        yield Finding(
            "JPEG",
            "bad",
            "imagecodecs has no libjpeg here: JPEGs are re-encoded outside the mask, too",
            "Install imagecodecs from its wheel for Linux or macOS.",
        )
    else:
        yield Finding("JPEG", "ok", "blocks outside the mask are kept")
    if importlib.util.find_spec("pillow_heif"):
        yield Finding("HEIC", "ok", "pillow-heif reads and writes it")
    else:
        hint = "For HEIC photos: pip install pillow-heif (or in a clone: .ci/uv sync --extra heic)."
        yield Finding("HEIC", "note", "pillow-heif is not installed", hint)
    missing = [name for name in ("jpg", "zlib", "webp", "avif") if not features.check(name)]
    if missing:
        yield Finding(
            "Pillow", "bad", f"built without {', '.join(missing)}", "Install the wheel from PyPI."
        )


def _gpus() -> Finding:
    command = shutil.which("nvidia-smi")
    if not command:
        return Finding("GPU", "note", "none", "Only recipes with models need one.")
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("GPU", "bad", f"nvidia-smi fails: {error}", "Repair the driver.")
    return Finding("GPU", "ok", "; ".join(listed.stdout.split("\n")[:-1]))


def _weights() -> Finding:
    from stages.weights.catalogue import known_models  # as the other parts load only what they need
    from stages.weights.find import cached

    try:
        models = known_models().values()
    except WeightsError as error:
        return Finding("Weights", "bad", error.message, "Correct or unset it.")
    files = {each.env: os.environ[each.env] for each in models if os.environ.get(each.env)}
    found = [f"{variable}={file}" for variable, file in files.items()]
    for variable, file in files.items():
        if not Path(file).is_file():
            return Finding(
                "Weights", "bad", f"{variable}={file} is not a file", "Correct or unset it."
            )
    found += [f"{each.name} in {path}" for each in models if (path := cached(each))]
    if not found:
        return Finding(
            "Weights",
            "note",
            "none",
            "Recipes with models download theirs; `catalog-cleanup models list` shows the sources.",
        )
    return Finding("Weights", "ok", ", ".join(found))


def _ray() -> Finding:
    """Connect as a run would, since start-up problems show only when Ray starts."""
    from cluster.session import address_of
    from jobs.pipeline.placement import connected

    address = address_of(None)
    try:
        with connected(address):
            pass
    except ClusterError as error:
        return Finding("Ray", "bad", error.message, error.remedy)
    if address == "local":
        return Finding("Ray", "ok", "a private Ray starts on this machine")
    return Finding("Ray", "ok", f"the cluster at {address} (RAY_ADDRESS) answers")


def _s3_credentials() -> Finding:
    import boto3
    from botocore.exceptions import BotoCoreError

    from manifests.storage.s3.client import connect

    try:
        where = connect().client.meta.endpoint_url
        session = boto3.Session()
        found = session.get_credentials()
    except StorageError as error:
        return Finding("S3", "bad", error.message, error.remedy)
    except BotoCoreError as error:
        return Finding("S3", "bad", str(error), "Correct AWS_PROFILE or the AWS config file.")
    if not found:
        return Finding(
            "S3",
            "note",
            "no credentials",
            "For s3:// set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    return Finding(
        "S3", "ok", f"credentials by {found.method}, region {session.region_name}, at {where}"
    )


def _s3_access(uri: str) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError

    from manifests.storage.s3.client import connect
    from manifests.storage.s3.objects import S3Place

    place = S3Place.of(uri) / f"doctor-{uuid.uuid4().hex}"
    bucket, key = place.bucket, place.key
    action = "writing"
    try:
        client = connect().probe
        client.put_object(Bucket=bucket, Key=key, Body=b"catalog-cleanup")
        action = "reading"
        client.get_object(Bucket=bucket, Key=key)["Body"].read()
        action = "deleting"
        client.delete_object(Bucket=bucket, Key=key)
    except StorageError as error:
        return Finding(uri, "bad", error.message, error.remedy)
    except (BotoCoreError, ClientError) as error:
        return Finding(uri, "bad", f"{action} fails: {error}", "Check the bucket and its policy.")
    return Finding(uri, "ok", "an object was written, read and deleted")
