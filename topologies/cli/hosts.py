"""Commands in a host's network namespace: exec, shell, capture."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from controller.contracts.addressing import slice_prefix
from controller.contracts.run_folder import RunFolder
from topologies.cli import pcapng, terminal
from topologies.cli.errors import CommandRefused
from topologies.cli.northbound import running
from topologies.cli.running import require_root
from topologies.manifest import RUN_ID_VARIABLE

if TYPE_CHECKING:  # a document's schema takes long to load
    from controller.contracts.inventory import Host, Inventory
    from controller.contracts.slices import Slice

COMMAND_NOT_FOUND = 127

HostName = Annotated[str, typer.Argument(metavar="HOST", help="A user, a server, or centre.")]


def inventory_of(run: RunFolder) -> Inventory:
    """As it was built."""
    from controller.contracts.inventory import Inventory

    return Inventory.load(run.inventory)


def host_of(inventory: Inventory, name: str) -> Host:
    for host in inventory.hosts:
        if host.name == name:
            return host
    known = ", ".join(host.name for host in inventory.hosts)
    raise CommandRefused(f"unknown host {name!r}; known: {known}")


def slice_of(inventory: Inventory, text: str) -> Slice:
    """By name or S-NSSAI (`1-000001`)."""
    for slice_ in inventory.slices:
        if text.lower() in (slice_.name, str(slice_.s_nssai)):
            return slice_
    known = ", ".join(f"{s.name} ({s.s_nssai})" for s in inventory.slices)
    raise CommandRefused(f"unknown slice {text!r}; known: {known}")


def _enter(name: str, command: list[str]) -> None:
    """Become `command` in the host's namespace: its output and status are ours."""
    require_root()
    run = running()
    host = host_of(inventory_of(run), name)
    if not Path(host.netns_path).exists():
        raise CommandRefused(f"host {name} is gone; see ./testbed.sh status, or ./testbed.sh clean")
    if shutil.which(command[0]) is None:
        raise CommandRefused(f"{command[0]}: command not found", COMMAND_NOT_FOUND)
    # mnexec enters the host's mount namespace too, so that /sys shows the host's interfaces.
    # With the run's id in its environment it ends with the testbed, like the host it is in.
    environment = {**os.environ, RUN_ID_VARIABLE: run.run_id}
    os.execvpe("mnexec", ["mnexec", "-a", str(host.pid), *command], environment)


def exec_(
    host: HostName,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="After `--`.")],
) -> None:
    """Run a command in a host's network namespace; output and exit status are the command's.

    \b
    Examples:
      ./testbed.sh exec ue1 -- ip address
      ./testbed.sh exec edge1 -- iperf3 -s
    """
    _enter(host, without_separator(command))


def without_separator(words: list[str]) -> list[str]:
    """The command after an optional `--`."""
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise CommandRefused("which command? e.g. ./testbed.sh exec ue1 -- ip address", 2)
    return command


def shell(host: HostName) -> None:
    """Open a shell in a host's network namespace; leave it with exit.

    \b
    Example:
      ./testbed.sh shell ue1
    """
    print(f"shell in {host}; leave with exit", flush=True)
    _enter(host, [os.environ.get("SHELL") or "/bin/bash"])


def capture(
    slice_: Annotated[str, typer.Argument(metavar="SLICE", help="Name or S-NSSAI of a slice.")],
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    duration: Annotated[
        float | None, typer.Option(help="Seconds; until Ctrl-C when not given.", min=0.1)
    ] = None,
) -> None:
    """Write a slice's packets at the access points' air ports to a pcapng file.

    One interface per cell; what leaves towards the users and what they send.

    \b
    Examples:
      ./testbed.sh capture urllc urllc.pcapng --duration 5
      ./testbed.sh capture 1-000001 embb.pcapng        # until Ctrl-C
    """
    from controller.contracts.live_slices import current_inventory

    require_root()
    run = running()
    inventory = current_inventory(run)
    prefix = slice_prefix(slice_of(inventory, slice_).slice_id)
    if file.suffix != ".pcapng":
        raise CommandRefused(f"{file}: the file's name must end in .pcapng")
    interfaces = [
        port.interface
        for cell in inventory.cells
        for port in inventory.ports
        if port.switch == cell.switch and port.port_no == cell.down_port
    ]
    try:
        output = file.open("wb")
    except OSError as error:
        raise CommandRefused(f"cannot write {file}: {error.strerror}") from error
    with output:
        writer = CaptureFile(output, interfaces)
        captures = [_tcpdump(run.namespace, interface, prefix) for interface in interfaces]
        _copy_until_ended(captures, writer, duration, f"capturing {prefix}")
    print(f"{writer.packets} packets of {prefix} at {', '.join(interfaces)} written to {file}")


_LISTENING_WITHIN_S = 5.0
"""Then the time counts all the same."""


class CaptureFile:
    """A pcapng file that several capturing threads write to."""

    def __init__(self, output: IO[bytes], interfaces: list[str]) -> None:
        self._output = output
        self._lock = threading.Lock()
        self.packets = 0
        output.write(pcapng.section_header())
        for name in interfaces:
            output.write(pcapng.interface_description(name))

    def copy(
        self, interface_index: int, stream: IO[bytes], on_header: Callable[[], object]
    ) -> None:
        """Add every packet of a pcap stream, until it ends; `on_header`: it has begun."""
        for at_ns, frame, length_bytes in pcapng.packets_of_pcap(stream, on_header):
            block = pcapng.enhanced_packet(interface_index, at_ns, frame, length_bytes)
            with self._lock:
                self._output.write(block)
                self.packets += 1


def _copy_until_ended(
    captures: list[subprocess.Popen[bytes]],
    writer: CaptureFile,
    duration_s: float | None,
    text: str,
) -> None:
    """Until the time is over, counted from when all listen, one tcpdump ends, or Ctrl-C."""
    listening = threading.Semaphore(0)

    def copy(index: int, stream: IO[bytes]) -> None:
        writer.copy(index, stream, listening.release)
        listening.release()  # one that died without listening is not waited for

    threads = [
        threading.Thread(target=copy, args=(index, capture.stdout))
        for index, capture in enumerate(captures)
    ]
    for thread in threads:
        thread.start()
    if duration_s is None:
        terminal.step(f"{text}; Ctrl-C ends it")
    try:
        for _ in captures:
            listening.acquire(timeout=_LISTENING_WITHIN_S)
        terminal.wait_with_progress(
            text, duration_s, finished=lambda: any(c.poll() is not None for c in captures)
        )
    except KeyboardInterrupt:
        pass  # the way to end a capture without --duration
    finally:
        died = [c for c in captures if c.poll() is not None]
        for capture in captures:
            capture.terminate()
        for thread in threads:
            thread.join()
    if died:
        raise CommandRefused(f"tcpdump ended: {_last_words(died[0])}")


def _last_words(process: subprocess.Popen[bytes]) -> str:
    text = b"" if process.stderr is None else process.stderr.read()
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _tcpdump(namespace: str, interface: str, prefix: str) -> subprocess.Popen[bytes]:
    command = [
        "ip", "netns", "exec", namespace, "tcpdump", "-i", interface, "-n", "-U", "-w", "-",
        "-Z", "root", "--time-stamp-precision=nano", "net", prefix,
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C ends the capture through us, in order
    )
