"""Finds and reads lines of text: PP-OCRv6 (Apache-2.0), whose weights come with rapidocr's wheel.

The detection network gives each pixel a probability of text (DB, Liao et al. 2020). A photo passes
through it at several scales: as a whole at sizes that show large text, and at full scale, tile
by tile, which shows small print. The tiles' probabilities are joined before lines are cut out of
them, so that no line is divided.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from manifests.errors import WeightsError
from stages.arrays import Float32Array, UInt8Array
from stages.optional_imports import load_module
from stages.pixels.boxes import Box, bounds_of
from stages.pixels.resize import scale_down

#: Weights in rapidocr's wheel, by content: other ones would give other results.
_WEIGHTS = {
    "Det": (
        "PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    "Rec": (
        "PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    ),
    "Cls": (
        "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
}

#: Longer sides at which a whole photo is searched; a side up to which it is not divided into parts.
_WHOLE_PX, _UNDIVIDED_PX = (640, 960), 1280

#: A photo is searched at smaller scales that are at most this share of the largest.
_SMALLER = 0.8

#: Of the detection network: min probability of a text's pixels, and of a line on average. Those of
#: PaddleOCR are higher, and lose text on busy backgrounds; recognition drops what is none.
_PIXEL_THRESHOLD, _LINE_THRESHOLD = 0.2, 0.4

#: Side of the parts that a photo is divided into, and the context that each is shown with.
_CORE_PX, _CONTEXT_PX = 832, 64

#: The network's sides are multiples of this.
_MULTIPLE_PX = 32

#: Font size in px that the detection network finds reliably.
_FOUND_PX = 12

#: Smaller steps between neighbouring pixels, in levels, are a plain background, not strokes.
_STROKE_LEVELS = 16

#: Max lines that are read at each scale, those with the highest detection score.
_MAX_LINES = 200

#: Lines overlap by this share of the smaller one: the same text at two scales.
_SAME_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text.

    Attributes:
        outline: ``(4, 2)`` float32, its corners (x, y) in px of the photo, clockwise; includes a
            margin around the letters.
        text: as recognised.
        confidence: mean probability of its characters, 0 to 1.
    """

    outline: Float32Array
    text: str
    confidence: float

    @property
    def height(self) -> float:
        """Length of the outline's shorter sides, px."""
        return float(np.linalg.norm(self.outline[1:3] - self.outline[:2], axis=1).min())

    @property
    def width(self) -> float:
        """Length of the outline's longer sides, px."""
        return float(np.linalg.norm(self.outline[1:3] - self.outline[:2], axis=1).max())

    @property
    def font_px(self) -> float:
        """About the size of its font, px: the outline is a quarter higher."""
        return self.height / 1.25


class TextReader:
    """Finds and reads text in photos.

    Args:
        device: ``gpu`` uses ONNX Runtime's CUDA provider.
        min_height_px: lines of smaller fonts need not be found; larger values take less time on
            large photos.
        max_tiles: max number of parts of 832 x 832 px that a photo is divided into. A photo that
            needs more is searched at a smaller scale.

    Raises:
        WeightsError: ``model.not_installed``; ``model.unavailable`` if there is no CUDA provider;
            ``weights.wrong_hash`` if rapidocr carries other weights.
    """

    def __init__(
        self,
        *,
        device: Literal["cpu", "gpu"] = "cpu",
        min_height_px: float = 8,
        max_tiles: int = 48,
    ) -> None:
        self._engine = _load_engine(device)
        self._detector = self._engine.text_det
        self._min_height_px, self._max_tiles = min_height_px, max_tiles

    def read(self, pixels: UInt8Array) -> list[Line]:
        """Return the lines in an ``(h, w, 3)`` uint8 sRGB picture, from top to bottom."""
        found: list[Line] = []
        shown = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
        for scale in self._scales(*pixels.shape[:2]):
            found += self._read_at(scale, shown)
        return _without_doubles(found)

    def _scales(self, height: int, width: int) -> list[float]:
        """The scales at which a photo is searched, ascending."""
        longer = max(height, width)
        fine = min(1.0, _FOUND_PX / self._min_height_px)
        fine = min(fine, _CORE_PX * math.sqrt(self._max_tiles / (height * width)))
        return [*(side / longer for side in _WHOLE_PX if side < _SMALLER * fine * longer), fine]

    def _read_at(self, scale: float, photo: UInt8Array) -> list[Line]:
        shown = scale_down(photo, scale)
        probabilities = self._probabilities(shown)
        outlines, scores = self._detector.postprocess_op(
            probabilities[None, None], probabilities.shape
        )
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[:_MAX_LINES]
        if not best:
            return []
        corners = [np.asarray(outlines[index], np.float32) for index in best]
        crops = self._engine.crop_text_regions(shown, corners)
        read = self._engine.recognize_txt(self._engine.cls_and_rotate(crops)[0])
        size = np.divide(photo.shape[1::-1], shown.shape[1::-1]).astype(np.float32)
        return [
            Line(outline * size, text, float(confidence))
            for outline, text, confidence in zip(corners, read.txts, read.scores, strict=True)
            if text.strip()
        ]

    def _probabilities(self, shown: UInt8Array) -> Float32Array:
        """``(h, w)`` float32: how likely each pixel of a BGR picture belongs to text."""
        probabilities = np.zeros(shown.shape[:2], np.float32)
        for core, view in _tiles(shown):
            part = self._run(shown[view.slices])
            probabilities[core.slices] = part[core.shifted(-view.x0, -view.y0).slices]
        return probabilities

    def _run(self, part: UInt8Array) -> Float32Array:
        height, width = part.shape[:2]
        more = (-height % _MULTIPLE_PX, -width % _MULTIPLE_PX)
        padded = cv2.copyMakeBorder(part, 0, more[0], 0, more[1], cv2.BORDER_REPLICATE)
        # rapidocr's own normalisation to -1..1
        levels = (padded.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        return np.asarray(self._detector.session(levels)[0, 0, :height, :width], np.float32)


def content_hashes() -> dict[str, str]:
    """Name -> SHA-256 of the networks, as the lineage records them."""
    return dict(_WEIGHTS.values())


def _load_engine(device: Literal["cpu", "gpu"]) -> Any:
    """Load rapidocr with its networks.

    Raises:
        WeightsError: see :class:`TextReader`.
    """
    onnxruntime = load_module("onnxruntime", "detect.method text")
    rapidocr = load_module("rapidocr", "detect.method text")
    if device == "gpu" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise WeightsError(
            "model.unavailable",
            "detect.device = gpu: this machine's ONNX Runtime has no CUDA provider (package "
            "onnxruntime-gpu).",
        )
    folder = Path(str(rapidocr.__file__)).parent / "models"
    params: dict[str, Any] = {
        f"{part}.model_path": str(_checked(folder / name, sha256))
        for part, (name, sha256) in _WEIGHTS.items()
    }
    params |= {
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.intra_op_num_threads": _threads(),
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "EngineConfig.onnxruntime.use_cuda": device == "gpu",
        "Det.thresh": _PIXEL_THRESHOLD,
        "Det.box_thresh": _LINE_THRESHOLD,
    }
    engine = rapidocr.RapidOCR(params=params)
    engine(np.zeros((32, 32, 3), np.uint8), use_det=True, use_cls=False, use_rec=False)  # loads
    return engine


def _threads() -> int:
    """Number of threads that the pool grants, of those that ONNX Runtime accepts.

    With its own default, all cores, it would also bind threads to cores.
    """
    granted = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = int(granted) if granted.isdigit() and int(granted) else cores or 1
    return min(wanted, os.cpu_count() or 1)


def _checked(path: Path, sha256: str) -> Path:
    if not path.is_file():
        raise WeightsError("weights.missing", f"rapidocr was installed without {path.name}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise WeightsError("weights.wrong_hash", f"{path} is of another version of rapidocr.")
    return path


def _tiles(shown: UInt8Array) -> Iterator[tuple[Box, Box]]:
    """The parts of a picture that can show text: each with the view that the network is given.

    A part is trimmed to what is not plain, and omitted if all of it is.
    """
    height, width = shown.shape[:2]
    busy = _busy(shown)
    whole = max(height, width) <= _UNDIVIDED_PX
    rows, columns = (1 if whole else math.ceil(side / _CORE_PX) for side in (height, width))
    for row in range(rows):
        for column in range(columns):
            core = Box(
                width * column // columns,
                height * row // rows,
                width * (column + 1) // columns,
                height * (row + 1) // rows,
            )
            bounds = bounds_of(busy[core.slices])
            if bounds is None:
                continue
            core = bounds.shifted(core.x0, core.y0).grown(_MULTIPLE_PX // 4).intersection(core)
            yield core, core.grown(_CONTEXT_PX).clipped(width, height)


def _busy(shown: UInt8Array) -> UInt8Array:
    """``(h, w)`` uint8, over 0 where neighbouring pixels differ as at a stroke's edge."""
    steps = cv2.morphologyEx(shown, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2)
    return np.asarray(steps >= _STROKE_LEVELS, np.uint8)


def _without_doubles(lines: list[Line]) -> list[Line]:
    """Of lines that overlap, the one that reads the most characters with certainty."""
    kept: list[Line] = []
    for line in sorted(lines, key=lambda each: -each.confidence * len(each.text.strip())):
        if all(_shared(line, other) < _SAME_SHARE for other in kept):
            kept.append(line)
    return sorted(kept, key=lambda each: each.outline.min(axis=0).tolist()[::-1])


def _shared(first: Line, second: Line) -> float:
    """Area that two lines share, over that of the smaller one."""
    common = cv2.intersectConvexConvex(first.outline, second.outline)[0]
    smaller = min(cv2.contourArea(first.outline), cv2.contourArea(second.outline))
    return float(common / smaller) if smaller else 0.0
