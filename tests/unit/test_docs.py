"""The documents match the code; ``python -m tests.unit.test_docs`` regenerates their tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup as Group
from typer.main import get_command

from cluster.pools import PoolsOptions
from jobs.cli import app
from jobs.pipeline.metrics import METRICS
from manifests.errors import error_codes
from manifests.schema import lineage_schema
from stages.recipe import preset_names
from stages.weights.registry import registered_models
from tests.support import DEMO

ROOT = Path(__file__).parents[2]


def errors_table() -> str:
    lines = ["| code | meaning | what to do |", "|---|---|---|"]
    lines += [
        f"| `{code}` | {listed.meaning} | {listed.remedy} |"
        for code, listed in error_codes().items()
        if listed != error_codes().get(code.replace("mask.", "image.")) or code[:5] != "mask."
    ]
    return "\n".join(lines)


def lineage_table() -> str:
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in lineage_schema():
        kind = re.sub(r"struct<.*", "struct>", str(field.type).replace("list<item: ", "list<"))
        lines.append(f"| `{field.name}` | `{kind}` | {field.metadata[b'doc'].decode()} |")
    return "\n".join(lines)


def models_table() -> str:
    lines = ["| model | used to | download | licence | commercial use |", "|---|---|---|---|---|"]
    for model in registered_models().values():
        size = f"{model.size / 1e9:.1f} GB" if model.size >= 1e9 else f"{model.size / 1e6:.0f} MB"
        gate = " (to be accepted on the model's page first)" if model.gated else ""
        lines.append(
            f"| [`{model.name}`]({model.page}) | {model.kind} | {size} "
            f"| [{model.licence}]({model.licence_url}){gate} "
            f"| {model.commercial_use.replace('no,', '**no**,')} |"
        )
    return "\n".join(lines)


def metrics_table() -> str:
    lines = ["| in Prometheus | labels | meaning |", "|---|---|---|"]
    for metric in METRICS:
        ends = " · ".join(
            f"`_{name.removeprefix(f'ray_{metric.name}_')}`" for name in metric.exported
        )
        labels = ", ".join(f"`{tag}`" for tag in metric.tags)
        lines.append(f"| `ray_{metric.name}` {ends} | {labels} | {metric.description} |")
    return "\n".join(lines)


def pools_table() -> str:
    lines = ["| key | `cpu` | `small_gpu` | `large_gpu` | meaning |", "|---|---|---|---|---|"]
    pools = [PoolsOptions().cpu, PoolsOptions().small_gpu, PoolsOptions().large_gpu]
    for key, field in type(pools[1]).model_fields.items():
        defaults = " | ".join(_default(getattr(pool, key, "")) for pool in pools)
        meaning = (field.description or type(pools[0]).model_fields[key].description or "").strip()
        lines.append(f"| `{key}` | {defaults} | {' '.join(meaning.split()).replace('``', '`')} |")
    return "\n".join(lines)


def _default(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{name}={label}`" for name, label in value.items())
    return "" if value is None or value == "" else f"{value:g}"


TABLES = [
    ("manifests/ERRORS.md", "errors", errors_table),
    ("manifests/README.md", "lineage", lineage_table),
    ("stages/README.md", "models", models_table),
    ("cluster/README.md", "metrics", metrics_table),
    ("cluster/README.md", "pools", pools_table),
]

FOLDERS = ("manifests", "stages", "cluster", "jobs", "tests")

#: All documents that ship, by their path.
DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *(path for each in FOLDERS for path in ROOT.glob(f"{each}/**/*.md")),
    ]
]

#: The changelog names what is gone, too.
GUIDES = [path for path in DOCUMENTS if path != "CHANGELOG.md"]


def rewritten(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, _, rest = text.partition(begin)
    return head + begin + table + "\n" + end + rest.partition(end)[2]


def test_each_fault_of_the_table_has_its_test() -> None:
    table = (ROOT / "jobs" / "README.md").read_text().partition("<!-- faults: begin -->")[2]
    named = set(re.findall(r"`(test_\w+)`", table.partition("<!-- faults: end -->")[0]))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named == {name for name in named if f"\ndef {name}(" in tests}
    of_faults = re.findall(
        r"\ndef (test_\w+)", (ROOT / "tests" / "faults" / "test_faults.py").read_text()
    )
    assert set(of_faults) <= named


def test_the_tables_are_those_of_the_code() -> None:
    for path, name, table in TABLES:
        text = (ROOT / path).read_text("utf-8")
        assert text == rewritten(text, name, table()), "run: python -m tests.unit.test_docs"


def test_the_readme_is_short_and_names_every_recipe_and_folder() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert all(f"`{name}`" in text for name in preset_names())
    assert all(f"({folder}/README.md)" in text for folder in FOLDERS)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings_that_exist(document: str) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text("utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def calls(text: str) -> Iterator[list[str]]:
    """The words of each call of ``catalog-cleanup`` in a document's code, after that word.

    Code is what stands in a fenced block or between backquotes.
    """
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for code in [*lines, *spans]:
        for call in re.findall(r"(?:^|[ $])catalog-cleanup (.*)", " ".join(code.split())):
            yield call.split(" #")[0].split()


@pytest.mark.parametrize("document", GUIDES)
def test_commands_and_options_in_documents_exist(document: str) -> None:
    root = get_command(app)
    assert isinstance(root, Group)
    for words in calls((ROOT / document).read_text("utf-8")):
        command: Any = root
        rest = words
        while isinstance(command, Group) and rest and not rest[0].startswith("-"):
            if rest[0] not in command.commands and hasattr(command, "default"):
                rest = [command.default, *rest]
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        params = [*command.params]
        if command.context_settings.get("ignore_unknown_options"):  # it passes them on to `run`
            params += root.commands["run"].params
        options = {name for each in params for name in (*each.opts, *each.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert given <= options | {"--help"}, words


@pytest.mark.parametrize("document", GUIDES)
def test_modules_that_documents_run_exist(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    for module in re.findall(r"python -m ((?:tests|cluster|jobs|stages|manifests)[\w.]*)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module


def test_commands_are_found_in_the_documents() -> None:
    """So that none of the above passes because it looks at nothing."""
    found = [words for each in GUIDES for words in calls((ROOT / each).read_text("utf-8"))]
    named = {words[0] for words in found}
    assert named >= {"run", "try", "plan", "status", "submit", "estimate", "models", "doctor"}
    assert ["models", "pull", "PATH"] in found


def test_the_demo_photos_are_small_and_their_sources_named() -> None:
    sources = (DEMO / "SOURCES.md").read_text("utf-8")
    photos = list((DEMO / "photos").iterdir())
    assert len(photos) == 8
    assert all(f"`{photo.name}`" in sources for photo in photos)
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 4_000_000


MAY_IMPORT = {
    "manifests": {"manifests"},
    "stages": {"stages", "manifests"},
    "cluster": {"cluster"},
    "jobs": {"jobs", "stages", "manifests", "cluster"},
}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_no_import_runs_upwards(folder: str) -> None:
    banned = set(MAY_IMPORT) - MAY_IMPORT[folder]
    if folder in ("stages", "manifests"):
        banned.add("ray")
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            assert not {name.partition(".")[0] for name in names} & banned, path


def test_every_code_that_is_raised_is_listed_for_its_class() -> None:
    listed = error_codes()
    families = "|".join(sorted({code.partition(".")[0] for code in listed}))
    written = re.compile(rf'(?:\b(\w+Error)\(\s*)?"((?:{families})\.[a-z_]+)"')
    for folder in MAY_IMPORT:
        for path in (ROOT / folder).rglob("*.py"):
            for name, code in written.findall(path.read_text("utf-8")):
                assert code in {*listed, "manifest.csv"}, path
                assert not name or name == listed[code].error_class, (path, code)


def test_nobody_is_sent_to_an_index_for_this_project() -> None:
    """It is on none. What works is the clone's uv, an image, or a wheel of one's own."""
    advice = re.compile(r"\b(install|add)\b.{0,20}catalog-cleanup\b|catalog-cleanup\[\w+\]")
    texts = [*map(ROOT.joinpath, DOCUMENTS), ROOT / "cluster" / "deploy" / "Dockerfile"]
    for folder in MAY_IMPORT:
        texts += [path for end in ("py", "toml") for path in (ROOT / folder).rglob(f"*.{end}")]
    for path in texts:
        text = " ".join(path.read_text("utf-8").split()).replace('" "', "")
        assert not advice.search(text), path


if __name__ == "__main__":
    for path, name, table in TABLES:
        file = ROOT / path
        file.write_text(rewritten(file.read_text("utf-8"), name, table()), "utf-8")
