"""Files that were given as weights and are something else, recognised without loading them.

By the first bytes of each format: GGUF, HDF5 and ZIP have magic numbers; ONNX and Core ML are
protocol buffers whose first field is a small version; safetensors begins with a JSON header.
"""

from __future__ import annotations

import codecs
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

#: What can be read where a network is one file.
SINGLE_FILES = "safetensors, TorchScript and PyTorch's state dicts can be read"

_MAX_HEADER_BYTES = 100 << 20  # as safetensors itself allows

#: (where, what stands there) -> what the file is.
_HEADS = {
    (0, b"GGUF"): "a GGUF file",
    (0, b"GGML"): "a GGML file",
    (
        0,
        b"version https://git-lfs",
    ): "a pointer of git-lfs, and not the file itself (`git lfs pull`)",
    (0, b"\x89HDF\r\n\x1a\n"): "a file of Keras (HDF5)",
    (0, b"ftrt"): "an engine of TensorRT",
    (0, b"\x1f\x8b"): "an archive (gzip)",
    (0, b"7z\xbc\xaf\x27\x1c"): "an archive (7z)",
    (0, b"Rar!"): "an archive (RAR)",
    (0, b"\xfd7zXZ"): "an archive (xz)",
    (0, b"PAR1"): "a Parquet file",
    (0, b"%PDF"): "a PDF",
    (4, b"TFL3"): "a network of TensorFlow Lite",
    (257, b"ustar"): "an archive (tar)",
    (0, b"\x93NUMPY"): "an array of NumPy",
}

#: name of an entry of a ZIP -> what the ZIP is; PyTorch's own have neither.
_ENTRIES = {
    "model.weights.h5": "a file of Keras",
    "saved_model.pb": "a SavedModel of TensorFlow",
    "model_index.json": "a packed diffusers pipeline",
}

#: No text has these.
_CONTROL = set(map(chr, range(32))) - set("\t\r\n\f")

_LORA = (
    "lora_A.",
    "lora_B.",
    "lora_down.",
    "lora_up.",
    "lora.down",
    "lora.up",
    ".hada_w",
    ".lokr_w",
)
_DIFFUSION = ("double_blocks.", "single_transformer_blocks.", "model.diffusion_model.")

#: Library errors with one of these advise to switch off what keeps strangers' code from running.
_BAD_ADVICE = ("weights_only", "safe_globals", "trust_remote_code", "allow_pickle", "safetensors=")


def kind_of(path: Path) -> str:
    """What a file or folder is, with its article; empty where it may be a network's weights."""
    if path.is_dir():
        return _kind_of_folder(path)
    with path.open("rb") as file:
        head = file.read(512)
    for (at, magic), kind in _HEADS.items():
        if head.startswith(magic, at):
            return kind
    if head[8:9] == b"{":
        return kind_of_names(_safetensors_names(path))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
        return next((kind for name, kind in _ENTRIES.items() if name in names), "")
    return _kind_of_protobuf(head) or _kind_of_text(head)


def kind_of_names(names: Iterable[str]) -> str:
    """What a set of tensors is, by their names: a LoRA, a diffusion model; else empty."""
    text = "\n".join(map(str, names))
    if any(part in text for part in _LORA):
        return "a LoRA, which is of use only beside its model"
    if any(part in text for part in _DIFFUSION):
        return "a diffusion model in a single file"
    return ""


def reason(error: BaseException) -> str:
    """A library's reason in a line, for a sentence; never its advice to switch off a protection."""
    text = str(error).strip()
    if any(word in text for word in _BAD_ADVICE):
        return "it holds more than tensors, or is no file of PyTorch"
    lines = text.splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".: ")


def _kind_of_folder(folder: Path) -> str:
    if (folder / "model_index.json").is_file():
        return "the folder of a diffusers pipeline"
    if (folder / "saved_model.pb").is_file():
        return "a SavedModel of TensorFlow"
    if (folder / "Manifest.json").is_file():
        return "a package of Core ML"
    if (folder / "config.json").is_file():
        return "the folder of a single model"
    return "a folder"


def _safetensors_names(path: Path) -> list[str]:
    """The tensors' names; none if the header is damaged, which loading will say."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size)) if size <= _MAX_HEADER_BYTES else {}
        except ValueError:
            return []
    return list(header)


def _kind_of_protobuf(head: bytes) -> str:
    """ONNX or Core ML: field 1 is a version; field 2 a string, or a message that begins itself."""
    if len(head) < 5 or head[0] != 0x08 or not 0 < head[1] < 32:
        return ""
    if head[2] == 0x12 and b"\x0a" in head[4:6]:
        return "a network of Core ML"
    return "an ONNX network" if head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42) else ""


def _kind_of_text(head: bytes) -> str:
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, as when a login was asked for"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # its last letter may be cut
    except UnicodeDecodeError:
        return ""
    return "a text" if len(text) > 16 and not _CONTROL & set(text) else ""
