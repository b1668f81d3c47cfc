"""Every error a user can meet, and the stable code it carries into the lineage.

::

    CleanupError                what went wrong, and what to do about it
    ├── ManifestError           the manifest itself: told before any work starts
    ├── RecipeError             a recipe that does not exist or does not validate
    ├── DestinationError        an output folder that cannot take this run
    ├── StorageError            S3 as a whole: the run stops, and goes on when started again
    ├── ClusterError            a Ray cluster that cannot be reached or used
    ├── WeightsError            a model that cannot be had or loaded
    └── RowError                one row's input or output: recorded, the other rows go on

Codes never change their meaning. They are listed once, in :data:`CODES`, from where
``ERRORS.md`` and ``catalog-cleanup errors`` are made.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: code -> (what it means, what to do about it). ``image.*`` codes exist for ``mask.*`` too where
#: the same can happen to a mask: see :func:`describe`.
CODES: dict[str, tuple[str, str]] = {
    "manifest.not_found": (
        "No manifest at that path, folder or pattern.",
        "Check the path; a folder must hold .csv, .jsonl or .parquet files.",
    ),
    "manifest.unreadable": (
        "The manifest is not valid CSV, JSON Lines or Parquet.",
        "Correct the line named, or export the manifest again.",
    ),
    "manifest.missing_column": (
        "The manifest lacks `id`, `image`, or all of `mask`, `boxes`, `polygons` and `rle`.",
        "Name the columns `id` and `image`, and at least one of the others.",
    ),
    "manifest.missing_id": ("Rows have no id.", "Give each row a unique id."),
    "manifest.empty": ("The manifest has no rows.", "Check that the export was complete."),
    "manifest.changed": (
        "The manifest was changed while it was planned.",
        "Run again when nothing writes to it.",
    ),
    "manifest.invalid_rows": (
        "With --strict: rows have bad ids, or cells that are empty or not JSON.",
        "Correct the lines named, or leave out --strict to record them as failed.",
    ),
    "recipe.not_found": (
        "No recipe of that name, no file at that path.",
        "`catalog-cleanup recipes` lists the names.",
    ),
    "recipe.invalid": (
        "A recipe's option is unknown or has a value it cannot take.",
        "`catalog-cleanup recipes NAME` shows a recipe with all its options.",
    ),
    "output.not_found": (
        "No run has left its plan there.",
        "Name the folder that `run` was given as --output.",
    ),
    "output.other_run": (
        "The output folder holds the results of another recipe or manifest.",
        "Choose another --output.",
    ),
    "output.no_such_shard": (
        "The plan has no such shard.",
        "Name numbers and ranges that it has, from 0, such as 0-99,150.",
    ),
    "output.not_writable": (
        "The picture or its record could not be stored.",
        "Check the permissions and the space at --output, then run again.",
    ),
    "output.in_use": (
        "Another run is at work on the same photos, in the same output, with the same recipe.",
        "Wait for it or stop it; `catalog-cleanup status DEST` shows how far it is. To share the "
        "work, give each run its own shards (--shards).",
    ),
    "output.is_input": (
        "The result would overwrite the photo or the mask it is made from.",
        "Choose another --output.",
    ),
    "output.other_format": (
        "The output's suffix names another format than the result's.",
        "Name the output with the photo's own suffix, or set output.format.",
    ),
    "output.not_exact": (
        "With output.fidelity = exact: the result would differ from the photo outside the mask.",
        "Set output.format = tiff, which keeps all samples (or png, if the photo is not CMYK), or "
        "output.fidelity = any.",
    ),
    "storage.unreachable": (
        "S3 does not answer, or only refuses, for longer than CATALOG_CLEANUP_RETRY_S.",
        "Check the endpoint and the network, then run again: it resumes where it stopped.",
    ),
    "storage.credentials": (
        "S3 does not accept the credentials, or there are none; they may have expired.",
        "Renew them (for RequestTimeTooSkewed, set the machine's clock), then run again: it goes "
        "on where it stopped.",
    ),
    "storage.bad_setting": (
        "The settings for S3 cannot be used.",
        "Correct the variable or the entry of ~/.aws/config that is named.",
    ),
    "cluster.unreachable": (
        "No Ray cluster answers at that address, or it does not accept the token.",
        "Check the address, HOST:6379 by default; where the cluster asks for a token, set "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN.",
    ),
    "cluster.not_started": (
        "A private Ray does not start on this machine.",
        "Correct what is named, or use a cluster (--address); `catalog-cleanup doctor` checks it.",
    ),
    "cluster.refused": (
        "The cluster's job API refuses what it was asked for.",
        "See what it says; `ray job list --address http://HEAD:8265` lists its jobs.",
    ),
    "cluster.too_small": (
        "The cluster has no room for the actors that the recipe needs, or provided none in time.",
        "Add what is named, or ask for less with --pools; `catalog-cleanup doctor --address "
        "ADDRESS` shows what would be placed where.",
    ),
    "cluster.bad_pools": (
        "The pools' file is missing, or has an invalid key or value.",
        "Correct the key named; cluster/README.md lists them.",
    ),
    "cluster.bad_prices": (
        "The file of prices is missing, or contains something other than prices.",
        "Give a line like `large-gpu = 3.9` for each group of nodes: dollars for an hour of each.",
    ),
    "cluster.no_figure": (
        "There is no figure for how long a step of the recipe takes.",
        "Clean some photos first, and estimate from that: `catalog-cleanup estimate --from DEST`.",
    ),
    "id.unsafe": (
        "The id cannot be a file name: it holds `..`, a slash, a backslash (or what stands for "
        "one), a control character or one that cannot be seen, or is over 200 bytes long.",
        "Rename the id.",
    ),
    "id.duplicate": (
        "Several rows have the same id, or ids that only differ in how their accents are encoded "
        "(Unicode NFC and NFD); none of them was processed.",
        "Give each row its own id.",
    ),
    "image.no_uri": ("The cell is empty.", "Fill the cell."),
    "image.unknown_scheme": (
        "The URI's scheme is not supported.",
        "Use a local path, file:// or s3://.",
    ),
    "image.scheme_not_allowed": (
        "The recipe's `limits.schemes` leaves out what this input lies in.",
        "If it may be read, add its scheme (file stands for paths, too) and run again with "
        "--retry failed.",
    ),
    "image.not_found": ("There is no such file or object.", "Check the path."),
    "image.access_denied": (
        "Reading it is not allowed.",
        "Check credentials and permissions, also for the key that encrypts it (KMS); where the "
        "requester pays, set CATALOG_CLEANUP_S3_REQUEST_PAYER=requester. Then run again with "
        "--retry failed.",
    ),
    "image.archived": (
        "The object is archived (S3 Glacier or the like) and cannot be read at once.",
        "Restore it (`aws s3api restore-object`), wait until it is there, and run again with "
        "--retry failed.",
    ),
    "image.unreachable": (
        "It could not be read, though its storage answers.",
        "Check the file or object, then run again with --retry failed.",
    ),
    "image.zero_bytes": ("The file is empty.", "Upload it again."),
    "image.not_an_image": ("The bytes are not a picture.", "Check what was uploaded."),
    "image.unsupported": (
        "A picture, but of a kind that cannot be edited without loss, or not written; or one of "
        "more parts (scans, chunks, pages) than any photo has.",
        "Convert it to a JPEG, PNG, WebP, TIFF, AVIF or HEIC of one picture, grey, RGB or CMYK, "
        "with 8 or 16 bits; where it says `cannot be written`, another output.format will do.",
    ),
    "image.truncated": (
        "The file ends before the picture does.",
        "Upload it again. If browsers show all of it, use --set limits.damage=repair.",
    ),
    "image.corrupt": (
        "The picture's data are damaged.",
        "Upload it again. If browsers show all of it, use --set limits.damage=repair.",
    ),
    "image.too_large": (
        "More pixels than `limits.max_megapixels` allows (a decompression bomb?).",
        "If the picture is genuine, raise the limit (--set limits.max_megapixels=…) and run again "
        "with --retry failed.",
    ),
    "image.stale_preview": (
        "With `metadata.stale_preview` = refuse: inside the file, something shows the old picture "
        "(a thumbnail, a video) or vouches for it (a signature).",
        "Set `metadata.stale_preview` to rebuild or drop, and use another --output.",
    ),
    "mask.size_mismatch": (
        "The mask's size, or the RLE's, is not the photo's.",
        "Export the mask at the photo's displayed size, or, where the aspect is the same, use "
        "--set mask.scale_to_photo=true and another --output.",
    ),
    "mask.covers_photo": (
        "The mask covers more of the photo than `limits.max_mask_share` allows.",
        "Check the mask's polarity: white is removed; with --set mask.polarity=dark, and another "
        "--output, black is.",
    ),
    "mask.too_faint": (
        "There is something in the mask, but nothing as bright as `mask.threshold`.",
        "Draw it in white, or use --set mask.threshold=… or, for a map of labels, "
        "mask.values=labels or, for a mask that is drawn in transparency, mask.channel=alpha, and "
        "another --output.",
    ),
    "mask.ambiguous": (
        "`mask.threshold` would leave out part of what the mask shows: labels, or areas of a lower "
        "level. Or `mask.values` is labels, and the mask is lossy (JPEG, AVIF, lossy WebP).",
        "To remove all that is not black, save the mask as PNG and use --set mask.values=labels; "
        "to remove what reaches the threshold alone, --set mask.values=levels; and another "
        "--output.",
    ),
    "mask.too_small": (
        "All that is marked has fewer px than `limits.min_mask_px`.",
        "Check for stray pixels and for the units of shapes (--set shapes.units=share or percent); "
        "if it is meant, use --set limits.min_mask_px=1, and run again with --retry failed.",
    ),
    "mask.no_alpha": (
        "`mask.channel` is alpha, and the mask has no alpha channel.",
        "Save it with transparency (JPEG has none), or leave out mask.channel=alpha.",
    ),
    "mask.bad_shape": (
        "A row's boxes, polygons, rle or list of masks cannot be used.",
        "Correct the cell named: boxes are [x, y, width, height], polygons [x1, y1, x2, y2, …], "
        "in px of the displayed photo or, with --set shapes.units=share or percent, of its sides; "
        "rle is COCO's.",
    ),
    "evaluate.no_reference": (
        "There is no reference to compare a result with, or it is of another size than the photo.",
        "Name in the manifest's column `reference` the photo as it should look.",
    ),
    "row.out_of_memory": (
        "The photo takes more memory than its worker may have; it cost no other row.",
        "If the picture is genuine, run it where there is more memory for each actor, with "
        "--retry failed; else lower limits.max_megapixels.",
    ),
    "weights.missing": (
        "A model's weights are not there.",
        "Name the file in the recipe (--set remove.weights=PATH), or fetch the model with "
        "`catalog-cleanup models pull NAME`.",
    ),
    "weights.gated": (
        "The model's owner asks you to accept its licence first.",
        "Accept it on the page named, then set HF_TOKEN to a token of your account.",
    ),
    "weights.wrong_hash": (
        "The weights are not the ones that are listed: damaged, or exchanged.",
        "Delete the file named and fetch it again; if you mean to use it, name it by its path.",
    ),
    "weights.mismatch": (
        "A machine's weights differ from those that the run's recipe is pinned to.",
        "Put the same file on every machine (LAMA_MODEL, too, must be the same everywhere). To use "
        "other weights, leave out weights_pin and run again: they make another recipe.",
    ),
    "weights.unidentified": (
        "The machine that starts the run cannot read weights of which the recipe gives a path.",
        "Set the section's weights_pin to the `sha256:…` that `catalog-cleanup models pull PATH` "
        "prints on a node, or start the run where the weights are.",
    ),
    "weights.untrusted": (
        "The weights are of a kind that can run code when loaded, and no hash is listed for them.",
        "Use safetensors, or, if you trust the source, --trust.",
    ),
    "weights.unusable": (
        "The weights are damaged, of another network than the recipe's, or of a kind that is not "
        "read (ONNX, GGUF, a LoRA, a single file where a diffusers folder is needed).",
        "Check which model the file is of; `catalog-cleanup models list` names those to fetch.",
    ),
    "model.not_installed": (
        "The libraries that models need are not installed.",
        "In a clone: `.ci/uv sync --extra models`. In an image of one's own: install the project's "
        "wheel with the extra `models`; the image of cluster/deploy/Dockerfile has it.",
    ),
    "model.unavailable": (
        "An option of the recipe is not available on this machine.",
        "Leave the option out, or run where it is available.",
    ),
    "model.out_of_memory": (
        "Even a single crop does not fit into the device's memory.",
        "Use a larger GPU, a smaller size_px, max_side_px or upscale.tile_px, or refine.offload.",
    ),
    "model.bad_output": (
        "A model's output was not a picture: not a number, or black.",
        "Use float32 (--set remove.dtype=float32 or refine.dtype=float32), and check the weights.",
    ),
    "row.timeout": (
        "The photo took longer than `limits.max_seconds`.",
        "Look at the photo; if it is genuine, raise the limit (--set limits.max_seconds=…) and run "
        "again with --retry failed.",
    ),
    "row.crashed": (
        "The photo's process died, even when it had its own process.",
        "Look at the photo; if it is genuine, please report it. --retry crashed tries it again.",
    ),
    "internal.error": (
        "A fault of this program, not of the input.",
        "Please report it with the message.",
    ),
}

#: What can go wrong with an image's file can go wrong with a mask's.
_SHARED_WITH_MASK = tuple(
    code for code in CODES if code.startswith("image.") and code != "image.stale_preview"
)


def describe(code: str) -> tuple[str, str]:
    """Return what a code means and what to do about it.

    Raises:
        KeyError: the code is not one of :func:`all_codes`.
    """
    twin = "image." + code.removeprefix("mask.")
    return CODES[twin if code not in CODES and twin in _SHARED_WITH_MASK else code]


def all_codes() -> list[str]:
    """Every code, each family together, in the order of :data:`CODES`."""
    codes = list(CODES)
    first_mask = next(i for i, code in enumerate(codes) if code.startswith("mask."))
    masks = ["mask." + code.removeprefix("image.") for code in _SHARED_WITH_MASK]
    return codes[:first_mask] + masks + codes[first_mask:]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint at the candidate that was most likely meant, for the end of a sentence; or nothing."""
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""


_USER = re.compile(r"(?<=://)[^/?#\s@]+@")
_SECRET_VALUE = re.compile(
    r"(?<=[?&;])([\w-]*(?:signature|credential|token|secret|password|accesskeyid|sig)=)[^&;#\s\"']+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with ``***`` for users and passwords in URIs, and for signatures and tokens there.

    Every error's message goes through here, and so does every text of an unforeseen one.
    """
    return _SECRET_VALUE.sub(r"\1***", _USER.sub("***@", text))


class CleanupError(Exception):
    """Anything a user can do something about.

    Args:
        code: one of :func:`all_codes`.
        message: what is wrong, naming the row, file or option; the remedy is added from the code.
    """

    def __init__(self, code: str, message: str) -> None:
        message = redact(message)
        super().__init__(code, message)  # both, so that it survives pickling between processes
        describe(code)  # a KeyError here, where the mistake is, and not where it is shown
        self.code = code
        self.message = message

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return describe(self.code)[1]

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"


class ManifestError(CleanupError):
    """The manifest cannot be used; nothing was started."""


class RecipeError(CleanupError):
    """The recipe does not exist or does not validate."""


class DestinationError(CleanupError):
    """The output folder cannot take this run."""


class StorageError(CleanupError):
    """S3 cannot be used at all, for no fault of a row or of the output; the run is resumable."""


class ClusterError(CleanupError):
    """The Ray cluster cannot be reached or used; no row is to blame."""


class WeightsError(CleanupError):
    """A model cannot be had or loaded; told before any work starts, wherever that can be known."""


class RowError(CleanupError):
    """One row cannot be done; it ends as ``failed`` with this code, the others go on."""


class ArchivedError(OSError):
    """An object that must be restored from its archive before it can be read."""


def error_of(code: str, message: str) -> CleanupError:
    """The error of a code that another process told of."""
    kinds = {
        "output": DestinationError,
        "storage": StorageError,
        "manifest": ManifestError,
        "weights": WeightsError,
        "model": WeightsError,
    }
    return kinds.get(code.partition(".")[0], CleanupError)(code, message)
