"""Encoded prompts on their way from one actor to another, by way of the output's storage.

One takes several MB, and as a rule all photos have the same. So an actor sends a prompt with the
first photo, and from the second on stores it once, in the folder ``prompts/``, and sends its name.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from manifests.storage.path import StoragePath
from stages.models.refiners.prompts import Prompt

#: Prompts that an actor keeps.
_MAX_KEPT = 8

#: Texts that an actor remembers having sent.
_MAX_NAMES = 1000


class SharedPrompts:
    """Stores and loads the prompts of one actor.

    Args:
        output: the run's output folder.
    """

    def __init__(self, output: str) -> None:
        self._folder = StoragePath.of(output) / "prompts"
        self._names: dict[str, str] = {}
        self.load = lru_cache(_MAX_KEPT)(self._load)

    def share(self, prompt: Prompt) -> str:
        """Store a prompt that was sent before, and return its name; empty: it is new, so send it.

        Raises:
            OutputError: ``output.not_writable``.
        """
        text = prompt.text_hash
        if text not in self._names:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            self._names[text] = ""
        elif not self._names[text]:
            data = prompt.to_bytes()
            name = f"{hashlib.sha256(data).hexdigest()}.npz"
            (self._folder / name).write(data)
            self._names[text] = name
        return self._names[text]

    def _load(self, name: str) -> Prompt:
        """Load a prompt by its name; the same one again is the same object."""
        return Prompt.from_bytes((self._folder / name).read())
