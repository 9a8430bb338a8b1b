"""Charts as inline SVG: no script, no network, readable by everybody.

Colours are Okabe and Ito's, which people with any colour vision tell apart; every series
also differs by line style or position. Sizes are in SVG user units (px at full width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00")
INK = "#23303d"
MUTED = "#6b7785"
GRID = "#e4e8ec"
GOOD = "#009e73"
BAD = "#d55e00"


def colour_of(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


@dataclass(frozen=True)
class Frame:
    """Plot area inside an SVG, and the scale of both axes."""

    width: float
    height: float
    x_min: float
    x_max: float
    y_min: float
    y_max: float
    left: float = 44
    right: float = 12
    top: float = 26
    bottom: float = 26

    def x(self, value: float) -> float:
        span = (self.x_max - self.x_min) or 1
        return self.left + (value - self.x_min) / span * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        span = (self.y_max - self.y_min) or 1
        inner = self.height - self.top - self.bottom
        return self.height - self.bottom - (value - self.y_min) / span * inner


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round values between low and high, `about` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / max(1, about)
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * m for m in (1, 2, 2.5, 5, 10) if scale * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def svg(frame: Frame, label: str, *parts: str) -> str:
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" '
        f'aria-label="{escape(label)}"><title>{escape(label)}</title>{body}</svg>'
    )


def text(
    x: float, y: float, words: str, anchor: str = "start", style: str = "", colour: str = MUTED
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'style="{style}">{escape(words)}</text>'
    )


def line(points: Sequence[tuple[float, float]], colour: str, width: float, dash: str = "") -> str:
    """A polyline through points in SVG units."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-linejoin="round"{dashes}/>'
    )


def area(points: Sequence[tuple[float, float]], floor: float, colour: str) -> str:
    """The space between the points and the horizontal at `floor`."""
    outline = [(points[0][0], floor), *points, (points[-1][0], floor)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in outline)
    return f'<polygon points="{path}" fill="{colour}" fill-opacity="0.16"/>'


def vertical(frame: Frame, value: float, colour: str, dash: str = "", title: str = "") -> str:
    x = frame.x(value)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.height - frame.bottom}" '
        f'stroke="{colour}"{dashes}><title>{escape(title)}</title></line>'
    )


def x_axis(frame: Frame, unit: str, about: int = 6) -> str:
    bottom = frame.height - frame.bottom
    parts = [
        f'<line x1="{frame.left}" x2="{frame.width - frame.right}" y1="{bottom}" y2="{bottom}" '
        f'stroke="{MUTED}"/>'
    ]
    for tick in nice_ticks(frame.x_min, frame.x_max, about):
        last = tick >= frame.x_max - 0.02 * (frame.x_max - frame.x_min)
        anchor = "end" if last else "middle"
        parts.append(text(frame.x(tick), bottom + 16, f"{tick:g} {unit}", anchor))
    return "".join(parts)


def y_axis(frame: Frame, about: int = 4) -> str:
    parts = []
    for tick in nice_ticks(frame.y_min, frame.y_max, about):
        y = frame.y(tick)
        parts.append(
            f'<line x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" '
            f'y2="{y:.1f}" stroke="{GRID}"/>'
        )
        parts.append(text(frame.left - 6, y + 4, f"{tick:g}", "end"))
    return "".join(parts)


def steps(
    frame: Frame, starts: Sequence[float], values: Sequence[float], width: float
) -> list[tuple[float, float]]:
    """Corners of a staircase: each value holds from its start for `width`."""
    corners = []
    for start, value in zip(starts, values, strict=True):
        corners += [(frame.x(start), frame.y(value)), (frame.x(start + width), frame.y(value))]
    return corners


def marker(x: float, y: float, shape: str, colour: str, title: str) -> str:
    """shape: dot, cross, ring, diamond."""
    name = f"<title>{escape(title)}</title>"
    if shape == "cross":
        return (
            f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}" '
            f'stroke-width="2">{name}</path>'
        )
    if shape == "diamond":
        return (
            f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="{colour}" '
            f'stroke="white">{name}</path>'
        )
    fill = "white" if shape == "ring" else colour
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" '
        f'stroke-width="1.6">{name}</circle>'
    )
