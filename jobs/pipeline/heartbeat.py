"""The run's signs of life, and its graceful end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from manifests.errors import CatalogCleanupError
from manifests.runs import HEARTBEAT_S, RunRecord

#: How often the run looks whether somebody has asked it to stop.
_POLL_S = 2.0

#: A terminal that goes away hangs up (SIGHUP).
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Heartbeat:
    """Beats while the run works, and hears when it is to stop.

    Args:
        record: of the run.
        rows: still to be done when it began.
        measure: tells more for each beat, at the time of it.
    """

    def __init__(
        self, record: RunRecord, rows: int, measure: Callable[[], Mapping[str, float]]
    ) -> None:
        self._record, self._measure = record, measure
        self._rows, self._ok, self._failed = rows, 0, 0
        self._began: float | None = None
        self._asked = threading.Event()
        self._ended = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether no new rows are begun any more."""
        return self._asked.is_set()

    def advance(self, ok: int, failed: int) -> None:
        """So many more rows are recorded."""
        if self._began is None:  # actors take a while to start; that is not their pace
            self._began = time.monotonic()
            return
        self._ok += ok
        self._failed += failed

    def request_stop(self) -> None:
        """Let the rows in flight end, and begin no others."""
        self._asked.set()

    def run(self) -> None:
        """Beat until the run ends; for a thread of its own."""
        told = False
        beaten = -HEARTBEAT_S
        while not self._ended.wait(min(_POLL_S, HEARTBEAT_S)):
            # A storage that does not answer now will answer the next time, or stop the run.
            with suppress(CatalogCleanupError, OSError):
                if self._asked.is_set() and not told:
                    self._record.request_stop()
                    told = True
                elif not told and self._record.stop_requested:
                    self._asked.set()
                    told = True
                if time.monotonic() - beaten >= HEARTBEAT_S:
                    self._record.beat(**self._progress(), **self._measure())
                    beaten = time.monotonic()

    def end(self) -> None:
        """Beat no more."""
        self._ended.set()

    def _progress(self) -> dict[str, float]:
        seconds = time.monotonic() - self._began if self._began is not None else 0.0
        done = self._ok + self._failed
        return {
            "rows": self._rows,
            "ok": self._ok,
            "failed": self._failed,
            "rows_per_s": round(done / seconds, 3) if seconds > 0 else 0.0,
        }


@contextmanager
def heartbeat(
    record: RunRecord,
    rows: int,
    tell: Callable[[str], None],
    measure: Callable[[], Mapping[str, float]] = dict,
) -> Iterator[Heartbeat]:
    """Show signs of life within the block; SIGINT, SIGTERM and SIGHUP end the run gracefully.

    SIGHUP does not where it is ignored from the start: ``nohup`` lets a run outlive its terminal.

    Args:
        record: of the run.
        rows: still to be done.
        tell: hears of the signal. A second one ends the run at once, with ``KeyboardInterrupt``.
        measure: tells more for each beat.
    """
    line = Heartbeat(record, rows, measure)

    def stop(number: int, _: FrameType | None) -> None:
        if line.is_stopping:
            raise KeyboardInterrupt
        line.request_stop()
        tell(f"{signal.Signals(number).name}: ending with the photos in flight ...")

    before = {number: signal.signal(number, stop) for number in _caught()}
    beats = threading.Thread(target=line.run, name="heartbeat", daemon=True)
    beats.start()
    try:
        yield line
    finally:
        line.end()
        beats.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _caught() -> list[signal.Signals]:
    """None but in the main thread; elsewhere whoever started the thread deals with them."""
    if threading.current_thread() is not threading.main_thread():
        return []
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [each for each in _SIGNALS if not (nohup and each == signal.SIGHUP)]
