"""The documents say what the code does. ``python -m tests.test_docs`` writes their tables anew."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from cluster.pools import Pools
from jobs.metrics import METRICS
from manifests.errors import CODES, all_codes
from manifests.schema import lineage_schema
from stages.models import known
from stages.recipe import preset_names
from tests.support import DEMO

ROOT = Path(__file__).parent.parent


def errors_table() -> str:
    lines = ["| code | meaning | what to do |", "|---|---|---|"]
    lines += [f"| `{code}` | {meaning} | {remedy} |" for code, (meaning, remedy) in CODES.items()]
    return "\n".join(lines)


def lineage_table() -> str:
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in lineage_schema():
        kind = re.sub(r"struct<.*", "struct>", str(field.type).replace("list<item: ", "list<"))
        lines.append(f"| `{field.name}` | `{kind}` | {field.metadata[b'doc'].decode()} |")
    return "\n".join(lines)


def models_table() -> str:
    lines = ["| model | used to | download | licence | commercial use |", "|---|---|---|---|---|"]
    for model in known().values():
        size = f"{model.size / 1e9:.1f} GB" if model.size >= 1e9 else f"{model.size / 1e6:.0f} MB"
        gate = " (to be accepted on the model's page first)" if model.gated else ""
        lines.append(
            f"| [`{model.name}`]({model.page}) | {model.kind} | {size} "
            f"| [{model.licence}]({model.licence_url}){gate} "
            f"| {'yes' if model.commercial else '**no**, unless bought'} |"
        )
    return "\n".join(lines)


def metrics_table() -> str:
    lines = ["| in Prometheus | labels | meaning |", "|---|---|---|"]
    for metric in METRICS:
        ends = " · ".join(
            f"`_{name.removeprefix(f'ray_{metric.name}_')}`" for name in metric.exported
        )
        labels = ", ".join(f"`{tag}`" for tag in metric.tags)
        lines.append(f"| `ray_{metric.name}` {ends} | {labels} | {metric.meaning} |")
    return "\n".join(lines)


def pools_table() -> str:
    lines = ["| key | `cpu` | `small_gpu` | `large_gpu` | meaning |", "|---|---|---|---|---|"]
    pools = [Pools().cpu, Pools().small_gpu, Pools().large_gpu]
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
    ("README.md", "errors", errors_table),
    ("README.md", "models", models_table),
    ("README.md", "metrics", metrics_table),
    ("README.md", "pools", pools_table),
    ("manifests/README.md", "lineage", lineage_table),
]


def rewritten(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, _, rest = text.partition(begin)
    return head + begin + table + "\n" + end + rest.partition(end)[2]


def test_each_fault_that_is_told_has_its_test() -> None:
    table = (ROOT / "README.md").read_text().partition("<!-- faults: begin -->")[2]
    named = set(re.findall(r"`(test_\w+)`", table.partition("<!-- faults: end -->")[0]))
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert named == {name for name in named if f"\ndef {name}(" in tests}
    of_faults = re.findall(r"\ndef (test_\w+)", (ROOT / "tests" / "test_faults.py").read_text())
    assert set(of_faults) <= named


def test_the_tables_are_those_of_the_code() -> None:
    for path, name, table in TABLES:
        text = (ROOT / path).read_text("utf-8")
        assert text == rewritten(text, name, table()), "run: python -m tests.test_docs"


def test_the_readme_names_every_recipe_and_its_files_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in preset_names())
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert links
    assert all((ROOT / link).exists() for link in links)


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


def test_every_code_that_is_raised_is_listed() -> None:
    families = "|".join(sorted({code.partition(".")[0] for code in all_codes()}))
    written = re.compile(rf'"((?:{families})\.[a-z_]+)"')
    for folder in MAY_IMPORT:
        for path in (ROOT / folder).rglob("*.py"):
            codes = set(written.findall(path.read_text("utf-8")))
            assert codes <= {*all_codes(), "manifest.csv"}, path


def test_nobody_is_sent_to_an_index_for_this_project() -> None:
    """It is on none. What works is the clone's uv, an image, or a wheel of one's own."""
    advice = re.compile(r"\b(install|add)\b.{0,20}catalog-cleanup\b|catalog-cleanup\[\w+\]")
    texts = [*ROOT.glob("*.md"), ROOT / "cluster" / "Dockerfile"]
    for folder in MAY_IMPORT:
        texts += [
            path for end in ("py", "md", "toml") for path in (ROOT / folder).rglob(f"*.{end}")
        ]
    for path in texts:
        text = " ".join(path.read_text("utf-8").split()).replace('" "', "")
        assert not advice.search(text), path


if __name__ == "__main__":
    for path, name, table in TABLES:
        file = ROOT / path
        file.write_text(rewritten(file.read_text("utf-8"), name, table()), "utf-8")
