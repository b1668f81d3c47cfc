"""Packs photos, and errors for the driver, into Arrow rows between actors.

A row is one binary value, since Ray takes milliseconds for each photo in tens of nested columns. It
has the record and the cut patches, but neither the photo's file nor its decoded pixels.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.pipeline.prompts import SharedPrompts
from stages.arrays import UInt8Array
from stages.photo import Patch, Photo


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that is not of a row, for the driver, which then ends the run.

    Attributes:
        code: of the error, see manifests/ERRORS.md.
        message: without the remedy.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class _PackedMask:
    """A mask: a bit for each pixel if all are 0 or 255, else deflated, since most are 0."""

    data: bytes
    shape: tuple[int, ...]
    is_soft: bool

    @classmethod
    def of(cls, mask: UInt8Array) -> _PackedMask:
        if np.count_nonzero(mask) == np.count_nonzero(mask == 255):
            return cls(np.packbits(mask).tobytes(), mask.shape, is_soft=False)
        return cls(zlib.compress(mask.tobytes(), _FASTEST), mask.shape, is_soft=True)

    def unpack(self) -> UInt8Array:
        if self.is_soft:
            values = np.frombuffer(zlib.decompress(self.data), np.uint8)
            return values.reshape(self.shape).copy()
        count = int(np.prod(self.shape))
        bits = np.unpackbits(np.frombuffer(self.data, np.uint8), count=count)
        return bits.reshape(self.shape) * np.uint8(255)


#: Attributes of patches that are masks of 0 and 255, as a rule; and soft ones of little content.
_MASKS = ("mask", "hole", "beyond", "effects")

#: Compression level of soft masks.
_FASTEST = 1

_SCHEMA = pa.schema([pa.field("photo", pa.large_binary())])


def to_table(sent: Iterable[Photo | Problem], prompts: SharedPrompts) -> pa.Table:
    """Pack photos for another actor, one row each: ``photo``, large_binary.

    Raises:
        OutputError: ``output.not_writable``: of a prompt.
    """
    rows = [_pack(each, prompts) for each in sent]
    return pa.table({"photo": pa.array(rows, pa.large_binary())}, schema=_SCHEMA)


def _pack(sent: Photo | Problem, prompts: SharedPrompts) -> bytes:
    prompt_name = ""
    if isinstance(sent, Photo):
        if sent.prompt:
            prompt_name = prompts.name_if_shared(sent.prompt)
        sent = _light(sent, keeps_prompt=not prompt_name)
    return pickle.dumps((sent, prompt_name), protocol=5)


def from_table(table: pa.Table, prompts: SharedPrompts) -> Iterator[Photo | Problem]:
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
    light = replace(
        photo,
        prompt=photo.prompt if keeps_prompt else None,
        original=b"",
        patches=[copy(patch) for patch in photo.patches],
        decoded=None,
        mask_files=[],
        marked={},
        detected=None,
        detected_file=b"",
        region=None,
        shade=None,
        changed=None,
        result=b"",
    )
    for patch in light.patches:
        _set_masks(patch, _PackedMask.of)
    return light


def _set_masks(patch: Patch, change: Callable[[Any], Any]) -> None:
    for name in _MASKS:
        if (mask := getattr(patch, name, None)) is not None:
            setattr(patch, name, change(mask))
