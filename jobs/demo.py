"""The demo: the bundled photos through the same DAG as every other run, and a page to look at."""

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

#: What a run leaves in its output folder: all that a repeated demo may delete.
_OURS = ("images", "lineage", "manifest", "report", "runs", "steps")


def run_demo(output: Path, recipe: Recipe, console: Console) -> tuple[Outcome, str]:
    """Clean the bundled photos into ``output``, where an earlier demo is replaced.

    Returns:
        The outcome, and the path of the page to look at.

    Raises:
        OutputError: ``output`` holds something that is not a demo's result.
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
    for name in _OURS:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
