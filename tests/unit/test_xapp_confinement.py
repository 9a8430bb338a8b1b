"""What an xApp's process is started through: as whom, and what it has in sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.ric.xapp_confinement import FIRST_UID, UIDS, Unreadable, free_uid, sight


def test_a_user_id_is_nobody_elses(tmp_path: Path) -> None:
    assert free_uid({FIRST_UID, FIRST_UID + 2}, tmp_path) == FIRST_UID + 1
    with pytest.raises(Unreadable, match="in use"):
        free_uid(range(FIRST_UID, FIRST_UID + UIDS), tmp_path)


def test_what_only_its_owner_reads_is_refused_with_what_to_do(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir(mode=0o700)
    with pytest.raises(Unreadable, match=rf"chmod -R o\+rX {models}"):
        sight(tmp_path, [models])


def test_a_folder_below_a_closed_one_is_shown_and_nothing_beside_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    folder = closed / "a b" / "xapp"
    folder.mkdir(parents=True)
    closed.chmod(0o700)
    above = next(p for p in reversed(folder.parents) if not p.stat().st_mode & 0o001)
    script = sight(folder, [Path("/usr/share")])[4]
    assert script.splitlines() == [
        f"exec 3< '{folder}'",
        f"mkdir -p {above}",
        f"mount -t tmpfs -o mode=755,nosuid,nodev xapp {above}",
        f"mkdir -p '{folder}'",
        f"mount --no-canonicalize --bind /proc/self/fd/3 '{folder}'",
        "exec 3<&-",
        f"cd '{folder}'",
        'exec "$@"',
    ]


def test_what_everybody_can_read_needs_nothing() -> None:
    assert sight(Path("/usr/share/doc/dash"), [Path("/usr/share")]) == []
