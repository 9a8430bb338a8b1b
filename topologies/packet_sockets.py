"""Room in the sockets of a running vswitchd, without touching a sysctl of the machine.

In userspace mode all ports send through one AF_PACKET socket.  Frames waiting in
any port's queue are charged to its send buffer, so with the kernel's default
(about 92 frames) one congested queue makes every other port lose frames, and
nobody counts them.  Each port receives through a socket of its own, with the same
default: 6 ms of a 150 Mbit/s flood, less than one stall of a busy machine.
We take duplicates of these sockets out of the process (pidfd_getfd, Linux 5.6)
and enlarge both buffers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from topologies.errors import RequirementError, SwitchError

LEAST_SEND_BUFFER_BYTES = 16 * 1024 * 1024
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""Of each port. Taken only while frames wait."""
_PIDFD_GETFD = 438  # the same number on every architecture (Linux 5.6)
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class PacketSocket:
    """An AF_PACKET socket of another process. Sending ones are bound to no interface."""

    descriptor: int
    sends: bool
    granted_send_bytes: int
    granted_receive_bytes: int


def duplicate(pidfd: int, descriptor: int) -> int:
    """A descriptor of ours for another process's `descriptor`. Raises OSError."""
    got: int = _LIBC.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
    if got < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return got


def can_duplicate() -> bool:
    """Does this kernel have pidfd_getfd, and may we use it?"""
    reader, writer = os.pipe()
    try:
        pidfd = os.pidfd_open(os.getpid())
        try:
            os.close(duplicate(pidfd, reader))
        finally:
            os.close(pidfd)
    except OSError:
        return False
    finally:
        os.close(reader)
        os.close(writer)
    return True


def enlarge(pid: int, wanted_bytes: int) -> list[PacketSocket]:
    """Give every AF_PACKET socket of `pid` its buffers (send: `wanted_bytes`); read them back.

    Raises `RequirementError` when the kernel cannot, `SwitchError` when the
    process has no sending socket (it has sent nothing yet) or the size did not take.
    """
    sockets = _resize_all(pid, wanted_bytes)
    if not any(s.sends for s in sockets):
        raise SwitchError(f"process {pid} has no sending packet socket: it has sent nothing yet")
    for s in sockets:
        if s.granted_send_bytes < wanted_bytes or s.granted_receive_bytes < RECEIVE_BUFFER_BYTES:
            raise SwitchError(f"buffers of process {pid} did not take: {s}")
    return sockets


def _resize_all(pid: int, wanted_bytes: int) -> list[PacketSocket]:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise SwitchError(f"process {pid} is gone") from error
    try:
        found = (_resize(pidfd, d, wanted_bytes) for d in _sockets_of(pid))
        return [s for s in found if s is not None]
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            raise RequirementError(f"pidfd_getfd is not usable here: {error.strerror}") from error
        raise
    finally:
        os.close(pidfd)


def _sockets_of(pid: int) -> list[int]:
    descriptors = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(entry).startswith("socket:"):
                descriptors.append(int(entry.name))
        except FileNotFoundError:
            continue  # closed since it was listed
    return descriptors


def _resize(pidfd: int, descriptor: int, wanted_bytes: int) -> PacketSocket | None:
    try:
        ours = duplicate(pidfd, descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None  # closed since it was listed
        raise
    with socket.socket(fileno=ours) as handle:
        if handle.family != socket.AF_PACKET:
            return None
        handle.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, wanted_bytes)
        handle.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        interface = handle.getsockname()[0]
        return PacketSocket(
            descriptor,
            sends=not interface,
            granted_send_bytes=handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            granted_receive_bytes=handle.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        )
