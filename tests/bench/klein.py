"""Four settings that people use for removal with FLUX.2-klein, compared on photos with references.

They are variants of the recipe `clean-apache`, in its 4 steps and without its judge, which
`catalog-cleanup evaluate` runs; `--html`, `--set` and the rest are its options. The column
`reference` of the manifest names each photo without its object: see jobs/README.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.recipe import Recipe

#: Prompts: an instruction for a model that sees the object; what to paint for one that does not.
_REMOVE = "Remove the object with its shadow and its reflection. Keep everything else as it is."
_BACKGROUND = "The empty background: its surface, texture and light continue evenly"

#: Name -> options of ``[refine]`` and whether LaMa fills first.
SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    # This project's: repair LaMa's fill, which is the reference, too.
    "fill": ({}, True),
    # The guide of VincentGourbin/flux-2-swift-mlx (docs/INPAINTING_GUIDE.md): no reference, from
    # noise, and a prompt that describes the background without naming the object; of each photo,
    # there, but one for all here.
    "no-reference": ({"reference": "none", "denoise": 1.0, "prompt": _BACKGROUND}, False),
    # Acly/krita-ai-diffusion: the untouched photo as reference, and an instruction.
    "instruction": ({"reference": "photo", "denoise": 1.0, "prompt": _REMOVE}, False),
    # PredErase (arXiv 2609.00956) without its guidance: from the untouched photo, naming shadows;
    # its level of noise is not known here.
    "source": ({"reference": "photo", "denoise": 0.8, "prompt": _REMOVE}, False),
}


def write_recipes(folder: Path) -> list[Path]:
    """Write the settings as variants of the recipe ``clean-apache``."""
    base = Recipe.load("clean-apache").model_dump(mode="json", exclude={"judge", "description"})
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (options, has_removal) in SETTINGS.items():
        table = base | {"name": name, "refine": base["refine"] | options}
        if not has_removal:
            table["remove"] = None
        paths.append(folder / f"{name}.toml")
        paths[-1].write_text(Recipe.from_table(table, name).to_toml(), "utf-8")
    return paths


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("manifest")
    parser.add_argument("--recipes", type=Path, metavar="DIR", help="else a temporary folder")
    given, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as temporary:
        recipes = write_recipes(given.recipes or Path(temporary))
        named = [part for path in recipes for part in ("--recipe", str(path))]
        call = [sys.executable, "-m", "jobs.cli", "evaluate", "compare", given.manifest]
        done = subprocess.run([*call, *named, *others], check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
