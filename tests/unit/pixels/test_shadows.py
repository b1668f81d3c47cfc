"""Shadows that are found and things that only seem to be some; ``tests.bench.shadows`` has more."""

from __future__ import annotations

import numpy as np

from stages.pixels.shadows import find_shadow
from tests.bench.shadow_scenes import LOOKALIKES, on_photos, shadowed, unshadowed
from tests.bench.shadows import by, means, measure, places_in
from tests.support import DEMO


def test_shadows_on_plain_and_graded_backgrounds_are_found_and_little_beside_them() -> None:
    measured = [measure(scene) for scene in shadowed(41)]
    found = {kind: means(each) for kind, each in by(measured, "kind").items()}
    for kind in ("white", "grey", "colour", "gradient", "vignette"):
        assert found[kind]["recall"] > 0.75, found
    for figures in found.values():
        assert figures["false %"] < 2, found
    assert found["wood"]["recall"] + found["cloth"]["recall"] > 0.6, found


def test_a_dark_product_a_table_and_lines_are_no_shadows() -> None:
    measured = [measure(scene) for scene in unshadowed(step=29)]
    found = {kind: means(each) for kind, each in by(measured, "kind").items()}
    assert found.keys() >= LOOKALIKES.keys()
    for kind, figures in found.items():
        assert figures["found"] <= (0.1 if kind in LOOKALIKES else 0), found


def test_nothing_is_found_on_photos_that_have_no_shadow() -> None:
    places = places_in(sorted((DEMO / "photos").iterdir()), each=1)
    assert [measure(scene).found for scene in on_photos(places)] == [False] * len(places)


def test_a_shadow_that_the_border_of_the_photo_cuts_off_is_not_found() -> None:
    scene = next(shadowed(start=30))  # to the right
    until = int(np.nonzero((scene.shade > 0.04).any(axis=0))[0].max()) - 4
    pixels, mask = scene.pixels[:, :until], scene.mask[:, :until]
    for is_border, found in ((False, True), (True, False)):
        borders = False, False, False, is_border
        assert find_shadow(pixels, mask, mask, 96, borders).any() == found
