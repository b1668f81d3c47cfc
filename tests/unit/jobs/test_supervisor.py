"""When workers that fail are replaced, and when they end the run; actors are in ``faults/``."""

from __future__ import annotations

from jobs.pipeline.supervisor import Supervisor


def test_a_run_ends_after_three_failures_of_each_worker_without_progress() -> None:
    supervisor = Supervisor(1.0)
    for _ in range(2):  # from the start, and again after photos were done
        pauses = [supervisor.report_failure(0, 2, "node", loading=False) for _ in range(6)]
        assert None not in pauses[:5]
        assert pauses[5] is None
        supervisor.report_progress(0)
    assert supervisor.report_failure(1, 2, "node", loading=False) == 1.0, "of another pool"


def test_pauses_grow_by_node_up_to_a_minute() -> None:
    supervisor = Supervisor(1.0)
    pauses = [supervisor.report_failure(0, 100, "one", loading=False) for _ in range(8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert supervisor.report_failure(0, 100, "other", loading=False) == 1.0


def test_loading_that_worked_once_is_tried_for_ever() -> None:
    supervisor = Supervisor(1.0)
    supervisor.report_loaded(0)
    pauses = [supervisor.report_failure(0, 1, "node", loading=True) for _ in range(5)]
    assert None not in pauses
    assert supervisor.report_failure(0, 1, "node", loading=False) is None
