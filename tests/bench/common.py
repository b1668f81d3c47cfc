"""What the benchmarks share: how figures are shown and kept, and how much memory a process held."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.storage.path import StoragePath

#: ``(h, w, 3)`` RGB, or the ``(h, w)`` levels of a mask.
Pixels = npt.NDArray[np.uint8]


def options_of(module_doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--out``, which :class:`Figures` takes."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=module_doc, formatter_class=form)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the figures there, as JSON")
    return parser


class Figures:
    """Prints each figure as it is found, and writes the file again: a machine may be gone later."""

    def __init__(self, out: Path | None, **context: object) -> None:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        self.context = {"machine": machine, "python": platform.python_version(), **context}
        self.out, self.found = out, list[dict[str, Any]]()
        self._write()

    def add(self, **figure: Any) -> None:
        self.found.append(figure)
        shown = ((k, f"{v:.4g}" if isinstance(v, float) else v) for k, v in figure.items())
        print("  ".join(f"{name}={value}" for name, value in shown), flush=True)  # noqa: T201
        self._write()

    def _write(self) -> None:
        if self.out:
            self.out.write_text(json.dumps(self.context | {"figures": self.found}, indent=2))


def lineage_of(output: Path) -> list[dict[str, Any]]:
    """All rows of a run's lineage."""
    files = (output / "lineage").rglob("*.parquet")
    return [row for file in files for row in StoragePath.of(str(file)).read_table().to_pylist()]


def peak_mib(pid: int | str = "self") -> float:
    """The most memory that a process has held; Linux only.

    ``getrusage`` would begin with what the parent held when it started this process.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    kib = status.partition("VmHWM:")[2].split(maxsplit=1)
    if not kib:
        raise ValueError(f"Process {pid} has ended.")
    return int(kib[0]) / 1024
