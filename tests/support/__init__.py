"""Small helpers of the tests."""

from __future__ import annotations

import hashlib
import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageOps

from manifests.planning.plan import Plan
from manifests.reading.read import find_files, read_parts
from manifests.runs import records
from manifests.schema import LineageRow
from stages.photo import Photo

DEMO = Path(str(resources.files("manifests"))) / "examples" / "demo"

#: The command, as installed.
PROGRAM = str(Path(sys.executable).parent / "catalog-cleanup")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def upright_rgb(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def encoded(pixels: npt.NDArray[np.generic] | Image.Image, **options: object) -> bytes:
    """A picture as a file's bytes; PNG unless told otherwise."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, **({"format": "PNG", "compress_level": 1} | options))  # type: ignore[arg-type]
    return buffer.getvalue()


def photo_of(image: bytes, mask: bytes) -> Photo:
    """A row whose files are read already; the photo itself may be its mask."""
    row = LineageRow(id="1", image_uri="photo", mask_uri="photo" if mask is image else "mask")
    row.image_sha256 = hashlib.sha256(image).hexdigest()
    return Photo(row, original=image, mask_files=[mask])


def as_sent(photo: Photo) -> Photo:
    """The photo as the next actor receives it."""
    from jobs.pipeline.prompts import SharedPrompts
    from jobs.pipeline.transport import from_table, to_table

    prompts = SharedPrompts("/nowhere")  # only a text's second photo has its prompt stored
    (arrived,) = from_table(to_table([photo], prompts), prompts)
    assert isinstance(arrived, Photo)
    return arrived


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def boxed_catalog(folder: Path, photos: int) -> str:
    """A manifest of many small photos, each with a box to clean: CPUs are no bottleneck."""
    photo = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")
    lines = ["id,image,boxes"]
    for number in range(photos):
        x, y = divmod(number * 5, 300)
        write(folder / f"{number}.png", encoded(photo[y : y + 48, x : x + 64]))
        lines.append(f'{number},{number}.png,"[16, 20, 24, 10]"')
    return write(folder / "manifest.csv", "\n".join(lines))


def last_run(output: Path | str) -> dict[str, Any]:
    """The record of an output's last run."""
    return dict(records(str(output))[-1].content)


def lineage(output: Path | str) -> pd.DataFrame:
    """The recorded rows of a local output folder, by id."""
    return pd.read_parquet(Path(output) / "lineage").set_index("id").sort_index()


def wait_until(
    condition: Callable[[], Any], timeout_s: float = 120.0, every_s: float = 0.02
) -> Any:
    """Wait until a condition holds; returns its value.

    Raises:
        AssertionError: it did not hold within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"nothing came of it in {timeout_s:g} s"
        time.sleep(every_s)
    return value


def rows_of(plan: Plan) -> list[dict[str, object]]:
    tables = [plan.shard_file(number).read_table() for number in range(plan.shards)]
    rows: list[dict[str, object]] = pa.concat_tables(tables).to_pylist()
    return rows


def tables_of(manifest: object) -> list[pa.Table]:
    """The files of a manifest, as they are read."""
    return [
        pa.concat_tables([part.table for part in read_parts(file)], promote_options="permissive")
        for file in find_files(str(manifest))
    ]


@contextmanager
def beside(deed: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread while the block runs."""
    problems: list[BaseException] = []

    def guarded() -> None:
        try:
            deed()
        except BaseException as error:
            problems.append(error)
            raise

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not problems
