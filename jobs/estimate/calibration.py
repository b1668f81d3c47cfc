"""The figures that an estimate rests on, each marked with where it is from.

``defaults.toml`` beside this file holds them all. A calibration file has the same form and replaces
those that it names; ``catalog-cleanup bench steps`` writes one for the machine it runs on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manifests.errors import ClusterError

_DEFAULTS = resources.files("jobs.estimate") / "defaults.toml"

Kind = Literal["measured", "published", "calculated", "assumed"]


class Figure(BaseModel):
    """Anything that was found out, or not.

    Attributes:
        kind: how.
        source: where, and on what.
        is_default: whether it came with the program.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind
    source: str
    is_default: bool = Field(False, exclude=True)


class Value(Figure):
    """One number; its name says of which unit."""

    value: float = Field(ge=0)


class Seconds(Figure):
    """How long a step takes in one actor: a sum, of which most parts are 0.

    Megapixels are millions of pixels. A patch's are those that the step works on: ``remove`` and
    ``focus`` LaMa's window, at the size at which it is filled; ``upscale`` the crop as it is in the
    photo, if it has to grow; ``refine`` and ``judge`` the crop as the refiner sees it.
    """

    per_photo: float = Field(0.0, ge=0)
    per_megapixel: float = Field(0.0, ge=0)
    """Of the photo."""
    per_patch: float = Field(0.0, ge=0)
    per_patch_megapixel: float = Field(0.0, ge=0)
    per_step: float = Field(0.0, ge=0)
    """Of those that a refiner makes on a patch."""
    per_step_megapixel: float = Field(0.0, ge=0)

    def of_photo(self, megapixels: float) -> float:
        """What of it comes once for a photo of that size."""
        return self.per_photo + self.per_megapixel * megapixels

    def of_patch(self, megapixels: float, steps: int = 0) -> float:
        """What of it comes for a patch of that size, in so many steps; of no size, nothing."""
        if not megapixels:
            return 0.0
        once = self.per_patch + self.per_patch_megapixel * megapixels
        return once + steps * (self.per_step + self.per_step_megapixel * megapixels)


class Calibration(BaseModel):
    """All figures.

    Attributes:
        steps: step, method and switches -> seconds, e.g. ``refine.flux-fill.compile``.
        node_start_s: pool -> until a node for it is up, after it was asked for.
        actor_start_s: pool -> until an actor of it works on a node that is up: its process, and its
            models' weights.
        price: pool -> dollars for an hour of a node for it.
        run: what else a run is like; see the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: dict[str, Seconds] = {}
    node_start_s: dict[str, Value] = {}
    actor_start_s: dict[str, Value] = {}
    price: dict[str, Value] = {}
    run: dict[str, Value] = {}

    @classmethod
    def load(cls, path: Path | str | None = None) -> Self:
        """The defaults, and what a file has in their place.

        Raises:
            ClusterError: ``cluster.bad_calibration``: there is no such file, or it has a name or a
                value that it cannot have.
        """
        defaults = tomllib.loads(_DEFAULTS.read_text("utf-8"))
        for section in defaults.values():
            for figure in section.values():
                figure["is_default"] = True
        if path is None:
            return cls.model_validate(defaults)
        try:
            table = tomllib.loads(Path(path).read_text("utf-8-sig"))
            given = cls.model_validate(table)
            _refuse_unknown(given, defaults)
        except ValidationError as error:
            told = "; ".join(_explain(each) for each in error.errors())
            raise ClusterError("cluster.bad_calibration", f"{path}: {told}.") from None
        except (OSError, ValueError) as error:
            raise ClusterError("cluster.bad_calibration", f"{path}: {error}.") from None
        return cls.model_validate(
            {section: defaults[section] | table.get(section, {}) for section in defaults}
        )

    def seconds(self, name: str) -> Seconds:
        """Of a step.

        Raises:
            ClusterError: ``cluster.bad_calibration``: nobody knows how long it takes.
        """
        if name not in self.steps:
            raise ClusterError(
                "cluster.bad_calibration",
                f"There is no figure for {name}; give one as [steps.{name!r}] with --calibration.",
            )
        return self.steps[name]


def _refuse_unknown(given: Calibration, defaults: Mapping[str, Any]) -> None:
    """A misspelt name would change nothing; but steps may be such as nobody has measured yet."""
    for section in ("node_start_s", "actor_start_s", "price", "run"):
        for name in getattr(given, section):
            if name not in defaults[section]:
                known = ", ".join(defaults[section])
                raise ValueError(f"{section}.{name} is none of {known}")


def _explain(error: Any) -> str:
    """One pydantic error as a sentence with the key's dotted name."""
    dotted = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{dotted} is no key of it"
    if error["type"] == "missing":
        return f"{dotted} is missing"
    return f"{dotted} = {error['input']!r}: {error['msg']}"
