"""Identifies files that are not usable as weights, without loading them.

It uses the first bytes of each format: GGUF, HDF5 and archives have magic numbers; ONNX is a
protocol buffer whose first field is a small version number; safetensors begins with a JSON header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from stages.extras import load_module

#: Supported formats of single files, for error texts.
SINGLE_FILES = "safetensors, TorchScript and PyTorch's state dicts can be read"

_HEAD_BYTES = 512

#: Pattern of a file's head -> description of the file; the first match counts.
_HEADS = {
    rb"GGUF|GGML": "a GGUF file",
    rb"version https://git-lfs": "a pointer of git-lfs, and not the file itself (`git lfs pull`)",
    rb"\x89HDF\r\n\x1a\n": "a file of Keras (HDF5)",
    rb"\x1f\x8b|7z\xbc\xaf|Rar!|\xfd7zXZ|(?s:.){257}ustar": "an archive, which is to be unpacked",
    # A protocol buffer: field 1 is a version, and a string (its producer) or another field follows.
    rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42](?s:..)": "an ONNX network",
    rb"(?i)\s*<(!doctype html|html)": "a web page, as when a login was asked for",
    # Neither control characters nor bytes that UTF-8 never uses.
    rb"[^\x00-\x08\x0b\x0e-\x1f\xc0\xc1\xf5-\xff]{17,}\Z": "a text",
}

_LORA = re.compile(r"lora_[AB]\.|lora[_.](down|up)|\.hada_w|\.lokr_w")
_DIFFUSION = re.compile(r"double_blocks\.|single_transformer_blocks\.|model\.diffusion_model\.")

#: Library errors with one of these advise disabling a protection against untrusted code.
_BAD_ADVICE = ("weights_only", "safe_globals", "trust_remote_code", "allow_pickle", "safetensors=")


def kind_of(path: Path) -> str:
    """Describe a file or folder, with an article; empty if it may be a network's weights."""
    if path.is_dir():
        members = {"model_index.json": "a diffusers pipeline", "config.json": "a single model"}
        kinds = [kind for name, kind in members.items() if (path / name).is_file()]
        return f"the folder of {kinds[0]}" if kinds else "a folder"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[8:9] == b"{":
        return kind_of_names(_safetensors_names(path))
    return next((kind for pattern, kind in _HEADS.items() if re.match(pattern, head)), "")


def _safetensors_names(path: Path) -> list[str]:
    """Read the tensors' names; empty if the header is damaged, which loading will report."""
    library = load_module("safetensors", str(path))
    try:
        with library.safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except library.SafetensorError:
        return []


def kind_of_names(names: Iterable[str]) -> str:
    """Describe a set of tensors by their names: a LoRA, a diffusion model; else empty."""
    text = "\n".join(map(str, names))
    if _LORA.search(text):
        return "a LoRA, which is of use only beside its model"
    return "a diffusion model in a single file" if _DIFFUSION.search(text) else ""


def reason(error: BaseException) -> str:
    """Summarise a library's error in one line, without advice to disable a protection."""
    text = str(error).strip()
    if any(word in text for word in _BAD_ADVICE):
        return "it contains more than tensors, or is not a PyTorch file"
    lines = text.splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".: ")
