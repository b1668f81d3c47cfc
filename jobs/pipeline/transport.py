"""Packs photos, and errors for the driver, into Arrow rows between actors.

A row is one binary value, since Ray takes milliseconds for each photo in tens of nested columns. It
has the record and the cut patches, but neither the photo's file nor its decoded pixels.
"""

from __future__ import annotations

import pickle
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
class _Bits:
    """A mask of 0 and 255, at a bit for each pixel."""

    data: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, mask: UInt8Array) -> _Bits | UInt8Array:
        """Pack a mask; one with other values is returned as it is."""
        if np.count_nonzero(mask) != np.count_nonzero(mask == 255):
            return mask
        return cls(np.packbits(mask).tobytes(), mask.shape)

    def unpack(self) -> UInt8Array:
        count = int(np.prod(self.shape))
        bits = np.unpackbits(np.frombuffer(self.data, np.uint8), count=count)
        return bits.reshape(self.shape) * np.uint8(255)


#: Prefix of the manifest's own columns in units of work, so that they cannot collide with ours.
EXTRA_PREFIX = "manifest: "

#: Attributes of patches that are masks of 0 and 255, as a rule.
_MASKS = ("mask", "hole")

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
                _set_masks(patch, lambda mask: mask.unpack() if isinstance(mask, _Bits) else mask)
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
        changed=None,
        result=b"",
    )
    for patch in light.patches:
        _set_masks(patch, _Bits.of)
    return light


def _set_masks(patch: Patch, change: Callable[[Any], Any]) -> None:
    for name in _MASKS:
        if (mask := getattr(patch, name, None)) is not None:
            setattr(patch, name, change(mask))
