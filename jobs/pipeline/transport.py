"""Packs photos, and errors for the driver, into Arrow rows between actors.

A row is one binary value, since Ray takes milliseconds for each photo in tens of nested columns. It
has the record and the cut patches, but neither the photo's file nor its decoded pixels.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.pipeline.prompts import SharedPrompts
from manifests.errors import CatalogCleanupError
from stages.arrays import UInt8Array
from stages.photo import Patch, Photo


@dataclass(frozen=True, slots=True)
class _PackedMask:
    """A compressed mask: most are 0 nearly everywhere."""

    data: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, mask: UInt8Array) -> _PackedMask:
        return cls(pa.compress(mask.tobytes(), _CODEC, asbytes=True), mask.shape)

    def unpack(self) -> UInt8Array:
        data = pa.decompress(self.data, math.prod(self.shape), _CODEC)
        return np.frombuffer(data, np.uint8).reshape(self.shape).copy()


_CODEC = "lz4"

#: Attributes of patches that are masks.
_MASKS = ("mask", "blend", "effects", "hole", "beyond")

_SCHEMA = pa.schema([pa.field("photo", pa.large_binary())])


def to_table(sent: Iterable[Photo | CatalogCleanupError], prompts: SharedPrompts) -> pa.Table:
    """Pack photos for another actor, one row each: ``photo``, large_binary.

    An error is none of a row: it goes on to the driver, which ends the run.

    Raises:
        OutputError: ``output.not_writable``: of a prompt.
    """
    rows = [_pack(each, prompts) for each in sent]
    return pa.table({"photo": pa.array(rows, pa.large_binary())}, schema=_SCHEMA)


def _pack(sent: Photo | CatalogCleanupError, prompts: SharedPrompts) -> bytes:
    prompt_name = ""
    if isinstance(sent, Photo):
        if sent.prompt:
            prompt_name = prompts.share(sent.prompt)
        sent = _light(sent, keeps_prompt=not prompt_name)
    return pickle.dumps((sent, prompt_name), protocol=5)


def from_table(table: pa.Table, prompts: SharedPrompts) -> Iterator[Photo | CatalogCleanupError]:
    """Unpack the result of :func:`to_table`, one photo at a time."""
    for value in table["photo"]:
        received, prompt_name = pickle.loads(value.as_buffer())  # noqa: S301 - by our own actors
        if isinstance(received, Photo):
            if prompt_name:
                received.prompt = prompts.load(prompt_name)
            for patch in received.patches:
                _set_masks(patch, _PackedMask.unpack)
        yield received


def _light(photo: Photo, *, keeps_prompt: bool) -> Photo:
    """A photo without what is local to an actor."""
    light = copy(photo)
    light.drop_all()
    light.patches = [copy(patch) for patch in photo.patches]
    light.prompt = photo.prompt if keeps_prompt else None
    for patch in light.patches:
        _set_masks(patch, _PackedMask.of)
    return light


def _set_masks(patch: Patch, change: Callable[[Any], Any]) -> None:
    for name in _MASKS:
        if (mask := getattr(patch, name, None)) is not None:
            setattr(patch, name, change(mask))
