"""What a run leaves of the RIC's: tables of decisions and twins, and the inventory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.ric.state import Ric


def flush_tables(ric: Ric, folder: Path) -> list[str]:
    """Writes the tables `decisions` and `twins` (Parquet and CSV) and the inventory, all
    that a replay needs; returns their paths.

    What a full disk does not take is a problem that says how much; rows stay for another try.
    """
    if dropped := ric.centre.table.dropped_rows:
        ric.progress.problems["twins"] = f"{dropped} oldest rows of the table `twins` dropped"
    written: list[str] = []
    for name, rows, write in (
        ("decisions", len(ric.decisions.all_records()), ric.decisions.flush),
        ("twins", len(ric.centre.table), ric.centre.table.flush),
        ("inventory", 1, partial(_write_inventory, ric)),
    ):
        ric.progress.problems.pop(f"table {name}", None)
        try:
            written += [str(path) for path in write(folder)]
        except OSError as error:
            lost = f"table {name}: {rows} rows not written to {folder}: {error}"
            ric.progress.problems[f"table {name}"] = lost
    return written


def _write_inventory(ric: Ric, folder: Path) -> list[Path]:
    path = folder / "inventory.json"
    path.write_text(ric.inventory.model_dump_json())
    return [path]
