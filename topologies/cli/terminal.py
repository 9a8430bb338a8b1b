"""Printing: answers to stdout (tables or JSON), progress and errors to stderr."""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what prints JSON only does not wait for rich
    from rich.console import Console

PIPE_COLUMNS = 200
"""Width of tables that no terminal limits."""

PLAIN_PROGRESS_PERIOD_S = 5.0
SIGN_PERIOD_S = 3.0
_FIGURE = re.compile(r"-?[\d.]+(e[+-]?\d+)?$|-$")


@cache
def stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


@cache
def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def step(text: str) -> None:
    """One line of progress."""
    stderr().print(f"  {text}", style="dim", markup=False)


def error_line(message: str) -> None:
    stderr().print(f"testbed.sh: {message}", style="bold red", markup=False)


def shown(path: Path) -> str:
    """A path as the user would type it here: relative when it lies below this folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def print_json(value: Any) -> None:
    """Indented JSON on stdout; NaN is refused, a reader could not parse it."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """One line a row; cells are the rows' values of these columns, figures to the right."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    lines = [[cell(row.get(column)) for column in columns] for row in rows]
    for index, column in enumerate(columns):
        is_figure = bool(lines) and all(_FIGURE.match(line[index]) for line in lines)
        table.add_column(column, overflow="fold", justify="right" if is_figure else "left")
    for line in lines:
        table.add_row(*line)
    stdout().print(table)


def cell(value: Any) -> str:
    """A value as a person reads it: S-NSSAI as 1-000001, lists joined, absent as a dash."""
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, Mapping):
        if set(value) == {"sst", "sd"}:
            return f"{value['sst']}-{value['sd']}"
        return " ".join(
            f"{key}={_nested(inner)}" for key, inner in value.items() if inner is not None
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _nested(value: Any) -> str:
    text = cell(value)
    return f"({text})" if "=" in text else text


def wait_with_progress(
    text: str,
    duration_s: float | None,
    finished: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait `duration_s` (None: for ever) or until `finished`, showing how far it is.

    A bar on a terminal, else a line now and then.
    """
    started_s = clock()
    with _bar(text, duration_s) as show:
        while not finished():
            elapsed_s = clock() - started_s
            if duration_s is not None and elapsed_s >= duration_s:
                return
            show(elapsed_s)
            left_s = math.inf if duration_s is None else duration_s - elapsed_s
            time.sleep(min(0.1, left_s))


@contextmanager
def signs_of_life(text: str, period_s: float = SIGN_PERIOD_S) -> Iterator[None]:
    """While the block runs longer than that, a line now and then says so."""
    done = threading.Event()
    started_s = time.monotonic()

    def tell() -> None:
        while not done.wait(period_s):
            step(f"{text}: {time.monotonic() - started_s:.0f} s")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


@contextmanager
def _bar(text: str, duration_s: float | None) -> Iterator[Callable[[float], None]]:
    """A function that shows the seconds gone by."""
    if duration_s is None:
        yield lambda elapsed_s: None
    elif stderr().is_terminal:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("  " + text), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=stderr(), transient=True) as progress:
            task = progress.add_task(text, total=duration_s)
            yield lambda elapsed_s: progress.update(task, completed=elapsed_s)
    else:
        shown = 0

        def show(elapsed_s: float) -> None:
            nonlocal shown
            if elapsed_s >= (shown + 1) * PLAIN_PROGRESS_PERIOD_S:
                shown = int(elapsed_s // PLAIN_PROGRESS_PERIOD_S)
                step(f"{text}: {elapsed_s:.0f} of {duration_s:.0f} s")

        yield show
