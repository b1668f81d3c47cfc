"""What the command line prints, whoever reads it: a closed pipe, a full disk, a stalled terminal.

:func:`guard` puts a :class:`Stream` in the place of ``sys.stdout`` and ``sys.stderr``, so that one
rule holds for all that writes there: rich, typer, logging, warnings, and Python itself at its end.

A command whose output is its product (``status``) ends when it cannot print: quietly where the
reader left, else with an error. A command that works (``run``) calls :func:`keep_working` first;
from then on output that nobody takes is dropped, and the work and its exit code stay the same.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
import threading

#: How long a reader that does not read (a terminal stopped by ^S, a stalled connection) holds up a
#: command that works, in s; until it reads again, nothing waits for it any more.
_PATIENCE_S = 5.0

#: For a terminal or a log in ASCII. Other characters become escapes, so that names stay distinct.
_ASCII_FORMS = {"▸": ">", "…": "...", "\u00d7": "x", "\u2013": "-", "\xa0": " "}

_ERRORS = "catalog-cleanup-ascii"

#: What needs no comment: the reader has left, or there was none from the start.
_EXPECTED = (errno.EPIPE, errno.EBADF, errno.EIO)


class OutputLostError(OSError):
    """A command whose product is its output could not print it."""


class Stream(io.TextIOBase):
    """A text stream over a file descriptor, without a buffer: each call writes, or drops.

    Without a buffer a signal's handler may print, too, and nothing is left to do at exit.

    Args:
        descriptor: to write to.
        name: for people.
        encoding: of the text; characters that it lacks get another form, and never raise.
        essential: whether a failure ends the command; see the module.
        was_closed: it was closed when the program started; the descriptor is of nothing.
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
        self._patience_s = _PATIENCE_S
        self._has_failed = False
        self._lock = threading.RLock()  # a signal's handler may print in the midst of a line

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the text."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """The name of what replaces characters that the encoding lacks."""
        return _ERRORS

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor, for native libraries."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal reads."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Write all of the text.

        Raises:
            BrokenPipeError: essential output, and its reader has left.
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
                    continue  # somebody else made it non-blocking: wait until there is room
                except OSError as error:
                    self._fail(error)
                    return len(text)
        return len(text)

    def _is_ready(self) -> bool:
        """Wait for room; False: what is to be written now is dropped."""
        if self._was_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        is_ready = bool(poll.poll(None if self.essential else self._patience_s * 1000))
        self._patience_s = _PATIENCE_S if is_ready else 0.0
        return is_ready

    def _fail(self, error: OSError) -> None:
        if self.essential:
            if error.errno == errno.EPIPE:
                raise error
            raise OutputLostError(error.errno, error.strerror, self._name) from error
        if not self._has_failed and error.errno not in _EXPECTED and self is not sys.stderr:
            sys.stderr.write(f"note: {self._name}: {error.strerror}. The work goes on.\n")
        self._has_failed = True


def guard() -> None:
    """Make the process's standard streams such that writing to them is safe.

    Descriptors that were closed are opened on nothing: else the next file opened would get their
    number, and what child processes and native libraries print.
    """
    codecs.register_error(_ERRORS, _in_ascii)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        given = getattr(sys, name)
        if given is getattr(sys, f"__{name}__"):  # nobody else has put something there
            encoding = given.encoding if given else "utf-8"
            is_essential, was_closed = name == "stdout", given is None
            stream = Stream(
                descriptor, name, encoding, essential=is_essential, was_closed=was_closed
            )
            setattr(sys, name, stream)


def keep_working() -> None:
    """From now on what this process does matters, and not whether anybody reads of it."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.essential = False


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    forms = (
        _ASCII_FORMS.get(each) or each.encode("ascii", "backslashreplace").decode()
        for each in lacking
    )
    return "".join(forms), error.end
