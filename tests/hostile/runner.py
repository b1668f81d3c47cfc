"""Take hostile files through the steps of a run, in processes that may die of it.

A child process has a limit on its memory, and works through a list of files; its parent notes on
which of them it died or hung, and starts another one for the rest.
"""

from __future__ import annotations

import json
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from manifests.planning.marks import Marks
from manifests.schema import LineageRow
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from stages.verify import Expected, UncheckableError, compare
from tests.hostile.corpus import Case, all_cases

#: What a row may take beside what the libraries hold: some copies of the largest picture that the
#: corpus may decode.
MEMORY_MIB = 1536

#: A file that takes more of a processor, or this long without one, hangs its worker.
CPU_SECONDS, WALL_SECONDS = 20, 200.0

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ending:
    """How a file ended.

    Attributes:
        name: of its case.
        code: ``ok``, the row's code, ``hang``, or ``signal N`` for its process.
        told: the row's error; of what is ok, how it is not what it must be.
        seconds: all steps together.
        peak_mib: of resident memory.
    """

    name: str
    code: str
    told: str = ""
    seconds: float = 0.0
    peak_mib: int = 0


def end_each(
    cases: Sequence[Case], folder: Path, memory_mib: int = MEMORY_MIB
) -> Iterator[tuple[Case, Ending]]:
    """Take all cases through a run's steps, two at a time; yields them as they end."""
    _store(cases, folder)
    by_name = {case.name: case for case in cases}
    assert len(by_name) == len(cases)
    streams = [_end_some(list(by_name)[part::2], folder, memory_mib) for part in range(2)]
    while streams:
        for stream in list(streams):
            ending = next(stream, None)
            if ending is None:
                streams.remove(stream)
            else:
                yield by_name[ending.name], ending


def _store(cases: Sequence[Case], folder: Path) -> None:
    rows = []
    for number, case in enumerate(cases):
        image, mask = folder / f"{number}.image", folder / f"{number}.mask"
        image.write_bytes(case.image)
        if case.mask is not None:
            mask.write_bytes(case.mask)
        files = [] if case.mask is None else [str(mask)]
        rows.append([case.name, str(image), files, case.cells, case.options])
    (folder / "cases.json").write_text(json.dumps(rows))


def _end_some(names: list[str], folder: Path, memory_mib: int) -> Iterator[Ending]:
    """Yield how each ends, with a new process whenever one is lost."""
    left = list(names)
    while left:
        command = [sys.executable, "-m", "tests.hostile.runner", str(folder), str(memory_mib)]
        pipe, log = subprocess.PIPE, (folder / "told.log").open("ab")
        # Unbuffered: select does not see what is read already.
        with (
            log,
            subprocess.Popen(command, 0, stdin=pipe, stdout=pipe, stderr=log, cwd=_ROOT) as child,
        ):
            assert child.stdin
            assert child.stdout
            child.stdin.write(json.dumps(left).encode())
            child.stdin.close()
            while left:
                ready, _, _ = select.select([child.stdout], [], [], WALL_SECONDS)
                line = child.stdout.readline() if ready else b""
                if line:
                    left.pop(0)
                    yield Ending(**json.loads(line))
                    continue
                if not ready:
                    child.kill()
                lost = -child.wait()
                is_hang = lost == signal.SIGXCPU or not ready
                yield Ending(left.pop(0), "hang" if is_hang else f"signal {lost}")
                break


def _work(folder: Path, memory_mib: int) -> None:
    """In the child: all cases named on stdin, one line of JSON each."""
    names = json.load(sys.stdin)
    rows = {name: rest for name, *rest in json.loads((folder / "cases.json").read_text())}
    _pipeline("", ()).load()  # loads what is large before the limit counts
    most = _mib("VmData") + memory_mib << 20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    for name in names:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts anew
        started = time.process_time()
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(started) + CPU_SECONDS, resource.RLIM_INFINITY)
        )
        code, told = _end(str(folder), name, *rows[name])
        ending = Ending(name, code, told, time.process_time() - started, _mib("VmHWM"))
        sys.stdout.write(json.dumps(asdict(ending)) + "\n")
        sys.stdout.flush()


@cache
def _pipeline(output: str, options: tuple[str, ...]) -> Pipeline:
    return Pipeline.of(Recipe.load("telea", options), output)


def _end(
    folder: str, name: str, image: str, masks: list[str], cells: dict[str, str], options: list[str]
) -> tuple[str, str]:
    shapes = {column: json.loads(cell) for column, cell in cells.items()}
    mask_uri, marks = Marks(masks, shapes).pack()
    row = LineageRow(id=Path(image).stem, image_uri=image, mask_uri=mask_uri, marks=marks)
    photo = Photo(row)
    _pipeline(folder, tuple(options)).run(photo)
    if not photo.ok:
        return row.error_code or "", row.error or ""
    try:
        return "ok", _fault(photo)
    except Exception:
        return "ok", f"cannot be compared: {traceback.format_exc(limit=-3)}"


def _fault(photo: Photo) -> str:
    """What is wrong with a result; empty: nothing."""
    if photo.changed is None or photo.result == photo.original:
        return "" if photo.result == photo.original else "nothing was marked, yet it changed"
    row = photo.lineage
    note = "; ".join(filter(None, (row.metadata_note, row.fidelity_note)))
    promise = Expected(row.fidelity or "", photo.changed, note, labels_edit=True)
    try:
        problems = compare(photo.original, photo.result, promise).problems
        # Of damaged metadata, readers make what they like.
        return ", ".join(each for each in problems if not each.startswith("metadata"))
    except UncheckableError as error:
        return "" if "CMYK" in str(error) else str(error)


def _mib(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) // 1024


def main(folder: Path, words: list[str]) -> None:
    """Print how all cases end, or those whose name holds one of the words."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = [c for c in all_cases() if not words or any(word in c.name for word in words)]
    families: dict[str, Counter[str]] = defaultdict(Counter)
    for number, (case, ending) in enumerate(end_each(cases, folder)):
        families[case.family][ending.code] += 1
        odd = ending.code not in case.codes or (ending.code == "ok" and ending.told)
        if odd or ending.seconds > 2 or ending.peak_mib > 900 or words:
            sys.stdout.write(
                f"{'BAD ' if odd else ''}{number} {case.name}: {ending.code}"
                f" {ending.seconds:.1f} s {ending.peak_mib} MiB {ending.told}\n"
            )
            sys.stdout.flush()
    for family, codes in families.items():
        told = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        sys.stdout.write(f"{family} | {sum(codes.values())} | {told}\n")
    sys.stdout.write(f"{len(cases)} files\n")


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]))
