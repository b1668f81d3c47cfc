"""What Ray Data's blocks weigh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.data._internal.execution.streaming_executor import StreamingExecutor


@dataclass(slots=True)
class Blocks:
    """Those that tasks made.

    Attributes:
        bytes: of all of them.
    """

    bytes: int = 0


@contextmanager
def counted_blocks() -> Iterator[Blocks]:
    """Count what goes through Ray's object store in datasets that end within the block."""
    from ray.data import DataContext  # noqa: PLC0415 - slow to load
    from ray.data._internal.execution.execution_callback import ExecutionCallback  # noqa: PLC0415

    found = Blocks()

    class Count(ExecutionCallback):
        def after_execution_succeeds(self, executor: StreamingExecutor) -> None:
            for operator in executor._topology or ():
                made: Any = operator.metrics
                found.bytes += made.bytes_task_outputs_generated

    context = DataContext.get_current()
    kept = list(context.custom_execution_callback_classes)
    context.custom_execution_callback_classes = [*kept, Count]
    try:
        yield found
    finally:
        context.custom_execution_callback_classes = kept
