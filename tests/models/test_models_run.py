"""The recipes with models through the DAG, on CPUs: real networks, random or tiny weights.

What this misses: real weights, and GPUs. Ray is told of GPUs that are not there, so that steps are
spread over pools of their own; the networks in them run on the CPU.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cluster.pools import PoolSize
from jobs.preflight import check_weights
from jobs.results.verify import verify
from jobs.run import run
from manifests.errors import WeightsError
from stages.cleaner import Cleaner
from stages.models.refiners.sigmas import comfy_sigmas
from stages.recipe import Recipe
from tests.conftest import Run
from tests.support import DEMO, encoded, lineage, upright_rgb
from tests.support.models.lama_networks import dat_weights, random_lama
from tests.support.models.networks import save_torchscript
from tests.support.models.tiny_models import (
    save_flux_fill,
    save_klein,
    save_osor,
    save_sdxl_inpaint,
    save_small_decoder,
    save_z_image,
)

QUIET = Console(quiet=True)
NAMES = ["fig-bowl-sticker-date", "coffee-stray-coins", "lounge-bag-hang-tag"]

#: Those with models; ``lama`` has its one step in common with ``clean``.
RECIPES = ["erase", "rorem", "flux-fill", "clean-apache", "clean-z-image", "clean"]

Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """big-lama at full size with random weights, and tiny pipelines of the real classes."""
    folder = tmp_path_factory.mktemp("weights")
    photo = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")[:256, :256]
    return {
        "lama": str(save_torchscript(random_lama(photo), folder / "big-lama.pt")),
        "flux": str(save_flux_fill(folder / "flux")),
        "klein": str(save_klein(folder / "klein")),
        "decoder": str(save_small_decoder(folder / "decoder")),
        "dat": str(dat_weights()),
        "z-image": str(save_z_image(folder / "z-image")),
        "rorem": str(save_sdxl_inpaint(folder / "rorem")),
        **save_osor(folder / "osor", prefix="osor-"),
    }


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the demo's photos, small, one with a prompt of its own."""
    folder = tmp_path_factory.mktemp("photos")
    rows = []
    for name in NAMES:
        photo = Image.fromarray(upright_rgb(next((DEMO / "photos").glob(f"{name}.*"))))
        mask = Image.fromarray(upright_rgb(DEMO / "masks" / f"{name}.png")).convert("L")
        size = (320, round(320 * photo.height / photo.width))
        (folder / f"{name}.png").write_bytes(encoded(photo.resize(size)))
        (folder / f"{name}-mask.png").write_bytes(encoded(mask.resize(size)))
        prompt = "a wooden table" if name.startswith("coffee") else ""
        rows.append((name, f"{name}.png", f"{name}-mask.png", prompt))
    with (folder / "manifest.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("id", "image", "mask", "prompt"), *rows])
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def moved(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos in another folder, the last one first, under other ids."""
    folder = shutil.copytree(manifest.parent, tmp_path_factory.mktemp("elsewhere") / "photos")
    with manifest.open(newline="") as file:
        head, *rows = csv.reader(file)
    for row in rows:
        row[:3] = [f"other-{row[0]}", f"other-{row[1]}", f"other-{row[2]}"]
        for name in row[1:3]:
            (folder / name.removeprefix("other-")).rename(folder / name)
    with (folder / "manifest.csv").open("w", newline="") as out:
        csv.writer(out).writerows([head, *reversed(rows)])
    return folder / "manifest.csv"


def recipe_of(name: str, weights: dict[str, str]) -> Recipe:
    """A shipped recipe, small enough for a CPU, its weights named by their paths."""
    lama = [f"remove.weights={weights['lama']}", "remove.dtype=float32"]
    small = ["refine.size_px=64", "refine.steps=2", "refine.dtype=float32"]
    flux = f"refine.weights={weights['flux']}"
    klein = [f"refine.weights={weights['klein']}", f"refine.decoder={weights['decoder']}"]
    osor = [
        f"remove.{each}={weights[f'osor-{each}']}"
        for each in ("weights", "base_weights", "prompt_weights")
    ]
    return Recipe.load(
        name,
        {
            "flux-fill": [*small, flux],
            "clean": [*lama, *small, flux, f"upscale.weights={weights['dat']}"],
            "clean-apache": [*lama, *small, *klein, "refine.reference=photo"],
            "clean-z-image": [*lama, *small, f"refine.weights={weights['z-image']}"],
            "erase": [*osor, "remove.dtype=float32"],
            "rorem": [
                f"remove.weights={weights['rorem']}",
                "remove.dtype=float32",
                "remove.steps=3",
            ],
        }[name],
    )


@pytest.fixture(scope="module")
def spread() -> dict[str, PoolSize]:
    """Pools that share a CPU, each in actors of its own, as on a cluster with GPUs."""
    share = PoolSize(1, 1, cpus=0.2)
    return {"cpu": share, "small_gpu": share, "large_gpu": share}


@pytest.fixture(scope="module")
def made(
    weights: dict[str, str], manifest: Path, on_ray: Run, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """The results of a recipe's run, made when they are first asked for."""
    folder = tmp_path_factory.mktemp("results")

    @cache
    def made(name: str) -> Path:
        outcome = on_ray(manifest, folder / name, recipe=recipe_of(name, weights))
        assert outcome.exit_code == 0
        return folder / name

    return made


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_with_models_runs_and_says_how(
    name: str, weights: dict[str, str], manifest: Path, made: Made
) -> None:
    recipe, results = recipe_of(name, weights), made(name)
    assert [v.problem for v in verify(str(results))] == [""] * 3
    rows = lineage(results)
    for row_name in NAMES:
        row = rows.loc[row_name]
        used = dict(row.weights)
        assert all(len(digest) == 64 for digest in used.values())
        counts = {
            "erase": 3, "rorem": 1, "flux-fill": 1,
            "clean": 3, "clean-apache": 3, "clean-z-image": 2,
        }  # fmt: skip
        assert len(used) == counts[name]
        assert all(0 <= patch["seed"] < 2**32 for patch in row.patches)
        assert changed_inside(manifest, row)
    prompts = dict(rows.refine_prompt)
    if recipe.refine is None:
        assert rows.refine_prompt.isna().all()
        return
    assert recipe.judge is not None
    fallen_back = {"remove": "came_back", "keep": "best"}
    for patch in [patch for row_name in NAMES for patch in rows.loc[row_name].patches]:
        tried = [each["score"] for each in patch["tries"]]
        assert 1 <= len(tried) <= recipe.judge.attempts
        assert all(0 <= score <= 1 for score in tried)
        passed = tried[-1] <= 0.5
        assert patch["refined"] or not passed
        assert patch["reason"] == ("always" if passed else fallen_back[recipe.judge.fallback])
    assert (rows.flag.isna() == (rows.score <= 0.5)).all()
    assert prompts["coffee-stray-coins"] == "a wooden table"
    assert prompts["fig-bowl-sticker-date"] == recipe.refine.prompt
    sigmas = list(rows.loc["fig-bowl-sticker-date"].refine_sigmas)
    assert len(sigmas) == recipe.refine.steps + 1
    assert sigmas[-1] == 0
    if recipe.refine.method == "flux-fill":
        expected = comfy_sigmas(2, recipe.refine.denoise, recipe.refine.shift)
        assert np.allclose(sigmas, expected, atol=1e-4)


def changed_inside(manifest: Path, row: Any) -> bool:
    before, after = (np.asarray(Image.open(path)) for path in (row.image_uri, row.output_uri))
    mask = np.asarray(Image.open(row.mask_uri)) >= 128
    return bool((before != after).any(axis=2)[mask].mean() > 0.8)


@pytest.mark.parametrize("name", RECIPES)
def test_try_makes_what_the_run_made(
    name: str, weights: dict[str, str], moved: Path, made: Made, tmp_path: Path
) -> None:
    """Byte by byte: of moved photos, under other names, in batches of another size."""
    recipe = recipe_of(name, {kind: moved_to(path, tmp_path) for kind, path in weights.items()})
    sections = {key: getattr(recipe, key) for key in ("remove", "refine") if getattr(recipe, key)}
    alone = {key: each.model_copy(update={"batch_size": 1}) for key, each in sections.items()}
    recipe, _ = check_weights(recipe.model_copy(update=alone), QUIET, here=True)
    rows = lineage(made(name))
    assert recipe.hash == rows.recipe_hash.iloc[0]
    for photo in NAMES:
        if photo.startswith("coffee"):
            continue  # its prompt is the manifest's
        image, mask = (str(moved.parent / f"other-{photo}{end}.png") for end in ("", "-mask"))
        tried = Cleaner(recipe).clean(image, mask)
        assert tried.data == Path(rows.output_uri[photo]).read_bytes()
        seeds = [patch.seed for patch in tried.record.patches]
        assert seeds == [patch["seed"] for patch in rows.patches[photo]]


def moved_to(path: str, folder: Path) -> str:
    """Weights under another path."""
    (folder / "weights").mkdir(exist_ok=True)
    link = folder / "weights" / f"moved-{Path(path).name}"
    link.symlink_to(path)
    return str(link)


def test_batches_in_pools_of_their_own_make_the_same(
    weights: dict[str, str],
    moved: Path,
    on_ray: Run,
    spread: dict[str, PoolSize],
    made: Made,
    tmp_path: Path,
) -> None:
    """Compared with a run of ``clean`` in which each photo is alone.

    The seeds are the same. Batches add up in another order, which shows in the last bits.
    """
    recipe = recipe_of("clean", weights)
    outcome = on_ray(moved, tmp_path / "apart", recipe=recipe, pools=spread)
    assert outcome.exit_code == 0
    alone, together = lineage(made("clean")), lineage(tmp_path / "apart")
    for name in NAMES:
        one, other = alone.loc[name], together.loc[f"other-{name}"]
        assert [patch["tries"] is None for patch in one.patches] == [False] * len(one.patches)
        assert [p["seed"] for p in one.patches] == [p["seed"] for p in other.patches]
        pictures = (np.asarray(Image.open(row.output_uri)) for row in (one, other))
        assert np.abs(np.subtract(*pictures, dtype=int)).max() <= 2


def test_absent_weights_are_told_before_anything_starts(manifest: Path, tmp_path: Path) -> None:
    recipe = Recipe.load("lama", ["remove.weights=/nowhere/lama"])
    with pytest.raises(WeightsError, match="/nowhere/lama") as caught:
        run(str(manifest), str(tmp_path / "out"), recipe, QUIET)
    assert caught.value.code == "weights.missing"
