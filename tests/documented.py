"""What the documentation tells a reader to type."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = (README, *sorted(REPOSITORY.glob("xapps/**/README.md")))
PROGRAM = "./testbed.sh"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, section: str | None = None, language: str = "") -> list[str]:
    """The fenced blocks of a page, or of one `## section` of it."""
    text = page.read_text()
    if section is not None:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [body for found, body in _FENCE.findall(text) if found == language]


def commands(page: Path, section: str | None = None) -> list[str]:
    """Lines to type, each without the comment beside it."""
    lines = [line for block in blocks(page, section) for line in block.splitlines()]
    return [re.split(r"\s+#", line)[0].strip() for line in lines if line.startswith(PROGRAM)]
