"""The examples for notebooks in ``stages/README.md`` run as they are written there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support import DEMO

README = Path(__file__).parents[3] / "stages" / "README.md"


def test_the_examples_for_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.read_text("utf-8").partition("\n## In a notebook\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    shutil.copy(DEMO / "photos" / "coffee-stray-coins.jpg", tmp_path / "photo.jpg")
    shutil.copy(DEMO / "masks" / "coffee-stray-coins.png", tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)  # noqa: S102 - our own examples
    assert (tmp_path / "clean.jpg").read_bytes()[:2] == b"\xff\xd8"
