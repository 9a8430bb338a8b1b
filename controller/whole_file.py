"""A small file that is replaced whole: who reads it meanwhile sees the old or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def replace_whole(path: Path, content: bytes) -> None:
    """Raises `OSError`; what was there then stays."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
