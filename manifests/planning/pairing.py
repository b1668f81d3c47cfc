"""Marks for rows that have none of their own: masks by file name, one mask for all, or a policy.

A mask belongs to the photo whose id is the mask's path below its folder, without the suffix, or
also without an ending ``_mask``, ``-mask`` or ``.mask``. If that leaves a choice of two photos
(``x`` and ``x_mask`` of ``x_mask.png``), the longer id wins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileType

from manifests.errors import ManifestError, OutputError
from manifests.reading.formats import MAX_EXAMPLES, list_some
from manifests.reading.pictures import PictureList, stems
from manifests.reading.read import Source
from manifests.storage.path import StoragePath

#: What becomes of a row without marks: an error; a photo that is passed on unchanged; a photo in
#: which the recipe detects what to remove.
UnmarkedPolicy = Literal["fail", "pass", "detect"]

_ENDING = r"(?i)[_.-]mask$"

#: What a name has before or after that of another photo: ``mask_b``, ``d_seg``.
_BEFORE, _AFTER = r"(^|/)[^/_. -]+[_. -]([^/]+)$", r"[_. -][^/_. -]+$"

#: The file that lists the masks without a photo, in a plan's folder.
_UNPAIRED = "masks-without-photo.txt"


@dataclass(frozen=True, slots=True)
class FoundMasks:
    """The masks that were found for some rows.

    Attributes:
        uris: of the mask; null if there is none, or are several.
        several: names of several masks that match, as text; null if there are not several.
    """

    uris: pa.StringArray
    several: pa.StringArray


class MaskList:
    """The pictures of a folder as masks. Memory: their names, three times.

    Args:
        pictures: the masks' files.
    """

    def __init__(self, pictures: PictureList) -> None:
        self.pictures = pictures
        self._stems = _normal(stems(pictures.paths))
        self._short = pc.replace_substring_regex(self._stems, _ENDING, "")
        self._is_exact = np.zeros(len(self._stems), np.bool_)
        self._has_photo = self._is_exact.copy()
        self._table: list[pa.Array] = []

    def add_ids(self, ids: pa.StringArray) -> None:
        """Learn which photos there are; :meth:`find` must not have been called yet."""
        ids = _normal(ids)
        self._is_exact |= pc.is_in(self._stems, value_set=ids).to_numpy(zero_copy_only=False)
        self._has_photo |= pc.is_in(self._short, value_set=ids).to_numpy(zero_copy_only=False)

    def match(self, ids: pa.StringArray) -> pa.BooleanArray:
        """Whether a mask has the name of each photo."""
        return pc.is_in(_normal(ids), value_set=pa.concat_arrays([self._stems, self._short]))

    @property
    def without_photo(self) -> pa.StringArray:
        """The paths of the masks that match no photo."""
        return self.pictures.paths.filter(pa.array(~(self._is_exact | self._has_photo)))

    def find(self, ids: pa.StringArray) -> FoundMasks:
        """Find the masks of photos, all of which were given to :meth:`add_ids`."""
        names, *columns = self._lookup()
        row = pc.index_in(_normal(ids), value_set=names)
        first, last, count = (column.take(row) for column in columns)
        paths = self.pictures.paths
        is_single = pc.fill_null(pc.equal(count, 1), False)
        uris = self.pictures.uris_of(paths.take(pc.if_else(is_single, first, None)))
        two = [paths.take(pc.if_else(is_single, None, each)) for each in (first, last)]
        return FoundMasks(uris, pc.binary_join_element_wise(*two, " and "))

    def _lookup(self) -> list[pa.Array]:
        """Names; and for each the first mask and the last one that has it, and their number."""
        if not self._table:
            numbers = np.arange(len(self._stems))
            has_ending = pc.not_equal(self._stems, self._short).to_numpy(zero_copy_only=False)
            is_free = has_ending & ~self._is_exact
            names = pa.concat_arrays([self._stems, self._short.filter(pa.array(is_free))])
            masks = np.concatenate([numbers, numbers[is_free]])
            found = pa.table({"name": names, "mask": masks}).group_by("name", use_threads=False)
            table = found.aggregate([("mask", "min"), ("mask", "max"), ("mask", "count")])
            self._table = [column.combine_chunks() for column in table.columns]
        return self._table


@dataclass(slots=True)
class Pairing:
    """How rows without marks of their own are marked.

    Attributes:
        unmarked: what becomes of rows for which there is no mask either.
        mask: path or URI of one mask for all rows; empty: none.
        masks: masks to choose from by name; None: none.
    """

    unmarked: UnmarkedPolicy = "fail"
    mask: str = ""
    masks: MaskList | None = None
    _photo: str = field(default="", init=False)  # of which an error gives an example
    _like_masks: pa.StringArray | None = field(default=None, init=False)

    @classmethod
    def of(cls, unmarked: UnmarkedPolicy, mask: str, masks: str) -> Pairing:
        """Find the mask, or list the masks.

        Args:
            unmarked: see :data:`UnmarkedPolicy`.
            mask: path or URI of a file; empty: none.
            masks: folder, pattern or picture, see :meth:`PictureList.find`; empty: none.

        Raises:
            ManifestError: ``manifest.no_masks``.
        """
        try:
            if mask:
                path = StoragePath.of(mask)
                if path.info().type != FileType.File:
                    raise FileNotFoundError(f"there is no such file: {path.uri}")
                return cls(unmarked, path.uri)
            if not masks:
                return cls(unmarked)
            found = PictureList.find(masks)
        except (OSError, ValueError) as error:
            option = "--mask" if mask else "--masks"
            raise ManifestError("manifest.no_masks", f"{option}: {error}.") from None
        if not len(found.paths):
            raise ManifestError("manifest.no_masks", f"--masks: there is no picture at {masks}.")
        return cls(unmarked, masks=MaskList(found))

    @property
    def gives_marks(self) -> bool:
        """Whether a manifest needs no marks of its own."""
        return bool(self.mask or self.masks or self.unmarked != "fail")

    @property
    def key(self) -> str:
        """Changes with the masks, by their names; empty if there are none."""
        if self.masks:
            return f"masks {self.masks.pictures.digest()}"
        return self.mask and f"mask {self.mask}"

    def select(
        self, files: Sequence[Source], output: StoragePath | None = None
    ) -> Sequence[Source]:
        """Leave pictures that are masks out of a list of photos, and photos out of the masks.

        Args:
            files: of the manifest.
            output: the folder of the results; None: there are none.

        Raises:
            OutputError: ``output.is_manifest``: results would become photos.
            ManifestError: ``manifest.unmarked``: nothing marks the pictures.
        """
        photos = files[0]
        if not isinstance(photos, PictureList):
            return files
        if not self.gives_marks:
            raise ManifestError(
                "manifest.unmarked", f"Nothing marks the pictures of {photos.path.uri}."
            )
        if output and photos.base in (output, output / "images"):
            raise OutputError(
                "output.is_manifest", f"Results in {output.uri} would be among its photos."
            )
        if self.mask:
            photos = photos.filter(pc.not_equal(photos.uris, self.mask))
        if self.masks:
            photos, masks = _separated(photos, self.masks.pictures)
            self.masks = MaskList(masks)
            if photos.base == masks.base:
                alone = photos.paths.filter(pc.invert(self.masks.match(stems(photos.paths))))
                self._like_masks = _named_after_another(alone, photos.paths)
        return [photos]

    def add_ids(self, ids: pa.StringArray) -> None:
        """Learn which photos there are, in a first pass over the manifest."""
        if self.masks and len(ids):
            self.masks.add_ids(ids)
            self._photo = self._photo or ids[0].as_py()

    def check(self) -> None:
        """Raise if no mask has a photo, after the first pass.

        Raises:
            ManifestError: ``manifest.no_pairs``.
        """
        if not self.masks:
            return
        names, base = self.masks.pictures.paths, self.masks.pictures.path.uri
        if len(self.masks.without_photo) < len(names):
            return
        what = f"{len(names):,} masks, such as {names[0].as_py()}," if len(names) else "pictures"
        raise ManifestError(
            "manifest.no_pairs",
            f"None of the {what} in {base} has the name of a photo, such as {self._photo}.",
        )

    def find(self, ids: pa.StringArray) -> FoundMasks:
        """Find the masks of rows that have no marks of their own."""
        none = pa.nulls(len(ids), pa.string())
        if self.masks:
            return self.masks.find(ids)
        return FoundMasks(pa.repeat(self.mask, len(ids)) if self.mask else none, none)

    def notes(self, folder: StoragePath | None) -> Iterator[str]:
        """Name the masks without a photo, after the first pass, and photos that may be masks.

        Args:
            folder: where to list the masks; None: nowhere.
        """
        alone = self.masks.without_photo if self.masks else pa.array([], pa.string())
        if len(alone):
            are = "mask has" if len(alone) == 1 else "masks have"
            shown = list_some((name.as_py() for name in alone), len(alone))
            listed = ""
            if folder and len(alone) > MAX_EXAMPLES:
                listed = f"; {(folder / _UNPAIRED).uri} lists them"
                (folder / _UNPAIRED).write("".join(f"{name}\n" for name in alone).encode())
            yield f"{len(alone):,} {are} no photo: {shown}{listed}."
        if self._like_masks:
            shown = list_some((name.as_py() for name in self._like_masks), len(self._like_masks))
            yield (
                f"Photos named after another photo, like masks: {shown}. The names of masks in the "
                "photos' folder must end in _mask, -mask or .mask."
            )


def hash_with_masks(hashed: str, pairing: Pairing) -> str:
    """Combine a hash of a manifest with the masks that were named beside it."""
    if not pairing.key:
        return hashed
    return hashlib.sha256(f"{hashed} {pairing.key}".encode()).hexdigest()[:16]


def _normal(names: pa.StringArray) -> pa.StringArray:
    """Names as they are compared: the encoding of accents does not count."""
    return pc.utf8_normalize(names, form="NFC")


def _named_after_another(paths: pa.StringArray, others: pa.StringArray) -> pa.StringArray:
    """The pictures whose name has something before or after that of another one."""
    names = _normal(stems(paths))
    known = _normal(stems(others))
    shorter = (
        pc.replace_substring_regex(names, _BEFORE, r"\1\2"),
        pc.replace_substring_regex(names, _AFTER, ""),
    )
    cases = (
        pc.and_(pc.not_equal(each, names), pc.is_in(each, value_set=known)) for each in shorter
    )
    return paths.filter(pc.or_(*cases))


def _separated(photos: PictureList, masks: PictureList) -> tuple[PictureList, PictureList]:
    """Decide which of the pictures that are in both lists are masks.

    All are, if the masks' folder or pattern is the narrower one. Otherwise those are whose name
    with an ending such as ``_mask`` continues the name of a photo.
    """
    if photos.base != masks.base and not (
        photos.contains(masks.base) or masks.contains(photos.base)
    ):
        return photos, masks
    shared = pc.is_in(photos.uris, value_set=masks.uris)
    if not pc.any(shared).as_py():
        return photos, masks
    is_narrower = photos.contains(masks.base) or (
        photos.base == masks.base and bool(masks.pattern) and not photos.pattern
    )
    if is_narrower:
        return photos.filter(pc.invert(shared)), masks
    names = _normal(stems(masks.paths))
    short = pc.replace_substring_regex(names, _ENDING, "")
    ids = _normal(stems(photos.paths))
    is_pair = pc.and_(pc.not_equal(names, short), pc.is_in(short, value_set=ids))
    is_photo = pc.and_(pc.is_in(masks.uris, value_set=photos.uris), pc.invert(is_pair))
    masks = masks.filter(pc.invert(is_photo))
    return photos.filter(pc.invert(pc.is_in(photos.uris, value_set=masks.uris))), masks
