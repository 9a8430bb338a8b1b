"""Errors of scenario files: one exception that carries every problem found in a file."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN_PROBLEMS = 10


class ScenarioError(Exception):
    """A scenario cannot be used; `problems` has one line each: where, what, what would be right."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = list(self.problems[:SHOWN_PROBLEMS])
        hidden = len(self.problems) - len(shown)
        if hidden:
            shown.append(f"... and {hidden} more")
        super().__init__("\n".join(shown))
