"""Condenses Ray's long error messages into the one-line cause of a worker's death."""

from __future__ import annotations

import re

#: Phrases that begin Ray's guesses and advice, which follow the facts in its messages.
_ADVICE = re.compile(
    "Failed to apply UDF transform after|Some common causes include|There are some potential root "
    "causes|Object store memory usage:|To see more information|Top 10 memory users|Refer to the "
    "documentation|The task may or may not"
)

#: Between the exceptions of a traceback, the innermost of which comes first.
_NEXT_EXCEPTION = re.compile(
    "\n\n(?:The above exception was the direct cause of|During handling of the above exception)"
)

#: The lines of a traceback before the message: Ray's head, Python's head and frames.
_FRAME = re.compile(r"^(?:.*ray::.* \(pid=.*|Traceback .*|  .*)$\n?", re.MULTILINE)

_MAX_CHARACTERS = 500


def cause_of(error: BaseException) -> str:
    """Format the root cause of an error that Ray raised: its type and message.

    The root cause is the innermost exception that a worker raised. If there is none, it is what Ray
    knows about the worker's end, such as its exit code or the node's memory. Ray's advice is
    removed.
    """
    from ray.exceptions import RayTaskError

    text = None
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        text = _innermost(str(error))
        error = error.cause
    text = text or f"{type(error).__name__}: {error}"
    known = [line for line in _ADVICE.split(text)[0].splitlines() if not line.startswith("\t")]
    line = " ".join(" ".join(known).split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 1]}…"


def _innermost(trace: str) -> str | None:
    """The type and message of the first exception in a traceback of several, else None."""
    first, *others = _NEXT_EXCEPTION.split(trace)
    message = _FRAME.split(first)[-1]
    return message if others and message.strip() else None
