"""The demo: cleans the bundled photos with the same DAG as every run, and writes a review page."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from rich.console import Console

from jobs.report.write import write_report
from jobs.run import Outcome, run
from manifests.errors import OutputError
from manifests.planning.plan import load_plan
from stages.recipe import Recipe

MANIFEST = Path(str(resources.files("manifests") / "examples" / "demo" / "manifest.csv"))

#: The contents of a run's output folder: all that a repeated demo may delete.
_RUN_FILES = ("images", "lineage", "manifest", "report", "runs", "steps")


def run_demo(output: Path, recipe: Recipe, console: Console) -> tuple[Outcome, str]:
    """Clean the bundled photos into ``output``, and replace an earlier demo there.

    Returns:
        The outcome, and the path of the review page.

    Raises:
        OutputError: ``output`` has other content than a demo's results.
    """
    _clear_earlier_demo(output)
    outcome = run(str(MANIFEST), str(output), recipe, console)
    return outcome, write_report(str(output), console)


def _clear_earlier_demo(output: Path) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        plan = load_plan(str(output))
    except OutputError:
        plan = None
    if plan is None or plan.manifest != str(MANIFEST):
        raise OutputError("output.other_run", f"{output} is not empty and does not hold a demo.")
    for name in _RUN_FILES:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
