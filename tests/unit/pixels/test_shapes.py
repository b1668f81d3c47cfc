"""Boxes, polygons and RLE masks: what they mark, and that no input does harm."""

from __future__ import annotations

import json
import resource
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from manifests.errors import RowError
from stages.arrays import BoolMask
from stages.pixels.shapes import rasterize_shapes
from stages.recipe.options import ShapeOptions

WIDTH, HEIGHT = 40, 30


def drawn(units: Any = "px", **shapes: Any) -> BoolMask:
    return rasterize_shapes(shapes, WIDTH, HEIGHT, ShapeOptions(units=units), "p.jpg")


def block(x0: int, y0: int, x1: int, y1: int) -> BoolMask:
    marked = np.zeros((HEIGHT, WIDTH), np.bool_)
    marked[y0:y1, x0:x1] = True
    return marked


def compressed(marked: BoolMask) -> dict[str, Any]:
    rle = coco.encode(np.asfortranarray(marked.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def counts_of(marked: BoolMask) -> list[int]:
    """RLE by definition: column by column, beginning with those of 0."""
    runs, value, count = [], False, 0
    for each in marked.ravel(order="F"):
        if each != value:
            runs.append(count)
            value, count = bool(each), 0
        count += 1
    return [*runs, count]


A, B = block(3, 5, 13, 12), block(20, 1, 24, 30)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"boxes": [3, 5, 10, 7]}, A),
        ({"boxes": [[3, 5, 10, 7], [20, 1, 4, 29]]}, A | B),
        ({"boxes": [3.4, 5.9, 9.1, 5.2]}, A),
        ({"boxes": [-1, -1, 13, 12]}, block(0, 0, 12, 11)),
        ({"boxes": [30, 20, 12, 12]}, block(30, 20, WIDTH, HEIGHT)),
        ({"polygons": [3, 5, 13, 5, 13, 12, 3, 12]}, A),
        ({"polygons": [[3, 5, 13, 5, 13, 12, 3, 12], [20, 1, 24, 1, 24, 30, 20, 30]]}, A | B),
        ({"polygons": [-2, -1, 9, -1, 9, 5, -2, 5.0]}, block(0, 0, 9, 5)),
        ({"polygons": [-5, -5, 45, -5, 45, 35, -5, 35]}, block(0, 0, WIDTH, HEIGHT)),
        ({"polygons": [[3, 5, 13, 5, 13, 12, 3, 12], [30, 2, 31, 2, 30, 2]]}, A),
        ({"rle": compressed(A)}, A),
        ({"rle": [compressed(A), {"size": [HEIGHT, WIDTH], "counts": counts_of(B)}]}, A | B),
        ({"rle": {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}}, A & ~A),
        ({"boxes": [3, 5, 10, 7], "polygons": [20, 1, 24, 1, 24, 30, 20, 30]}, A | B),
        ({"boxes": [], "polygons": [], "rle": []}, A & ~A),
        ({}, A & ~A),
    ],
)
def test_what_shapes_mark(shapes: dict[str, Any], expected: BoolMask) -> None:
    assert np.array_equal(drawn(**shapes), expected)


@pytest.mark.parametrize(("units", "whole"), [("share", 1), ("percent", 100)])
def test_shapes_in_shares_of_the_sides_mark_the_same(units: Any, whole: int) -> None:
    sides = np.array([1000, 700])
    box, ring = np.array([[190, 147], [270, 252]]), np.array([[600, 70], [900, 70], [600, 490]])
    as_px = {"boxes": [box.ravel().tolist()], "polygons": [ring.ravel().tolist()]}
    shares = {
        "boxes": [(box / sides * whole).ravel().tolist()],
        "polygons": [(ring / sides * whole).ravel().tolist()],
    }
    marked = np.zeros((700, 1000), np.uint8)
    marked[0, :10] = 1
    rle = {"rle": {"size": [700, 1000], "counts": counts_of(marked.astype(np.bool_))}}
    expected = rasterize_shapes(as_px | rle, 1000, 700, ShapeOptions(), "p.jpg")
    options = ShapeOptions(units=units)
    assert np.array_equal(rasterize_shapes(shares | rle, 1000, 700, options, "p.jpg"), expected)
    assert expected[147:399, 190:460].all()
    assert expected.sum() == pytest.approx(270 * 252 + 300 * 420 / 2 + 10, rel=0.01)


SHARES, PERCENTS = [0.19, 0.15, 0.27, 0.36], [19.5, 15, 27, 36]


@pytest.mark.parametrize(
    ("units", "shapes", "message"),
    [
        ("px", {"boxes": SHARES}, "boxes has only numbers from 0 to 1: shares, not px"),
        ("px", {"boxes": [[3, 5, 10, 7], SHARES]}, "boxes[1] has only numbers from 0 to 1"),
        ("px", {"boxes": [0, 0, 1, 1]}, "boxes has only numbers from 0 to 1"),
        ("px", {"polygons": [0.1, 0.1, 0.9, 0.1, 0.5, 1.0]}, "polygons has only numbers from 0"),
        ("percent", {"boxes": SHARES}, "boxes has only numbers from 0 to 1: shares, not percent"),
        ("px", {"boxes": PERCENTS}, "all lie in the first 100 x 100 px, as percents would"),
        ("px", {"boxes": [[3, 5, 9, 7], [90.2, 4, 8, 6]]}, "all lie in the first 100 x 100 px"),
        ("px", {"polygons": [10.5, 2, 40, 7, 20, 50]}, "all lie in the first 100 x 100 px"),
        ("share", {"boxes": PERCENTS}, "has numbers from 15 to 36; with shapes.units = share they"),
        ("share", {"polygons": [0, 0, 1.5, 0, 1, 1]}, "from 0 to 1.5; with shapes.units = share"),
        ("percent", {"boxes": [190, 150, 270, 360]}, "with shapes.units = percent they are from 0"),
        ("share", {"boxes": [-0.2, 0, 0.5, 0.5]}, "has numbers from -0.2 to 0.5"),
        ("share", {"boxes": [0.9, 0.9, 0.4, 0.4]}, "outside the photo of 1600x1200 for the most"),
        ("px", {"boxes": [-100, 10, 150, 90]}, "outside the photo of 1600x1200 for the most part"),
        ("px", {"boxes": [1500, 1100, 900, 900]}, "outside the photo of 1600x1200 for the most"),
        ("px", {"boxes": [200, 1500, 90, 90]}, "boxes lies outside the photo of 1600x1200"),
        ("px", {"polygons": [1500, 5, 1900, 5, 1900, 90]}, "polygons lies outside the photo"),
        ("px", {"boxes": [700, 500, 1300, 900]}, "it is x0, y0, x1, y1, not x, y, width, height"),
    ],
)
def test_shapes_that_are_plausible_in_other_units_alone_are_refused(
    units: Any, shapes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RowError) as caught:
        rasterize_shapes(shapes, 1600, 1200, ShapeOptions(units=units), "p.jpg")
    assert caught.value.code == "mask.bad_shape"
    assert message in caught.value.message
    assert "--set shapes.units=share or percent" in caught.value.remedy


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ({"boxes": [19, 15, 27, 36]}, (1600, 1200)),
        ({"boxes": [[19.5, 15, 27, 36], [900, 15, 27, 36]]}, (1600, 1200)),
        ({"boxes": PERCENTS}, (90, 64)),
        ({"boxes": PERCENTS}, (640, 480)),
        ({"boxes": [-5, -5, 30, 30]}, (64, 64)),
        ({"boxes": [700, 500, 910, 710]}, (1600, 1200)),
        ({"boxes": [1, 1, 4, 4]}, (64, 64)),
        ({"polygons": [2, 2, 30, 2, 30, 9]}, (64, 64)),
    ],
)
def test_small_photos_and_generous_boxes_are_marked_as_ever(
    shapes: dict[str, Any], size: tuple[int, int]
) -> None:
    assert rasterize_shapes(shapes, *size, ShapeOptions(), "p.jpg").sum() > 15


def test_rounded_shares_that_reach_the_border_are_within_the_photo() -> None:
    marked = drawn("share", boxes=[0.5, 0.3333, 0.5004, 0.667])
    assert np.array_equal(marked, block(20, 9, WIDTH, HEIGHT))


def test_a_slanted_polygon_is_filled_as_geometry_says() -> None:
    marked = drawn(polygons=[0, 0, 30, 0, 0, 30])
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    assert np.array_equal(marked[xs + ys < 29], np.ones((xs + ys < 29).sum(), np.bool_))
    assert not marked[xs + ys > 31].any()


@given(st.data())
def test_rle_of_any_mask_means_that_mask(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    seed, share = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.floats(0, 1))
    marked = np.random.default_rng(seed).random((height, width)) < share
    marked[:, : data.draw(st.integers(0, width))] = data.draw(st.booleans())
    for rle in (compressed(marked), {"size": [height, width], "counts": counts_of(marked)}):
        assert np.array_equal(
            rasterize_shapes({"rle": rle}, width, height, ShapeOptions(), "p.jpg"), marked
        )


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"boxes": "x"}, "boxes is neither a shape nor a list of shapes"),
        ({"boxes": {"x": 1}}, "boxes is neither a shape nor a list of shapes"),
        ({"boxes": [[1, 2, 3, 4], [1, 2, 3]]}, "boxes[1] has 3 numbers, not x, y, width, height"),
        ({"boxes": [1, 2, 3]}, "boxes has 3 numbers, not x, y"),
        ({"boxes": [[[1, 2, 3, 4]]]}, "boxes[0] has 1 numbers"),
        ({"boxes": [None]}, "boxes[0] is not a list"),
        ({"boxes": [[1, 2, "3", 4]]}, "boxes[0] holds '3', which is not a number"),
        ({"boxes": [[1, 2, True, 4]]}, "boxes[0] holds 'True', which is not a number"),
        ({"boxes": [1, 2, 0, 4]}, "boxes is 0 wide and 4 high"),
        ({"boxes": [1, 2, 3, -4]}, "boxes is 3 wide and -4 high"),
        ({"boxes": [[40, 2, 3, 4]]}, "boxes[0] lies outside the photo of 40x30"),
        ({"boxes": [[5, -4, 3, 4]]}, "boxes[0] lies outside the photo of 40x30"),
        ({"boxes": [float("nan"), 1, 2, 3]}, "boxes holds a number beyond"),
        ({"boxes": [float("inf"), 1, 2, 3]}, "boxes holds a number beyond"),
        ({"boxes": [10**400, 1, 2, 3]}, "boxes holds a number beyond"),
        ({"boxes": [[0, 0, 9, 9]] * 1001}, "boxes has 1001 shapes; the maximum is 1000"),
        ({"polygons": [[1, 2, 3, 4]]}, "polygons[0] has 4 numbers; three points or more have 6"),
        ({"polygons": [1, 2, 3, 4, 5, 6, 7]}, "polygons has 7 numbers"),
        ({"polygons": [[]]}, "polygons[0] has 0 numbers"),
        ({"polygons": [[[1, 2, 3, 4, 5, 6]]]}, "polygons[0] has 1 numbers"),
        ({"polygons": [{"x": 1}]}, "polygons[0] is not a list"),
        ({"polygons": [[1, 2, 3, 4, 5, None]]}, "polygons[0] holds 'None', which is not a number"),
        ({"polygons": [[50, 2, 60, 2, 60, 9]]}, "polygons[0] lies outside the photo of 40x30"),
        ({"polygons": [[5, 9, 20, 9, 5, 9]]}, "polygons marks no pixel: all are too thin"),
        ({"polygons": [0, 0, 1e6, 1e6, 0, 1e6]}, "the polygons are over 2000000 px long"),
        ({"rle": 7}, "rle is neither a shape nor a list of shapes"),
        ({"rle": [[3, 4]]}, "rle[0] is not an object with size and counts"),
        ({"rle": {"size": [30, 40]}}, "rle is not an object with size and counts"),
        ({"rle": {"size": 30, "counts": [1200]}}, "the size of rle is not height, width"),
        ({"rle": {"size": [30, "40"], "counts": [1200]}}, "the size of rle holds '40'"),
        ({"rle": {"size": [30, 10**400], "counts": [1200]}}, "the size of rle holds a number bey"),
        ({"rle": {"size": [30, 40], "counts": [600]}}, "are 600 px together, the photo has 1200"),
        ({"rle": {"size": [30, 40], "counts": [1201]}}, "are 1201 px together"),
        ({"rle": {"size": [30, 40], "counts": []}}, "are 0 px together"),
        ({"rle": {"size": [30, 40], "counts": ""}}, "are 0 px together"),
        ({"rle": {"size": [30, 40], "counts": [1201, -1]}}, "not all whole numbers from 0"),
        ({"rle": {"size": [30, 40], "counts": [1199.5, 0.5]}}, "not all whole numbers from 0"),
        ({"rle": {"size": [30, 40], "counts": [10**4000, 10**4000]}}, "not all whole numbers"),
        ({"rle": {"size": [30, 40], "counts": None}}, "not all whole numbers from 0"),
        ({"rle": {"size": [30, 40], "counts": "ÄÖ"}}, "are not COCO's compressed form"),
        ({"rle": {"size": [30, 40], "counts": "0o"}}, "are not COCO's compressed form"),
        ({"rle": {"size": [30, 40], "counts": "0\x000"}}, "are not COCO's compressed form"),
        ({"rle": {"size": [30, 40], "counts": "o" * 50 + "0"}}, "are not COCO's compressed form"),
        ({"rle": {"size": [30, 40], "counts": "@"}}, "not all whole numbers from 0"),
    ],
)
def test_bad_shapes_are_named(shapes: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError) as caught:
        drawn(**shapes)
    assert caught.value.code == "mask.bad_shape"
    assert caught.value.message.startswith("The photo p.jpg: ")
    assert message in caught.value.message


def test_rle_masks_of_another_size_are_refused() -> None:
    with pytest.raises(RowError, match=r"rle\[1\] is 30x40, the photo 40x30") as caught:
        drawn(rle=[compressed(A), compressed(A.T)])
    assert caught.value.code == "mask.size_mismatch"


numbers = st.one_of(
    st.integers(-60, 60),
    st.floats(-60, 60),
    st.floats(),
    st.sampled_from([2**31, 2**32, -(2**31), 1e6, -1e6, 10**30, 999_999]),
)
anything = st.recursive(
    st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner, max_size=3),
    ),
    max_leaves=12,
)
runs = st.one_of(
    st.lists(st.integers(-5, 1200), max_size=12),
    st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=40),
    st.binary(max_size=12).map(lambda data: data.decode("latin-1")),
    st.sampled_from([compressed(A)["counts"], compressed(B)["counts"]]).flatmap(
        lambda text: st.builds(
            lambda at, by: text[:at] + by + text[at + 1 :],
            st.integers(0, len(text)),
            st.text(st.characters(min_codepoint=47, max_codepoint=112), max_size=2),
        )
    ),
)
mutants = st.fixed_dictionaries(
    {},
    optional={
        "boxes": st.one_of(anything, st.lists(st.lists(numbers, min_size=3, max_size=5))),
        "polygons": st.one_of(anything, st.lists(st.lists(numbers, max_size=12), max_size=4)),
        "rle": st.one_of(
            anything,
            st.builds(lambda counts: {"size": [HEIGHT, WIDTH], "counts": counts}, runs),
            st.builds(lambda size, counts: {"size": size, "counts": counts}, anything, runs),
        ),
    },
)


@settings(max_examples=5 * settings().max_examples)
@given(shapes=mutants, units=st.sampled_from(["px", "share", "percent"]))
def test_no_input_does_harm(shapes: dict[str, Any], units: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        marked = drawn(units, **shapes)
    except RowError as error:
        if error.code not in ("mask.bad_shape", "mask.size_mismatch"):
            raise
    else:
        assert marked.shape == (HEIGHT, WIDTH)
        again = drawn(units, **json.loads(json.dumps(shapes)))
        assert np.array_equal(marked, again), "no memory that nobody wrote is taken for a mask"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024
