"""Checks within seconds whether an address can be a Ray cluster's; Ray itself takes minutes."""

from __future__ import annotations

import os
import socket

_CONNECT_TIMEOUT_S = 10.0

#: The head of a cluster with thousands of nodes responds slowly.
_ANSWER_TIMEOUT_S = 30.0

#: First bytes of an HTTP/2 connection, which gRPC uses: the client's preface and an empty
#: SETTINGS frame (RFC 9113).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

#: Frame type of the server's reply, SETTINGS; it follows 3 bytes of length.
_SETTINGS = 4


def check_is_ray(address: str) -> None:
    """Connect, and check that a gRPC server responds.

    Args:
        address: ``HOST:PORT``, with or without a scheme; ``auto`` is not checked, since Ray then
            finds a cluster itself.

    Raises:
        ValueError, OverflowError: it is not an address.
        OSError: nothing listens there, or the listener is not Ray (ConnectionError).
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
        answer = _read_reply(connection)
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise ConnectionError(
            "the server there is not the head of a Ray cluster (8265 is its dashboard's port); the "
            f"cluster's address is usually {host}:6379"
        )


def _read_reply(connection: socket.socket) -> bytes:
    """Send the HTTP/2 preface; return the first bytes of the reply."""
    connection.sendall(_PREFACE)
    answer = b""
    while len(answer) < 4 and (more := connection.recv(4096)):
        answer += more
    return answer
