"""An xApp's process is nobody's: user and group of its own, no capability, its needs in sight.

What it reads (its folder, the interpreter and its packages, SDK and models) may lie below a
folder that others cannot enter, such as /root.  Then it is started in a mount namespace
of its own in which that folder is empty but for these; nothing is copied to disk, and all of
it is gone with the process.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

FIRST_UID = 60_600
"""Neither in /etc/passwd nor made: Debian gives none of 60578 to 61183 to anybody (systemd
leaves them unused too), and the kernel needs no name."""
UIDS = 500
_FIRST_DESCRIPTOR = 3
_LAST_DESCRIPTOR = 9
"""What dash can name."""


class Unreadable(ValueError):
    """One line: what the xApp could not read."""


def free_uid(taken: Collection[int], proc: Path = Path("/proc")) -> int:
    """One that no process has: other processes of the same user could read its token.

    Raises `Unreadable` when all are taken.
    """
    running = set(taken)
    for process in proc.glob("[0-9]*"):
        try:
            running.add(process.stat().st_uid)
        except OSError:  # gone meanwhile
            continue
    free = next((u for u in range(FIRST_UID, FIRST_UID + UIDS) if u not in running), None)
    if free is None:
        raise Unreadable(f"all {UIDS} user ids for xApps are in use")
    return free


def interpreter_folders() -> list[Path]:
    """Of this Python and its packages, which the xApp runs with."""
    places = (sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)))
    return list(dict.fromkeys(Path(place).resolve() for place in places))


def sight(folder: Path, others: Iterable[Path]) -> list[str]:
    """Words before a command: it sees `folder` (its own) and `others`.  None are needed when
    everybody does.  Raises `Unreadable` for others that nobody but root could read anyway."""
    others = [path for path in dict.fromkeys(others) if path != folder]
    for path in others:
        if not _is_open(path):
            raise Unreadable(
                f"{path} is readable by its owner only, and xApps run as nobody: "
                f"`chmod -R o+rX {path}`"
            )
    must_copy = not all(map(_is_open, (folder, *folder.rglob("*"))))
    hidden = {path: above for path in (folder, *others) if (above := _closed_above(path))}
    if not hidden and not must_copy:
        return []
    shown = sorted({*hidden, *((folder,) if must_copy else ())})
    covered = sorted({*hidden.values(), *((folder,) if must_copy else ())})
    lines = _script(folder if must_copy else None, shown, covered)
    lines.append(f"cd {shlex.quote(str(folder))}")  # not where it was before that was covered
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh"]


def _script(copied: Path | None, shown: Sequence[Path], covered: Sequence[Path]) -> list[str]:
    """Opened before they are covered; `--no-canonicalize`, for the descriptor's name would be
    the covered path."""
    if len(shown) > _LAST_DESCRIPTOR - _FIRST_DESCRIPTOR + 1:
        raise Unreadable(f"too many folders to show: {', '.join(map(str, shown))}")
    opened = {path: fd for fd, path in enumerate(shown, _FIRST_DESCRIPTOR)}
    lines = [f"exec {fd}< {shlex.quote(str(path))}" for path, fd in opened.items()]
    for path in covered:  # the outer ones first
        where = shlex.quote(str(path))
        lines += [f"mkdir -p {where}", f"mount -t tmpfs -o mode=755,nosuid,nodev xapp {where}"]
    for path, fd in opened.items():
        where, source = shlex.quote(str(path)), f"/proc/self/fd/{fd}"
        lines.append(f"mkdir -p {where}")
        if path == copied:
            lines += [f"cp -RL {source}/. {where}", f"chmod -R a+rX {where}"]
        else:
            lines.append(f"mount --no-canonicalize --bind {source} {where}")
        lines.append(f"exec {fd}<&-")
    return lines


def as_nobody(uid: int) -> list[str]:
    """Words before a command, the last ones: what it execs can never be more."""
    return [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs",
        "--inh-caps=-all", "--bounding-set=-all", "--pdeathsig=KILL",
    ]  # fmt: skip


def _is_open(path: Path) -> bool:
    """To everybody, itself; a link is what it leads to."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return True  # a link to nowhere
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & needed == needed


def _closed_above(path: Path) -> Path | None:
    """The uppermost folder above it that others cannot enter."""
    above = reversed(path.parents)
    return next((p for p in above if not p.stat().st_mode & stat.S_IXOTH), None)
