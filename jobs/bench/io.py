"""Reading and writing objects in S3, against boto3 alone with as many threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median

import boto3
from botocore.config import Config

from manifests.files import Place
from stages import storage


@dataclass(frozen=True, slots=True)
class IoCost:
    """Objects of one size, written or read.

    Attributes:
        what: ``PUT`` or ``GET``.
        kilobytes: of each object.
        objects: how many, each time.
        threads: at once.
        objects_a_second: of this program; a median.
        megabytes_a_second: likewise.
        boto3_objects_a_second: of boto3 alone; a median.
        ratio: of this program's rate to boto3's; the median of pairs that ran one after the other.
    """

    what: str
    kilobytes: int
    objects: int
    threads: int
    objects_a_second: float
    megabytes_a_second: float
    boto3_objects_a_second: float
    ratio: float


def measure(
    folder: str, kilobytes: Sequence[int], objects: int, threads: int, pairs: int
) -> Iterator[IoCost]:
    """Write and read objects of each size below ``folder``, an ``s3://`` URI, and delete them.

    What this program does more than boto3 alone: what it writes carries its SHA-256 and is
    verified, and what it reads is of one version.

    Raises:
        RowError: an object that was written cannot be read.
        DestinationError: ``output.not_writable``.
        StorageError: S3 cannot be used.
    """
    # As boto3's own guide has it: one client, and as many connections as threads.
    client = boto3.client("s3", config=Config(max_pool_connections=threads))

    def get(name: str) -> None:
        bucket, _, key = name.removeprefix("s3://").partition("/")
        client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def put(data: bytes, name: str) -> None:
        bucket, _, key = name.removeprefix("s3://").partition("/")
        client.put_object(Bucket=bucket, Key=key, Body=data)

    def fetch(name: str) -> None:
        storage.fetch(name, "image")

    def write(data: bytes, name: str) -> None:
        storage.write(name, data)

    names = [f"{folder}/bench-{os.getpid()}-{number:06d}.bin" for number in range(objects)]
    try:
        for size in kilobytes:
            data = os.urandom(size * 1000)
            for what, ours, theirs in (
                ("PUT", partial(write, data), partial(put, data)),
                ("GET", fetch, get),
            ):
                rates = [
                    (_rate(ours, names, threads), _rate(theirs, names, threads))
                    for _ in range(pairs)
                ]
                own, other = (median(each) for each in zip(*rates, strict=True))
                ratio = median(one / two for one, two in rates)
                megabytes = own * size / 1e3
                yield IoCost(what, size, objects, threads, own, megabytes, other, ratio)
    finally:
        with suppress(OSError):
            for name in names:
                Place.of(name).delete()


def _rate(do: Callable[[str], object], names: Sequence[str], threads: int) -> float:
    """Names that are done in a second."""
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(do, names):
            pass
    return len(names) / (time.perf_counter() - started)
