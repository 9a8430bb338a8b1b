"""What the virtual machine is made of; its hash names the images in the cache.

The same Debian release as this machine's, so that the checkout's Python packages
run in it unchanged, from the package sources that this machine uses.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from topologies.errors import MachineError
from topologies.namespaces import run

PACKAGES_VARIABLE = "HOLON_PACKAGES_RUN"
"""Set by testbed.sh: the Debian packages that a running testbed needs."""
_MACHINE_PACKAGES = (
    "linux-image-cloud-amd64", "systemd-sysv", "udev", "kmod", "procps", "openssh-server",
)  # fmt: skip
SIZE_MIB = 1500
LEFT_OUT = (  # of the Python packages: what only training, checking and browsing need
    "torch*", "functorch*", "nvidia*", "triton*", "mypy*", "*mypyc*", "ruff*", "sympy*",
    "networkx*", "mpmath*", "onnxscript*", "playwright*", "pip*",
)  # fmt: skip

NETWORK = """[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
LinkLocalAddressing=no
"""
"""QEMU's user network; it leads nowhere but to the forwarded ssh port (restrict=on)."""
_CUSTOMIZE = (
    'mkdir -p -m 700 "$1/root/.ssh" && cp "$HOLON_VM_KEY" "$1/root/.ssh/authorized_keys"',
    f"printf '%s' '{NETWORK}' > \"$1/etc/systemd/network/eth0.network\"",
    'echo holon-vm > "$1/etc/hostname"',
    'echo "127.0.0.1 localhost holon-vm" > "$1/etc/hosts"',
    'chroot "$1" systemctl enable systemd-networkd',
    # Only the run's private Open vSwitch runs in it; and no timers beside a measurement.
    'chroot "$1" systemctl disable openvswitch-switch',
    'chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer '
    "e2scrub_all.timer fstrim.timer systemd-networkd-wait-online.service",
)
KEY_VARIABLE = "HOLON_VM_KEY"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the image holds."""

    suite: str
    sources: tuple[str, ...]
    """Lines of a sources.list."""
    packages: tuple[str, ...]
    customize: tuple[str, ...] = _CUSTOMIZE
    size_mib: int = SIZE_MIB

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def recipe() -> Recipe:
    """For this machine. Raises `MachineError` where it cannot be followed."""
    if platform.machine() != "x86_64":
        raise MachineError(f"the virtual machine is x86_64 only, this one is {platform.machine()}")
    suite = _suite(_os_release())
    packages = os.environ.get(PACKAGES_VARIABLE, "").split()
    if not packages:
        raise MachineError(f"{PACKAGES_VARIABLE} is not set: start it as ./testbed.sh vm ...")
    targets = run(
        ["apt-get", "indextargets", "--format",
         "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Identifier: Packages"]
    )  # fmt: skip
    sources = debian_sources(targets.splitlines(), suite)
    if not sources:
        raise MachineError(
            f"apt has no source of Debian {suite} (apt-get indextargets lists none): "
            "add one to /etc/apt and run apt-get update"
        )
    return Recipe(suite, sources, (*_MACHINE_PACKAGES, *packages))


def debian_sources(index_targets: Sequence[str], suite: str) -> tuple[str, ...]:
    """Lines of a sources.list: those of apt's targets that are Debian's, of this release."""
    lines = []
    for target in index_targets:
        origin, uri, release, component = target.split("|")
        if origin == "Debian" and (release == suite or release.startswith(f"{suite}-")):
            lines.append(f"deb {uri} {release} {component}")
    return tuple(dict.fromkeys(lines))


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {k: v.strip('"') for k, _, v in (line.partition("=") for line in lines) if v}


def _suite(release: Mapping[str, str]) -> str:
    if release.get("ID") != "debian" or "VERSION_CODENAME" not in release:
        raise MachineError(
            f"the virtual machine is made from Debian's packages; this is "
            f"{release.get('PRETTY_NAME', 'an unknown system')}: run it on Debian 12 or newer"
        )
    return release["VERSION_CODENAME"]


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/holon when set, else /var/cache/holon. Nothing of it is in the checkout."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen else Path("/var/cache")) / "holon" / "vm"
