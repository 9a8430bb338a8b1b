"""How often a choice was right, how sure that is, and how often chance would have been right.

Pure.  A choice counts as right when what it chose is within `tie` of the best: less than that
two measurements of one thing differ.  Forks whose strategies are all within a tie of each other
tell nothing about choosing, so they are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Z = 1.959964
"""Of 95 %, two-sided."""


@dataclass(frozen=True)
class Proportion:
    """`low`-`high`: Wilson's interval at 95 %."""

    right: int
    of: int

    @property
    def ratio(self) -> float:
        return self.right / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        p, n = self.ratio, self.of
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.right} of {self.of} ({self.ratio:.0%} [{low:.0%}, {high:.0%}])"

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio if self.of else None, "interval": self.interval}


@dataclass(frozen=True)
class Choice:
    """One fork: what was chosen, and what every strategy was worth."""

    chosen: str
    worth: Mapping[str, float]

    @property
    def regret(self) -> float:
        return max(self.worth.values()) - self.worth[self.chosen]

    def is_right(self, tie: float, chosen: str | None = None) -> bool:
        return self.worth[chosen or self.chosen] >= max(self.worth.values()) - tie

    def is_decisive(self, tie: float) -> bool:
        """Somebody could have chosen wrongly."""
        return max(self.worth.values()) - min(self.worth.values()) > tie


def judged(choices: Sequence[Choice], tie: float) -> dict[str, Any]:
    """`all`; `decisive` only; `without_ties`; and for comparison `always` one strategy and
    `at_random`, both over decisive forks."""
    decisive = [c for c in choices if c.is_decisive(tie)]
    names = list(choices[0].worth) if choices else []
    share = [sum(c.is_right(tie, name) for name in c.worth) / len(c.worth) for c in decisive]
    return {
        "tie": tie,
        "all": _of(choices, tie).document(),
        "decisive": _of(decisive, tie).document(),
        "without_ties": _of(choices, 1e-9).document(),
        "always": {
            name: Proportion(sum(c.is_right(tie, name) for c in decisive), len(decisive)).document()
            for name in names
        },
        "at_random_ratio": sum(share) / len(share) if share else None,
        "regret_mean": sum(c.regret for c in choices) / len(choices) if choices else None,
        "regret_max": max((c.regret for c in choices), default=None),
    }


def _of(choices: Sequence[Choice], tie: float) -> Proportion:
    return Proportion(sum(c.is_right(tie) for c in choices), len(choices))


def words(figures: Mapping[str, Any]) -> str:
    def shown(part: Mapping[str, Any]) -> str:
        return str(Proportion(part["right"], part["of"]))

    always = ", ".join(f"{name} {shown(part)}" for name, part in figures["always"].items())
    chance = figures["at_random_ratio"]
    return (
        f"best of {len(figures['always'])} picked in {shown(figures['all'])} forks; "
        f"of those where it mattered (more than {figures['tie']:.3f} between best and worst) "
        f"{shown(figures['decisive'])}; without any tie {shown(figures['without_ties'])}; "
        f"regret {figures['regret_mean']:.4f} on average\n"
        f"  for comparison, where it mattered: "
        f"{'-' if chance is None else f'{chance:.0%}'} at random; always {always}"
    )
