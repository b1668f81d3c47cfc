"""Hundreds of hostile files, each in a process that may die of it: none does, each is told why."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.hostile.corpus import BOX, OK, Case, all_cases, sound_files
from tests.hostile.formats import bomb, png
from tests.hostile.runner import Ending, end_each
from tests.support import lineage

#: Each of these families goes through the real DAG with some of its files.
PER_FAMILY = 3


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Ending]]:
    return list(end_each(all_cases(), tmp_path_factory.mktemp("hostile")))


def test_there_are_hundreds_of_them(endings: list[tuple[Case, Ending]]) -> None:
    names = [case.name for case, _ in endings]
    assert len(names) == len(set(names)) >= 500


def test_nothing_crashes_hangs_or_is_a_fault_of_ours(endings: list[tuple[Case, Ending]]) -> None:
    ours = ("signal", "hang", "internal.error")
    assert [ending for _, ending in endings if ending.code.startswith(ours)] == []


def test_each_is_told_what_is_wrong_with_it(endings: list[tuple[Case, Ending]]) -> None:
    told = {c.name: (e.code, e.told) for c, e in endings if e.code not in c.codes}
    assert told == {}


def test_whatever_is_cleaned_is_whole(endings: list[tuple[Case, Ending]]) -> None:
    """Everything outside the mask is as it was, as far as it could be read."""
    done = [ending for _, ending in endings if ending.code == "ok"]
    assert [ending for ending in done if ending.told] == []
    assert len(done) > 100


@pytest.mark.parametrize("memory_mib", [100, 200])  # for no copy of its pixels, and for two
def test_what_takes_too_much_memory_fails_alone(tmp_path: Path, memory_mib: int) -> None:
    large = Case("large", png(6000, 6000, bomb(104)), frozenset({"row.out_of_memory"}))
    small = Case("small", sound_files()["jpeg-444-q55"], OK)
    cases = [large, replace(small, name="small-1"), replace(small, name="small-2")]
    endings = {case.name: ending for case, ending in end_each(cases, tmp_path, memory_mib)}
    assert endings["large"].code == "row.out_of_memory"
    assert "more memory" in endings["large"].told
    assert endings["small-2"].code == "ok", "in the process that met the large one"


def test_some_of_each_family_go_through_the_dag(on_ray: Run, tmp_path: Path) -> None:
    families = defaultdict[str, list[Case]](list)
    for case in all_cases():
        if not case.options:
            families[case.family].append(case)
    chosen = [c for cases in families.values() for c in cases[:: -(-len(cases) // PER_FAMILY)]]
    rows = []
    for number, case in enumerate(chosen):
        (tmp_path / f"{number}.image").write_bytes(case.image)
        row = {"id": str(number), "image": f"{number}.image", "sku": case.name}
        if case.mask is not None:
            (tmp_path / f"{number}.mask").write_bytes(case.mask)
            row["mask"] = f"{number}.mask"
        rows.append(row | {column: json.loads(cell) for column, cell in case.cells.items()})
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    outcome = on_ray(manifest, tmp_path / "out")
    assert outcome.exit_code == 3
    assert (outcome.tally.rows, outcome.tally.pending_count) == (len(chosen), 0)
    codes = lineage(tmp_path / "out").error_code.fillna("ok")
    told = {case.name: codes[str(n)] for n, case in enumerate(chosen)}
    assert {c.name: told[c.name] for c in chosen if told[c.name] not in c.codes} == {}


#: An id would be a file name outside of the output, or none at all.
UNSAFE_IDS = (
    *("..", ".", "../up", "a/../../up", "/etc/passwd", "a//b", "a/", "a\\b", "..\\up", "C:\\up"),
    *("a/./b", "a/..", "\uff0fup", "a.JPG/b", f"{'x' * 201}/a", "/".join("abcdefgh" * 50)),
    *("nul\0", "line\nbreak", "\x1b[2J", "\x85", "x" * 201, "ä" * 101),
    *("\uff0e\uff0e\uff0fup", "\u2024\u2024", "\u202egpj.exe", "\ufeffa", "\u200b"),
)

#: Odd, yet a file's name: those that look like other characters, and those of other systems.
ODD_IDS = (
    *(
        "a\u2215b",
        "a\u2044b",
        "a.",
        "a ",
        " a",
        "~",
        "-rf",
        "CON",
        "NUL.txt",
        "%2e%2e%2fup",
        "a%00b",
        "$(id)",
        "*",
        "?",
    ),
    *("a/b", "a/b/c.jpg", "a..b/c", f"{'x' * 200}/{'y' * 200}"),
    *("a:b", 'a"b', "<b>", "|cmd", "x" * 200, "é", "e\u0301", "\U0001f5bc"),
)


def test_no_id_leaves_the_output(on_ray: Run, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(sound_files()["png-rgb"])
    rows = [
        {"id": name, "image": "photo.png", "boxes": json.loads(BOX)}
        for name in (*UNSAFE_IDS, *ODD_IDS)
    ]
    manifest = tmp_path / "in" / "manifest.jsonl"
    manifest.parent.mkdir()
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "photo.png").rename(manifest.parent / "photo.png")
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "deep" / "out"
    on_ray(manifest, out)
    recorded = lineage(out)
    assert set(recorded.index) == {*UNSAFE_IDS, *ODD_IDS}
    codes = recorded.error_code.fillna("ok")
    assert set(codes[list(UNSAFE_IDS)]) == {"id.unsafe"}
    assert set(codes[list(ODD_IDS)]) <= {"ok", "id.unsafe", "id.duplicate"}
    stored = {Path(uri) for uri in recorded.output_uri.dropna()}
    images = {path for path in (out / "images").rglob("*") if path.is_file()}
    assert images == stored
    made = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert all(path.is_relative_to(out) for path in made)
