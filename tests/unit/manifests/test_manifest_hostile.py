"""Manifests that are damaged or made to do harm: told as what they are, in bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import write

#: Plans in a process of its own, which may die, and tells how it went and what it took.
_PLAN = """
import re, sys
from pathlib import Path
from manifests.errors import ManifestError
from manifests.planning.plan import make_plan
try:
    print("planned", make_plan(*sys.argv[1:]).rows)
except ManifestError as error:
    print(error.code, error)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""

_HEAD = b"id,image,mask\n"
_MIB = 1 << 20


def _bomb(content: bytes, mebibytes: int) -> bytes:
    """A small gzip file of much content: as many members as it takes."""
    member = gzip.compress(content * (16 * _MIB // len(content)))
    return gzip.compress(_HEAD) + member * (mebibytes // 16)


def _long(path: Path, start: bytes) -> None:
    """A file of 2 GB, of which nobody should read more than the first few."""
    with path.open("wb") as file:
        file.write(start + b"a" * (80 * _MIB))
        file.truncate(2 << 30)


def _sparse_names(path: Path) -> None:
    row = '{{"id": "{0}", "image": "a", "mask": "b", "only_{0}": 1}}\n'
    write(path, "".join(row.format(number) for number in range(50_000)))


def _wide_parquet(path: Path) -> None:
    names = ["id", "image", "mask", *(f"c{n}" for n in range(5000))]
    pq.write_table(pa.table([pa.array(["1"])] * len(names), names=names), path)


def _broken_page(path: Path) -> None:
    ids = [str(n) for n in range(20_000)]
    pq.write_table(pa.table({"id": ids, "image": ids, "mask": ids}), path, compression="snappy")
    data = bytearray(path.read_bytes())
    data[5000:9000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(data)


def _no_text(path: Path) -> None:
    names = ["id", "image", "mask"]
    cells = pa.array([b"\xff" * 3]).view(pa.string())
    pq.write_table(pa.table([cells] * 3, names=names), path)


CASES: dict[str, tuple[str, Callable[[Path], object] | bytes, str, str]] = {
    "a cell of 2 GB": ("csv", lambda p: _long(p, _HEAD + b'1,"'), "unreadable", "line 2 is longer"),
    "a line without end": ("jsonl", lambda p: _long(p, b'{"id": "'), "unreadable", "line 1 is lon"),
    "no line end at all": ("csv", lambda p: _long(p, b"id"), "unreadable", "line 1 is longer than"),
    "a gzip bomb in a cell": (
        "csv.gz",
        _bomb(b"a", 2048),
        "unreadable",
        "line 2 is longer than 32",
    ),
    "a gzip bomb of lines": ("csv.gz", _bomb(b"\n", 16), "empty", "has no rows"),
    "half a gzip": ("csv.gz", gzip.compress(_HEAD + b"1,a,b\n")[:-9], "unreadable", "m.csv.gz: "),
    "a million columns": (
        "csv",
        b"id,image,mask," + b",".join(b"c%d" % n for n in range(1_000_000)) + b"\n",
        "unreadable",
        "it has 1000003 columns, at most 1000 are read",
    ),
    "a million names": (
        "jsonl",
        json.dumps({str(n): 1 for n in range(1_000_000)}).encode() + b"\n",
        "unreadable",
        "there are more than 1000 names of columns and fields",
    ),
    "a name for each row": ("jsonl", _sparse_names, "unreadable", "there are more than 1000 names"),
    "wide Parquet": ("parquet", _wide_parquet, "unreadable", "it has 5003 columns, at most 1000"),
    "a damaged page": ("parquet", _broken_page, "unreadable", "m.parquet: "),
    "texts that are none": ("parquet", _no_text, "unreadable", "UTF8"),
    "NUL": ("csv", _HEAD + b"1,a,b\n2,a\0,b\n", "unreadable", "line 3 contains a NUL byte"),
    "NUL in JSON": ("jsonl", b'{"id":\n\0\n', "unreadable", "line 2 contains a NUL byte"),
    "UTF-16": ("csv", "id,image,mask\n1,a,b\n".encode("utf-16-le"), "unreadable", "a NUL byte"),
    "lists without end": (
        "jsonl",
        b'{"id": "1", "image": "a", "mask": "b", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
        "unreadable",
        "line 1: maximum recursion depth",
    ),
    "a quotation of lines without end": (
        "csv.gz",
        gzip.compress(_HEAD + b'1,"') + gzip.compress(b'a\n","' * (8 * _MIB)),
        "unreadable",
        "the row in line 2 is longer than 32 MiB; perhaps a quotation mark was left open",
    ),
    "bytes that are no text": (
        "csv",
        _HEAD + b"1,a,b\n2,\xff,b\n",
        "unreadable",
        "line 3 is not U",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hostile_manifests_are_told_in_bounded_memory(tmp_path: Path, case: str) -> None:
    suffix, make, code, message = CASES[case]
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(make) if isinstance(make, bytes) else make(path)
    done = subprocess.run(
        [sys.executable, "-c", _PLAN, str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told, peak_kib = done.stdout.rstrip().rsplit("\n", 1)
    assert told.startswith(f"manifest.{code} ")
    assert message in told
    assert len(told) < 2000
    assert int(peak_kib) < 700 << 10
    assert not (tmp_path / "out" / "manifest" / "plan.json").exists()
