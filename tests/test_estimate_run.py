"""A prediction held against a real run: Ray's scheduler, queues and actors on pretended nodes.

What it misses: real models, whose times vary, and the start of nodes, which on a machine that is
busy otherwise takes as long as it likes.
"""

from __future__ import annotations

import pytest

from jobs.bench.estimate import fixed, predict, traced_run
from jobs.stand_ins import StandIns


def test_a_run_takes_as_long_as_was_predicted() -> None:
    pools, stand_ins, photos = fixed(3), StandIns(remove_s=0.1, refine_s=1.5), 60
    began, ended = predict(photos, stand_ins, pools).busy[2]
    assert ended - began == pytest.approx(60 * 1.5 / 3, rel=0.1), "20 photos each"
    trace = traced_run(photos, stand_ins, pools)
    assert len(trace.began) == 3, "each actor worked"
    assert trace.busy_s == pytest.approx(ended - began, rel=0.15)
