"""Number formats, batches and memory of the devices that networks run on.

A GPU's own memory is not shown here: LaMa's tests run batches that do not fit.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from stages.models.devices import BatchLimit, choose_device, resolve_dtype, run_in_batches


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def run(batch: object) -> list[int]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_in_batches(run, [1, 2], BatchLimit(2))


def test_bfloat16_is_chosen_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = choose_device("cpu")
    for has_it, chosen in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert resolve_dtype("auto", cpu) == chosen
    assert resolve_dtype("float16", cpu) == torch.float16


_FAULTS = """
import resource, sys
from stages.models.devices import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * (40 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again() -> None:
    def faults(how: str) -> int:
        call = [sys.executable, "-c", _FAULTS, how]
        return int(subprocess.run(call, capture_output=True, text=True, check=True).stdout)

    pages = (40 << 20) // resource.getpagesize()
    assert faults("keep") < 2 * pages
    assert faults("give back") > 3 * pages, "else there is nothing to do"
