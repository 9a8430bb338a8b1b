"""Network namespaces: make, enter, and run commands in them.

A process or thread changes namespace by setns(2); sockets keep the namespace
they were opened in, so one process can hold sockets in many hosts.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from topologies.errors import CommandError, NamespaceError

NAMED_FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def named_path(name: str) -> Path:
    return NAMED_FOLDER / name


def exists(name: str) -> bool:
    return named_path(name).exists()


def create(name: str) -> None:
    """Make a named namespace with its loopback up and IPv6 off.

    IPv6 off before any interface exists, so that the kernel never emits
    router solicitations or MLD reports on switch ports.
    """
    if exists(name):
        raise NamespaceError(
            f"network namespace {name} exists already; remove that run first (testbed.sh clean)"
        )
    run(["ip", "netns", "add", name])
    with inside(named_path(name)):
        disable_ipv6()
        run(["ip", "link", "set", "lo", "up"])


def delete(name: str) -> None:
    """Remove a named namespace; nothing to do when it is not there."""
    if exists(name):
        run(["ip", "netns", "delete", name])


def disable_ipv6() -> None:
    """In the current namespace; a kernel without IPv6 needs nothing."""
    for scope in ("all", "default"):
        knob = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if knob.exists():
            knob.write_text("1")


def enter(path: str | Path) -> None:
    """Move the calling thread (and threads it starts later) into a namespace."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceError(f"no network namespace at {path}: {error.strerror}") from error
    try:
        _setns(descriptor, str(path))
    finally:
        os.close(descriptor)


def _setns(descriptor: int, what: str) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise NamespaceError(f"cannot enter {what}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def inside(path: str | Path) -> Iterator[None]:
    """The calling thread is in that namespace within the `with` block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path)
        try:
            yield
        finally:
            _setns(home, "the namespace it came from")
    finally:
        os.close(home)


def socket_in(path: str | Path, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that lives in that namespace, whatever the caller's own."""
    with inside(path):
        return socket.socket(family, kind, protocol)


def same(left: str | Path, right: str | Path) -> bool:
    """Are these two paths one namespace?"""
    a, b = os.stat(left), os.stat(right)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def command_in(path: str | Path, command: Sequence[str]) -> list[str]:
    """`command` as it must be started to run in that namespace."""
    return ["nsenter", f"--net={path}", "--", *command]


def run_in(path: str | Path, command: Sequence[str], timeout_s: float = 30.0) -> str:
    """Run to its end in that namespace; its output. Raises `CommandError`."""
    return run(command_in(path, command), timeout_s=timeout_s)


def run(
    command: Sequence[str],
    stdin: str | None = None,
    timeout_s: float = 30.0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run to its end; its standard output. Raises `CommandError` with its own words."""
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=dict(environment) if environment is not None else None,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(command)[:200]} took over {timeout_s:.0f} s") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "no message")[:2000]
        raise CommandError(f"{' '.join(command)[:200]}: status {done.returncode}: {words}")
    return done.stdout


def try_in_scratch(command: str) -> str | None:
    """None when the shell commands work in a namespace of their own; else their last words."""
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
    return said[-1]
