"""One photo in this process, without Ray: how one experiments with a recipe."""

from __future__ import annotations

from importlib.metadata import version

from jobs.clean import steps
from manifests.planning.marks import Marks
from manifests.schema import LineageRow
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import Step, run_steps
from stages.steps.base import finish as end
from stages.steps.publish import check_suffix, publish_as


def try_one(image: str, marks: Marks, output: str, recipe: Recipe) -> LineageRow:
    """Clean one photo with the steps of the DAG, and store it where the user says.

    Args:
        image: path or URI of the photo.
        marks: its masks, by path or URI, and shapes.
        output: path or URI of the result; its suffix must be that of the photo's format.
        recipe: how.

    Returns:
        What the lineage would say; its status tells whether it worked.

    Raises:
        OutputError: the result cannot be stored.
    """
    mask_uri, rest = marks.pack()
    photo = Photo(
        LineageRow(
            id=output.rpartition("/")[2].rpartition(".")[0],
            image_uri=image,
            mask_uri=mask_uri,
            marks=rest,
            recipe_name=recipe.name,
            recipe_hash=recipe.hash,
            package_version=version("catalog-cleanup"),
        )
    )
    fetch, *others, _ = steps(recipe, "")
    check = Step("output", "cpu", lambda: check_suffix(output, recipe))
    publish = Step("publish", "cpu", lambda: publish_as(output))
    run_steps([photo], [(s.name, s.make()) for s in (fetch, check, *others, publish)])
    end(photo)
    return photo.lineage
