"""What a recipe's hash follows from; and that no finished catalog is done again by a slip.

``python -m tests.unit.recipe.test_recipe_hash`` records the hashes of the shipped recipes
and new options. It does not record a default that changed unless ``SCHEMA`` of
stages/recipe/__init__.py was raised: under the same hash, results before and after would be mixed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from stages.method_options import NOT_HASHED, Section
from stages.recipe import SCHEMA, Recipe, preset_names
from stages.weights.registry import registered_models
from stages.weights.resolve import weights_of, with_pins

RECORD = Path(__file__).with_name("recorded_recipes.json")

#: The options that change no result. To add one, be sure that it does not.
NEUTRAL_OPTIONS = {
    "name",
    "description",
    "limits",
    "detect[text].device",
    "remove[lama].batch_size",
    "remove[osor].batch_size",
    "remove[rorem].batch_size",
    "remove[rorem].offload",
    "refine[flux-fill].batch_size",
    "refine[flux-fill].offload",
    "refine[flux2-klein].batch_size",
    "refine[flux2-klein].offload",
    "refine[z-image].batch_size",
    "refine[z-image].offload",
    "refine[rorem].batch_size",
    "refine[rorem].offload",
    "output.keep_steps",
}


def options(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``(name, field)`` of every option, those of every method by the method's name."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        sections = sections_in(field.annotation)
        for section in sections:
            method = f"[{section.model_fields['method'].default}]" if sections[1:] else ""
            if NOT_HASHED not in field.metadata:
                yield from options(section, f"{prefix}{name}{method}.")


def sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    return [section for part in get_args(annotation) for section in sections_in(part)]


def hashes() -> dict[str, str]:
    """Of the shipped recipes, as a run has them where no variable names other weights.

    And of each section and method at its defaults, whether or not a shipped recipe has it.
    """
    found = {f"{each[0]} = {each[1]}": recipe_with(*each).hash for each in every_section()}
    for name in preset_names():
        recipe = Recipe.load(name)
        listed = [
            (option_path, registered_models()[ref].content)
            for option_path, ref in weights_of(recipe)
        ]
        pins = {option_path: content for option_path, content in listed if content}
        found[name] = with_pins(recipe, pins).hash
    return found


def defaults() -> dict[str, Any]:
    """Option -> default, as JSON has it; of sections, whether there is one."""
    found = {}
    for name, field in options():
        if not field.is_required() and NOT_HASHED not in field.metadata:
            default = field.get_default(call_default_factory=True)
            found[name] = "present" if isinstance(default, Section) else default
    return dict(json.loads(json.dumps(found)))


def changed(recorded: dict[str, Any]) -> dict[str, Any]:
    now = defaults()
    both = recorded["defaults"].keys() & now.keys()
    return {name: now[name] for name in both if now[name] != recorded["defaults"][name]}


def test_shipped_recipes_and_defaults_are_as_recorded(cache: Path) -> None:
    recorded = json.loads(RECORD.read_text())
    assert recorded["schema"] == SCHEMA
    assert not changed(recorded), "a default changed: raise SCHEMA in stages/recipe/__init__.py"
    assert recorded["defaults"].keys() == defaults().keys(), f"record them: {__doc__}"
    assert recorded["hashes"] == hashes(), f"a shipped recipe changed; if meant, record: {__doc__}"


def test_the_options_that_change_no_result_are_the_known_ones() -> None:
    marked = {name for name, field in options() if NOT_HASHED in field.metadata}
    assert marked == NEUTRAL_OPTIONS


def every_section() -> list[tuple[str, str]]:
    """Section and method of every kind of section."""
    return [
        (name, section.model_fields["method"].default if sections[1:] else "")
        for name, field in Recipe.model_fields.items()
        for sections in [sections_in(field.annotation)]
        for section in sections
    ]


def recipe_with(section: str, method: str) -> Recipe:
    table: dict[str, Any] = {
        "name": "x",
        "remove": {"method": "telea"},
        "refine": {"method": "flux-fill"},
        "judge": {},
        "upscale": {},
    }
    table[section] = {"method": method} if method else {}
    if method == "template":
        table[section]["templates"] = ["logo.png"]
    return Recipe.from_table(table, source="test")


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"another {value}"
        case _:
            return (*value, "another")


@pytest.mark.parametrize(("section", "method"), every_section())
def test_every_option_changes_the_hash_but_for_the_neutral_ones(section: str, method: str) -> None:
    recipe = recipe_with(section, method)
    had = getattr(recipe, section)
    for name, field in type(had).model_fields.items():
        if name == "method":
            continue
        given = had.model_copy(update={name: another(getattr(had, name))})
        now = recipe.model_copy(update={section: given})
        is_neutral = NOT_HASHED in (*Recipe.model_fields[section].metadata, *field.metadata)
        assert (now.hash == recipe.hash) == is_neutral, name


def test_methods_with_the_same_options_have_hashes_of_their_own() -> None:
    kinds = [recipe_with(*each) for each in every_section() if each[1]]
    assert len({recipe.hash for recipe in kinds}) == len(kinds) - 1, "telea and flux-fill are twice"


def test_a_section_is_an_option_and_its_names_are_not() -> None:
    recipe = Recipe.load("telea")
    assert recipe.hash == Recipe.load("telea", ["seed=0", "mask.feather_px=3"]).hash
    assert recipe.hash != Recipe.load("telea", ["seed=1"]).hash
    assert recipe.hash != Recipe.load("telea", ["upscale.method=lanczos"]).hash
    renamed = recipe.model_copy(update={"name": "mine", "description": "other words"})
    assert renamed.hash == recipe.hash
    assert (recipe.label, renamed.label) == (f"telea-{recipe.hash[:8]}", f"mine-{recipe.hash[:8]}")


def test_a_pinned_recipe_reads_back_from_toml_with_its_hash(tmp_path: Path) -> None:
    recipe = with_pins(Recipe.load("lama"), {"remove": f"sha256:{'a' * 64}"})
    (tmp_path / "mine.toml").write_text(recipe.to_toml())
    assert Recipe.load(str(tmp_path / "mine.toml")).hash == recipe.hash
    assert Recipe.from_table(recipe.model_dump(mode="json"), source="run.json").hash == recipe.hash


def _record() -> None:
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {"schema": 0, "defaults": {}}
    if recorded["schema"] == SCHEMA and (found := changed(recorded)):
        sys.exit(f"Raise SCHEMA in stages/recipe/__init__.py, or undo: {found}")
    made = {"schema": SCHEMA, "hashes": hashes(), "defaults": defaults()}
    RECORD.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    _record()
