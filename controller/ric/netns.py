"""Sockets inside other network namespaces.

A socket belongs to the namespace it was made in, for ever.  So a short-lived
thread joins the namespace, makes the socket and ends: the process itself stays
where it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable

from controller.ric.errors import StartError

CLONE_NEWNET = 0x40000000
LISTEN_BACKLOG = 128
UDP_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)

MakeSocket = Callable[[], socket.socket]


def make_in_namespace(netns_path: str, make: MakeSocket) -> socket.socket:
    """`make()` called in that namespace; raises what it raises, or OSError when it is gone."""
    outcome: list[socket.socket | BaseException] = []

    def join_and_make() -> None:
        try:
            descriptor = os.open(netns_path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Python 3.11 has no os.setns; glibc's works on the calling thread.
                if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns {netns_path}: {os.strerror(number)}")
            finally:
                os.close(descriptor)
            outcome.append(make())
        except BaseException as error:  # handed to the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=join_and_make, name="setns")
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def http_listener(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return _bound(listener, address, port, lambda: listener.listen(LISTEN_BACKLOG))


def udp_receiver(address: str, port: int) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_RECEIVE_BUFFER_BYTES)
    return _bound(receiver, address, port, lambda: None)


def _bound(
    bound: socket.socket, address: str, port: int, then: Callable[[], None]
) -> socket.socket:
    try:
        bound.bind((address, port))
        then()
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def open_socket(make: MakeSocket, what: str, hint: str, netns_path: str | None) -> socket.socket:
    """The socket, or `StartError` in one line; `netns_path` None: this namespace."""
    try:
        return make() if netns_path is None else make_in_namespace(netns_path, make)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{what} is in use; {hint}") from None
        raise StartError(f"cannot listen on {what}: {error.strerror or error}") from None
