"""Boots the machine with QEMU, reaches it by ssh on loopback, ends it.

KVM is used when a brief trial boots with it, else the processor is emulated
(about 15 times slower for Python).  The disks are never written to: what the
guest changes is gone with it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from topologies.errors import MachineError
from topologies.processes import is_running, kill, start_ticks
from topologies.vm.images import Images
from topologies.vm.long_command import Progress
from topologies.vm.recipe import cache_folder

PROCESSORS, MEMORY_MIB = 2, 3072
_NICENESS = 10
_BOOT_TIMEOUT_S, _KVM_TRIAL_S, _END_TIMEOUT_S = 180.0, 8.0, 5.0
_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S = 30, 40.0
"""An emulated processor beside a busy machine takes its time to greet."""
_POLL_S = 0.1


@dataclass(frozen=True)
class Machine:
    """A machine that was started: its QEMU process and how to reach it."""

    pid: int
    ticks: int
    """Start of the process: pid and start together never recur."""
    ssh_port: int
    key: str
    accelerator: str

    @property
    def alive(self) -> bool:
        return is_running(self.pid) and start_ticks(self.pid) == self.ticks

    def ssh(self, *command: str, terminal: bool = False) -> list[str]:
        """The command that runs `command` (one shell line) in it, as root."""
        return [
            "ssh", "-F", "none", "-i", self.key, "-p", str(self.ssh_port),
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
            "-o", f"ConnectTimeout={_CONNECT_TIMEOUT_S}",
            *(["-t"] if terminal else []), "root@127.0.0.1", *command,
        ]  # fmt: skip


def _state_file() -> Path:
    return cache_folder() / "machine.json"


def running() -> Machine | None:
    """The machine that is up; a record of one that ended is removed."""
    path = _state_file()
    if not path.exists():
        return None
    machine = Machine(**orjson.loads(path.read_bytes()))
    if machine.alive:
        return machine
    path.unlink(missing_ok=True)
    return None


def start(images: Images, progress: Progress, ends_with_us: bool) -> Machine:
    """Boot it; returns when it answers. `ends_with_us`: it dies with this process.

    Raises `MachineError`, leaving nothing behind.
    """
    _require_memory()
    accelerator = "kvm" if _kvm_boots(images) else "tcg,thread=multi"
    progress(f"booting the virtual machine ({_described(accelerator)})")
    port = _free_port()
    console = cache_folder() / "console.log"
    console.write_text("")
    command = ["nice", f"--adjustment={_NICENESS}", *_qemu(images, accelerator, port, console)]
    if ends_with_us:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with (cache_folder() / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    machine = Machine(
        process.pid, start_ticks(process.pid) or 0, port, str(images.key), accelerator
    )
    try:
        _state_file().write_bytes(orjson.dumps(asdict(machine)))
        _await_answer(machine, process, progress)
    except BaseException:
        stop(machine)
        process.wait()
        raise
    process.returncode = 0  # it lives on without us; nobody waits for it
    return machine


def stop(machine: Machine) -> None:
    """End its process; its changes were never written anywhere. Raises `MachineError`."""
    if machine.alive:
        kill(machine.pid)
        deadline_s = time.monotonic() + _END_TIMEOUT_S
        while machine.alive:
            if time.monotonic() > deadline_s:
                raise MachineError(f"the virtual machine (pid {machine.pid}) does not end")
            time.sleep(_POLL_S)
    _state_file().unlink(missing_ok=True)


def _qemu(images: Images, accelerator: str, port: int, console: Path) -> list[str]:
    return [
        "qemu-system-x86_64", "-accel", accelerator,
        "-cpu", "host" if accelerator == "kvm" else "max",
        "-smp", str(PROCESSORS), "-m", str(MEMORY_MIB),
        "-display", "none", "-monitor", "none", "-serial", f"file:{console}", "-no-reboot",
        "-kernel", str(images.kernel), "-initrd", str(images.initrd),
        "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off",
        "-drive", f"file={images.system},format=raw,if=virtio,snapshot=on",
        "-drive", f"file={images.packages},format=raw,if=virtio,readonly=on",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _kvm_boots(images: Images) -> bool:
    """A brief trial: some machines have a /dev/kvm on which a stock kernel hangs."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory(prefix="holon-kvm-") as folder:
        console = Path(folder) / "console"
        process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "512",
             "-display", "none", "-monitor", "none", "-serial", f"file:{console}", "-no-reboot",
             "-kernel", str(images.kernel), "-initrd", str(images.initrd),
             "-append", "console=ttyS0 panic=-1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline_s = time.monotonic() + _KVM_TRIAL_S
            while process.poll() is None and time.monotonic() < deadline_s:
                # Its first program runs: the kernel is through with the processor.
                if console.exists() and b"Run /init" in console.read_bytes():
                    return True
                time.sleep(_POLL_S)
            return False
        finally:
            process.kill()
            process.wait()


def _described(accelerator: str) -> str:
    return "KVM" if accelerator == "kvm" else "emulated processor: KVM is not usable here"


def _require_memory() -> None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    free_mib = int(found[1]) // 1024 if found else 0
    if free_mib < MEMORY_MIB + 256:
        raise MachineError(
            f"the virtual machine needs {MEMORY_MIB + 256} MiB of free memory, here are {free_mib}"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_answer(machine: Machine, process: subprocess.Popen[bytes], progress: Progress) -> None:
    started_s = shown_s = time.monotonic()
    while not _answers(machine.ssh("true")):
        now_s = time.monotonic()
        if process.poll() is not None:
            words = (cache_folder() / "qemu.log").read_text(errors="replace").strip()
            last = (words.splitlines() or ["no message"])[-1]
            raise MachineError(f"QEMU ended with status {process.returncode}: {last}")
        if now_s - started_s > _BOOT_TIMEOUT_S:
            console = cache_folder() / "console.log"
            raise MachineError(
                f"the virtual machine does not answer after {_BOOT_TIMEOUT_S:.0f} s "
                f"(its console: {console})"
            )
        if now_s - shown_s >= 5:
            shown_s = now_s
            progress(f"booting: {now_s - started_s:.0f} s")
        time.sleep(5 * _POLL_S)


def _answers(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
