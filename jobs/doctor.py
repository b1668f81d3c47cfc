"""Checks what a run needs on this machine or on a cluster, and suggests remedies."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from cluster.nodes import node_groups, used_cpus
from cluster.pools import PoolSize, PoolsOptions
from cluster.session import address_of
from cluster.sizing import ACCELERATOR, NodeGroup, describe_labels, has_gpus, size_pools
from jobs.driver.placement import connected
from jobs.driver.progress import format_count
from jobs.pipeline.spec import group_steps
from jobs.preflight import check_weights, to_download
from manifests.errors import CatalogCleanupError
from stages.pipeline import steps
from stages.recipe import Recipe
from stages.weights.resolve import with_absolute_paths

#: With less free space in Ray's temporary folder, runs fail half-way.
_MIN_FREE_GIB = 5

#: Those whose versions are shown.
_LIBRARIES = (
    *("ray", "pyarrow", "opencv-python-headless", "pillow", "imagecodecs", "tifffile"),
    *("pycocotools", "boto3", "pypatchmatch"),
)

#: Number of rows to size a cluster's pools for: enough for the max number of actors.
_ROWS = 1_000_000

State = Literal["ok", "note", "bad"]


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
    state: State
    result: str
    remedy: str = ""


class _Problem(Exception):  # noqa: N818 - a note is no error
    """Something is missing; its arguments are state, result and remedy."""


def examine(
    recipe: Recipe, pools: PoolsOptions, address: str | None = None, s3_uri: str | None = None
) -> Iterator[Finding]:
    """Check what a run of a recipe needs, and where its pools would be placed.

    Yields one finding after the other.

    Args:
        recipe: the recipe of the run.
        pools: the requested pools.
        address: of a cluster; None: the one of ``RAY_ADDRESS``, or a private one, and this machine
            is checked, too.
        s3_uri: ``s3://bucket/prefix`` for a test object that is written, read and deleted.
    """
    checks: dict[str, Callable[[], str]] = {} if address else _machine_checks()
    checks["Recipe"] = partial(_recipe, recipe, here=address_of(address) == "local")
    if s3_uri:
        checks[s3_uri] = partial(_s3_access, s3_uri)
    for subject, check in checks.items():
        try:
            yield Finding(subject, "ok", check())
        except _Problem as problem:
            yield Finding(subject, *problem.args)
        except CatalogCleanupError as error:
            yield Finding(subject, "bad", error.message, error.remedy)
    yield from _cluster(recipe, pools, address)


def _machine_checks() -> dict[str, Callable[[], str]]:
    return {
        "Python": lambda: f"{platform.python_version()} on {platform.platform()}",
        "Machine": _machine,
        "Disk": _disk,
        "Libraries": lambda: ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "PatchMatch": _patchmatch,
        "JPEG": _jpeg,
        "HEIC": _heic,
        "GPU": _gpus,
        "Weights": _weights,
        "S3": _s3_credentials,
    }


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = f"{os.cpu_count()} cores, {memory_gib:.0f} GiB of memory"
    if memory_gib < 4:
        raise _Problem("note", found, "Photos over 12 megapixels may not fit; add memory.")
    return found


def _disk() -> str:
    from cluster.private_ray import StartError, temp_folders

    try:
        folder, spill = temp_folders()
    except StartError as error:
        remedy = "Free disk space, or correct RAY_TMPDIR or TMPDIR."
        raise _Problem("bad", str(error), remedy) from error
    free_gib = shutil.disk_usage(spill or folder).free / 2**30
    found = f"{free_gib:.0f} GiB free in {spill or folder}"
    if free_gib < _MIN_FREE_GIB:
        raise _Problem("bad", found, "Free disk space, or set RAY_TMPDIR to another folder.")
    return found


def _patchmatch() -> str:
    from patchmatch import patch_match

    if not patch_match.patchmatch_available:
        remedy = "Use --recipe telea, or a platform that pypatchmatch has a wheel for."
        raise _Problem("bad", "its native library does not load", remedy)
    return "its native library loads"


def _jpeg() -> str:
    from stages.codecs.jpeg import libjpeg

    if libjpeg.library() is None:
        result = "imagecodecs has no libjpeg here: JPEGs are re-encoded outside the mask, too"
        raise _Problem("bad", result, "Install imagecodecs from its wheel for Linux or macOS.")
    return "blocks outside the mask are kept"


def _heic() -> str:
    if not importlib.util.find_spec("pillow_heif"):
        hint = "For HEIC photos: pip install pillow-heif (or in a clone: .ci/uv sync --extra heic)."
        raise _Problem("note", "pillow-heif is not installed", hint)
    return "pillow-heif reads and writes it"


def _gpus() -> str:
    command = shutil.which("nvidia-smi")
    if not command:
        raise _Problem("note", "none", "Only recipes with models need one.")
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise _Problem("bad", f"nvidia-smi fails: {error}", "Repair the driver.") from error
    return "; ".join(listed.stdout.split("\n")[:-1])


def _weights() -> str:
    from stages.weights.registry import (
        registered_models,  # as the other parts load only what they need
    )
    from stages.weights.resolve import cached

    models = registered_models().values()
    found = []
    for variable, file in ((each.env, os.environ.get(each.env)) for each in models):
        if file and not Path(file).is_file():
            raise _Problem("bad", f"{variable}={file} is not a file", "Correct or unset it.")
        found += [f"{variable}={file}"] if file else []
    found += [f"{each.name} in {path}" for each in models if (path := cached(each))]
    if not found:
        hint = "Recipes with models download theirs; `catalog-cleanup models list` shows sources."
        raise _Problem("note", "none", hint)
    return ", ".join(found)


def _recipe(recipe: Recipe, *, here: bool) -> str:
    """Check libraries and weights as a run does, without downloading any."""
    from rich.console import Console

    recipe = with_absolute_paths(recipe)
    _, used = check_weights(recipe, Console(quiet=True), here=here, download=False)
    weights = ", ".join(dict.fromkeys(each["name"] or each["ref"] for each in used.values()))
    found = f"{recipe.name}, {f'with {weights}' if weights else 'which needs no weights'}"
    absent = ", ".join(to_download(used, here=here))
    return f"{found}; a run downloads {absent}" if absent else found


def _s3_credentials() -> str:
    import boto3
    from botocore.exceptions import BotoCoreError

    from manifests.storage.s3.client import connect

    try:
        where = connect().client.meta.endpoint_url
        session = boto3.Session()
        found = session.get_credentials()
    except BotoCoreError as error:
        remedy = "Correct AWS_PROFILE or the AWS config file."
        raise _Problem("bad", str(error), remedy) from error
    if not found:
        hint = "For s3:// set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        raise _Problem("note", "no credentials", hint)
    return f"credentials by {found.method}, region {session.region_name}, at {where}"


def _s3_access(uri: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    from manifests.storage.s3.client import connect
    from manifests.storage.s3.objects import S3Path

    path = S3Path.of(uri) / f"doctor-{uuid.uuid4().hex}"
    bucket, key = path.bucket, path.key
    action = "writing"
    try:
        client = connect().probe
        client.put_object(Bucket=bucket, Key=key, Body=b"catalog-cleanup")
        action = "reading"
        client.get_object(Bucket=bucket, Key=key)["Body"].read()
        action = "deleting"
        client.delete_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        remedy = "Check the bucket and its policy."
        raise _Problem("bad", f"{action} fails: {error}", remedy) from error
    return "an object was written, read and deleted"


def _cluster(recipe: Recipe, pools: PoolsOptions, address: str | None) -> Iterator[Finding]:
    """Connect as a run would, since start-up problems show only then, and place the pools."""
    where = address_of(address)
    found = f"the cluster at {where}{'' if address else ' (RAY_ADDRESS)'} answers"
    try:
        with connected(where):
            is_private = where == "local"
            yield Finding(
                "Ray", "ok", "a local Ray instance starts on this machine" if is_private else found
            )
            yield from _placed(recipe, pools)
    except CatalogCleanupError as error:
        yield Finding("Ray", "bad", error.message, error.remedy)


def _placed(recipe: Recipe, pools: PoolsOptions) -> Iterator[Finding]:
    nodes = node_groups(pools.nodes)
    for node in nodes:
        yield Finding("Nodes", "ok", _of_node(node))
    all_steps = steps(recipe, "output")
    slow = [step.name for step in all_steps if step.pool != "cpu"]
    if slow and not has_gpus(nodes):
        text = f"no node has one: {', '.join(slow)} would run on CPUs, far more slowly"
        yield Finding("GPU", "note", text, "Use nodes with GPUs, or a recipe without models.")
    groups = group_steps(all_steps, has_gpus=has_gpus(nodes))
    sizing = size_pools(pools, nodes, [pool for pool, _ in groups], _ROWS, used_cpus())
    unplaced = {problem.partition(":")[0] for problem in sizing.problems}
    for pool, of_group in groups:
        state: State = "bad" if pool in unplaced else "ok"
        names = " ▸ ".join(step.name for step in of_group)
        yield Finding("Pool", state, f"{pool}: {names}: {_of_pool(sizing.sizes[pool])}")
    for note in sizing.notes:
        yield Finding("Pool", "note", note)
    for problem in sizing.problems:
        yield Finding(
            "Pool", "bad", problem, "Add the missing resources, or request less with --pools."
        )


def _of_node(node: NodeGroup) -> str:
    labels = {
        name: value
        for name, value in (node.labels or {}).items()
        if name == ACCELERATOR or not name.startswith("ray.io/")
    }
    count = f"{node.up} up" if node.max_nodes == node.up else f"{node.up} up, max {node.max_nodes}"
    resources = _resources(node.cpus, node.gpus, node.memory_gib)
    shape = f"{node.name}: {resources}" if node.name else resources
    return "; ".join(filter(None, (shape, describe_labels(labels), count)))


def _of_pool(size: PoolSize) -> str:
    count = format_count(size.max_actors, "actor")
    if size.min_actors != size.max_actors:
        count = f"{size.min_actors} to {count}"
    where = f" on {describe_labels(size.label_selector)}" if size.label_selector else ""
    return f"{count}{where}, each {_resources(size.cpus, size.gpus, size.memory_gib)}"


def _resources(cpus: float, gpus: float, memory_gib: float) -> str:
    """E.g. ``8 CPUs, 1 GPU, 20 GiB``."""
    parts = [format_count(cpus, "CPU")]
    parts += [format_count(gpus, "GPU")] if gpus else []
    parts += [f"{memory_gib:g} GiB"] if memory_gib else []
    return ", ".join(parts)
