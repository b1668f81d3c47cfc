"""Reads users' TOML files, and validates them with a pydantic type."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from manifests.errors import did_you_mean, error_from_code

T = TypeVar("T")


def load_toml(kind: type[T], path: Path, code: str) -> T:
    """Read and validate a TOML file.

    Args:
        kind: a pydantic model, or another type that pydantic can validate.
        path: path of the file; a byte order mark is ignored.
        code: error code to raise, see :mod:`manifests.errors`.

    Raises:
        CatalogCleanupError: the file cannot be read or is invalid; raised in the code's class.
    """
    table = read_toml(path, code)
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        raise error_from_code(code, f"{path}: {explain(error, kind)}.") from None


def read_toml(path: Path, code: str) -> dict[str, Any]:
    """Read a TOML file's table without validation; see :func:`load_toml`."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise error_from_code(code, f"{path}: {error}.") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise error_from_code(code, f"{path} is not TOML: {error}.") from None


def explain(error: ValidationError, kind: type) -> str:
    """Format pydantic's findings, each with the dotted name of its option."""
    names = list(_option_names(kind))
    return "; ".join(_explain(each, names) for each in error.errors())


def _explain(error: Any, names: list[str]) -> str:
    *sections, option = map(str, error["loc"] or ("",))
    path: list[str] = []
    for each in sections:  # pydantic inserts the tag of a union's chosen member
        if not names or ".".join([*path, each]) in names:
            path.append(each)
    dotted = ".".join([*path, option])
    match error["type"]:
        case "extra_forbidden" if dotted in names:
            return f"{dotted} is an option of another method"
        case "extra_forbidden":
            return f"{dotted} is not an option{did_you_mean(dotted, names)}"
        case "missing":
            return f"{dotted} is missing"
        case "union_tag_invalid":
            methods, method = error["ctx"]["expected_tags"], error["ctx"]["tag"]
            nearest = did_you_mean(method, methods.replace("'", "").split(", "))
            return f"{dotted}.method = {method!r} is none of {methods}{nearest}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{dotted} = {error['input']!r}: {message}" if dotted else message


def _option_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of a model's sections and options, of all members of unions."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield prefix + name
            yield from _option_names(field.annotation, f"{prefix}{name}.")
    for part in getattr(kind, "__args__", ()):
        yield from _option_names(part, prefix)
