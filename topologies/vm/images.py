"""Builds the machine's two disks, once: Debian with a kernel, and the Python packages.

Each appears in the cache under its name in one step, so that an interrupted
build is never taken for a whole one; its remains go with the next build.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from topologies.checkout import REPOSITORY
from topologies.errors import MachineError
from topologies.vm.long_command import Progress, attempt
from topologies.vm.recipe import KEY_VARIABLE, LEFT_OUT, SIZE_MIB, Recipe, cache_folder

_MAKING = "making-"
_BOOTSTRAP_TIMEOUT_S, _IMAGE_TIMEOUT_S = 900.0, 180.0
_LEAST_FREE_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Images:
    """A machine's parts: `system` is never written to, `packages` is read only."""

    folder: Path
    packages: Path

    @property
    def system(self) -> Path:
        return self.folder / "system.img"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def key(self) -> Path:
        """Private ssh key of the machine's root; made for this image alone."""
        return self.folder / "key"


def ready(recipe: Recipe, progress: Progress) -> Images:
    """The images of a recipe and this checkout's .venv, built where they are missing.

    Raises `MachineError`.
    """
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    environment = REPOSITORY / ".venv"
    images = Images(
        cache / f"system-{recipe.digest}", cache / f"packages-{_digest_of(environment)}.img"
    )
    with _alone(cache, progress):
        if not images.folder.is_dir():
            with _workplace(cache) as making:
                _build_system(recipe, making, cache / "build.log", progress)
                _replace(images.folder, making, cache, "system-*")
        if not images.packages.is_file():
            with _workplace(cache) as making:
                image = _build_packages(environment, making, cache / "build.log", progress)
                _replace(images.packages, image, cache, "packages-*")
    return images


def remove_all() -> bool:
    """Remove every image; False when there was none."""
    cache = cache_folder()
    if not cache.is_dir():
        return False
    shutil.rmtree(cache)
    return True


def _build_system(recipe: Recipe, making: Path, log: Path, progress: Progress) -> None:
    log.write_text("")
    attempt("making an ssh key", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                                  str(making / "key")], log, progress, 30.0)  # fmt: skip
    sources, tree = making / "sources.list", making / "tree"
    sources.write_text("\n".join(recipe.sources) + "\n")
    hooks = [f"--customize-hook={line}" for line in recipe.customize]
    attempt(
        f"fetching and unpacking Debian {recipe.suite} for the virtual machine",
        ["nice", "mmdebstrap", "--mode=root", "--variant=minbase",
         f"--include={','.join(recipe.packages)}", *hooks,
         recipe.suite, str(tree), str(sources)],
        log, progress, _BOOTSTRAP_TIMEOUT_S,
        {**os.environ, KEY_VARIABLE: str(making / "key.pub")},
    )  # fmt: skip
    for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        found = sorted((tree / "boot").glob(pattern))
        if not found:
            raise MachineError(f"the virtual machine got no {pattern} (log: {log})")
        shutil.copyfile(found[-1], making / name)
    _make_image(tree, making / "system.img", recipe.size_mib, log, progress)
    shutil.rmtree(tree)


def _build_packages(environment: Path, making: Path, log: Path, progress: Progress) -> Path:
    """The checkout's .venv without what only training and checking need."""
    tree, image = making / "tree", making / "packages.img"
    tree.mkdir()
    # Other programs in bin/ name this checkout's path; the machine needs the interpreter only.
    excluded = " ".join(f"--exclude='lib/python*/site-packages/{name}'" for name in LEFT_OUT)
    copy = (
        f"cd '{environment}' && tar {excluded} -cf - lib lib64 pyvenv.cfg setup-*.stamp bin/python*"
        f" | tar -C '{tree}' -xf -"
    )
    attempt("collecting the Python packages", ["sh", "-c", copy], log, progress, _IMAGE_TIMEOUT_S)
    size_bytes = sum(f.lstat().st_size for f in tree.rglob("*"))
    _make_image(tree, image, round(1.3 * size_bytes / 2**20) + 64, log, progress)
    return image


def _make_image(tree: Path, image: Path, size_mib: int, log: Path, progress: Progress) -> None:
    attempt(f"making {image.name}", ["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image),
                                     f"{size_mib}M"], log, progress, _IMAGE_TIMEOUT_S)  # fmt: skip


def _digest_of(environment: Path) -> str:
    """Of what setup installed (its stamps) and of what is left out."""
    stamps = sorted(environment.glob("setup-*.stamp"))
    if not stamps:
        raise MachineError(f"{environment} is not set up: run ./testbed.sh setup --all")
    parts = [stamp.name + stamp.read_text() for stamp in stamps]
    parts += [*LEFT_OUT, sys.version, str(SIZE_MIB)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@contextmanager
def _alone(cache: Path, progress: Progress) -> Iterator[None]:
    """One build at a time; another one is waited for."""
    descriptor = os.open(cache, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another build of the virtual machine")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for remains in cache.glob(f"{_MAKING}*"):
            shutil.rmtree(remains)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _workplace(cache: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, whatever happens."""
    free_bytes = shutil.disk_usage(cache).free
    if free_bytes < _LEAST_FREE_BYTES:
        raise MachineError(
            f"{cache} has {free_bytes / 2**30:.1f} GiB free, building the virtual machine takes "
            f"{_LEAST_FREE_BYTES / 2**30:.0f}: free some, or choose another with XDG_CACHE_HOME"
        )
    making = cache / f"{_MAKING}{os.getpid()}"
    making.mkdir()
    try:
        yield making
    finally:
        if making.exists():
            shutil.rmtree(making)


def _replace(target: Path, made: Path, cache: Path, pattern: str) -> None:
    """Put `made` in its place; older ones of its kind are of use to nobody."""
    for old in cache.glob(pattern):
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    made.rename(target)
