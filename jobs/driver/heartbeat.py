"""The heartbeat of a run, and its graceful stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Literal

from manifests.errors import CatalogCleanupError
from manifests.runs import HEARTBEAT_S, LEASE_S, RunRecord

#: Interval at which the run checks for a stop request.
_POLL_S = 2.0

#: Seconds that go on while the machine is suspended, as they do for other runs; on Linux
#: ``time.monotonic`` stands still then.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

#: A closed terminal sends SIGHUP.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Heartbeat:
    """Writes heartbeats while the run works, and receives requests to stop it.

    Args:
        record: the record of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._rows = 0
        self._started_at: float | None = None
        #: Called before each heartbeat; and at intervals once a stop is requested.
        self.on_beat: Callable[[], None] = _nothing
        self.on_stop: Callable[[], None] = _nothing
        self._calling = threading.Lock()
        self._stop_requested = threading.Event()
        self._ended = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether no new rows are started."""
        return self._stop_requested.is_set()

    def advance(self, rows: int) -> None:
        """Count further recorded rows."""
        if self._started_at is None:  # the start-up of actors does not count for the rate
            self._started_at = _now()
            return
        self._rows += rows

    def request_stop(self) -> None:
        """Finish the rows in flight, and start no others."""
        self._stop_requested.set()

    def run(self) -> None:
        """Write heartbeats until the run ends; runs in its own thread.

        If they were late for so long that another run took over, this one stops.
        """
        is_recorded = False
        beat_at = _now() - HEARTBEAT_S
        while not self._ended.wait(min(_POLL_S, HEARTBEAT_S)):
            # A temporary storage error may pass until the next heartbeat; else it stops the run.
            with suppress(CatalogCleanupError, OSError):
                if self._stop_requested.is_set() and not is_recorded:
                    self._record.request_stop()
                    is_recorded = True
                elif not is_recorded and self._record.stop_requested:
                    self._stop_requested.set()
                    is_recorded = True
                if self._stop_requested.is_set():
                    self._call("on_stop")
                if _now() - beat_at >= HEARTBEAT_S:
                    self._call("on_beat")
                    self._record.beat(rows_per_s=self._rate())
                    if _now() - beat_at >= LEASE_S and self._record.successor():
                        self._stop_requested.set()
                    beat_at = _now()

    def disconnect(self) -> None:
        """Call ``on_beat`` and ``on_stop`` no more, and wait until such a call has returned.

        Called before Ray is shut down, which they use: they would connect to it again.
        """
        with self._calling:
            self.on_beat = self.on_stop = _nothing

    def end(self) -> None:
        """Stop the heartbeats."""
        self._ended.set()

    def _rate(self) -> float:
        """Rows a second since the first ones were recorded."""
        seconds = _now() - self._started_at if self._started_at is not None else 0.0
        return round(self._rows / seconds, 3) if seconds > 0 else 0.0

    def _call(self, name: Literal["on_beat", "on_stop"]) -> None:
        # Without a heartbeat, others would consider this run dead: that outweighs any error.
        with self._calling, suppress(Exception):
            getattr(self, name)()


def _nothing() -> None:
    pass


def _now() -> float:
    return time.clock_gettime(_CLOCK)


@contextmanager
def heartbeat(record: RunRecord) -> Iterator[Heartbeat]:
    """Write heartbeats within the block."""
    heart = Heartbeat(record)
    beats = threading.Thread(target=heart.run, name="heartbeat", daemon=True)
    beats.start()
    try:
        yield heart
    finally:
        heart.end()
        beats.join(_POLL_S)  # it may be waiting for storage, for minutes


@contextmanager
def graceful_stop(heart: Heartbeat, log: Callable[[str], None]) -> Iterator[None]:
    """Within the block, SIGINT, SIGTERM and SIGHUP stop the run gracefully.

    Enter it when Ray is connected, which sets a handler of its own, and leave it before Ray is
    shut down. SIGHUP is left alone if it is already ignored, so that ``nohup`` works.

    Args:
        heart: the run's.
        log: called with one line when a signal arrives. A second signal ends the run at once, with
            ``KeyboardInterrupt``.
    """

    def stop(number: int, _: FrameType | None) -> None:
        if heart.is_stopping:
            raise KeyboardInterrupt
        heart.request_stop()
        log(f"{signal.Signals(number).name}: stopping after the photos in flight ...")

    before = {number: signal.signal(number, stop) for number in _handled_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        heart.disconnect()


def _handled_signals() -> list[signal.Signals]:
    """The signals to handle; none outside the main thread, where Python does not allow handlers."""
    if threading.current_thread() is not threading.main_thread():
        return []
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [each for each in _SIGNALS if not (nohup and each == signal.SIGHUP)]
