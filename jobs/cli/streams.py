"""Safe standard streams: they handle a closed pipe, a full disk and a stalled terminal.

:func:`guard` replaces ``sys.stdout`` and ``sys.stderr`` by a :class:`Stream`, so that the same rule
applies to rich, typer, logging, warnings and the interpreter's shutdown.

A command whose output is its result (``status``) ends when it cannot print: silently if the reader
closed the pipe, otherwise with an error. A command that works (``run``) first calls
:func:`tolerate_lost_output`. From then on output that cannot be written is dropped, and the exit
code stays the same.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading

#: How long a stalled reader (a terminal stopped by ^S, a stalled connection) can delay a command
#: that works, s. Afterwards output is dropped until it reads again.
_STALL_TIMEOUT_S = 5.0

#: Other characters than the encoding's become escapes, so that names stay distinct.
_ERRORS = "backslashreplace"

#: Errors that are not reported: the reader has closed the stream, or there never was one.
_EXPECTED = (errno.EPIPE, errno.EBADF, errno.EIO)


class OutputLostError(OSError):
    """A command whose result is its output could not print it."""


class Stream(io.TextIOBase):
    """An unbuffered text stream over a file descriptor.

    Since it is unbuffered, signal handlers can print, and nothing is left to flush at exit.

    Args:
        descriptor: file descriptor to write to.
        name: of the stream, for messages.
        encoding: of the text; characters that it does not support are replaced.
        essential: whether a failure ends the command; see the module.
        was_closed: whether it was closed when the program started.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        encoding: str,
        *,
        essential: bool,
        was_closed: bool = False,
    ) -> None:
        self._descriptor, self._name, self._encoding = descriptor, name, encoding
        self._was_closed = was_closed
        self.essential = essential
        self._timeout_s = _STALL_TIMEOUT_S
        self._has_failed = False
        self._lock = threading.RLock()  # a signal handler may print in the middle of a line

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the text."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """The name of the error handler for unsupported characters."""
        return _ERRORS

    def writable(self) -> bool:
        """Always True."""
        return True

    def fileno(self) -> int:
        """The descriptor, for native libraries."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Write all of the text.

        Raises:
            BrokenPipeError: essential output, and the reader has closed the pipe.
            OutputLostError: essential output, and another failure.
        """
        data = memoryview(text.encode(self._encoding, _ERRORS))
        with self._lock:
            while data:
                try:
                    if not self._is_ready():
                        return len(text)
                    data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
                except BlockingIOError:
                    continue  # another process made it non-blocking: wait until there is room
                except OSError as error:
                    self._fail(error)
                    return len(text)
        return len(text)

    def _is_ready(self) -> bool:
        """Wait until the stream can be written; False: drop the output."""
        if self._was_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        is_ready = bool(poll.poll(None if self.essential else self._timeout_s * 1000))
        self._timeout_s = _STALL_TIMEOUT_S if is_ready else 0.0
        return is_ready

    def _fail(self, error: OSError) -> None:
        if self.essential:
            if error.errno == errno.EPIPE:
                raise error
            raise OutputLostError(error.errno, error.strerror, self._name) from error
        if not self._has_failed and error.errno not in _EXPECTED and self is not sys.stderr:
            sys.stderr.write(f"note: {self._name}: {error.strerror}. The run continues.\n")
        self._has_failed = True


def guard() -> None:
    """Replace the standard streams of this process by safe ones.

    Closed descriptors are opened on /dev/null. Otherwise the next opened file would get their
    number, and receive the output of child processes and native libraries.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        original = getattr(sys, name)
        if original is getattr(sys, f"__{name}__"):  # not yet replaced, e.g. by a test
            encoding = original.encoding if original else "utf-8"
            is_essential, was_closed = name == "stdout", original is None
            stream = Stream(
                descriptor, name, encoding, essential=is_essential, was_closed=was_closed
            )
            setattr(sys, name, stream)


def tolerate_lost_output() -> None:
    """From now on, drop output that cannot be written, instead of ending the process."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.essential = False
