"""Find out in seconds whether a Ray cluster can be behind an address; Ray itself takes minutes."""

from __future__ import annotations

import os
import socket

_CONNECT_TIMEOUT_S = 10.0

#: A head that works for thousands of nodes takes its time.
_ANSWER_TIMEOUT_S = 30.0

#: How HTTP/2, which Ray's gRPC runs on, begins: the client's preface, and no settings (RFC 9113).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

#: A server answers with its settings: 3 bytes of length, then this kind of frame.
_SETTINGS = 4


def check_listening(address: str) -> None:
    """Connect, and see that gRPC is spoken there.

    Args:
        address: ``HOST:PORT``, also behind a scheme; ``auto``, by which Ray looks for one itself.

    Raises:
        ValueError, OverflowError: it is no address.
        OSError: nobody listens, or something else than Ray does (ConnectionError).
    """
    if address == "auto":
        return
    host, separator, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    if not (separator and port.isdigit()):
        raise ValueError("an address is HOST:PORT, such as HEAD:6379")
    with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return  # Ray checks certificates itself
        connection.settimeout(_ANSWER_TIMEOUT_S)
        answer = _ask(connection)
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise ConnectionError(
            "what listens there is no head of a Ray cluster (8265 is its dashboard's port); the "
            f"cluster's address is {host}:6379 or the like"
        )


def _ask(connection: socket.socket) -> bytes:
    """The beginning of the answer to a client of HTTP/2."""
    connection.sendall(_PREFACE)
    answer = b""
    while len(answer) < 4 and (more := connection.recv(4096)):
        answer += more
    return answer
