"""Loader of the public 5G traces: one CSV file (plain or .gz) per drive or sitting, 1 row a second.

Format of Raca, Leahy, Sreenan and Quinlan, "Beyond Throughput, The Next
Generation: a 5G Dataset with Channel and Context Metrics" (MMSys 2020).  The set
is not part of the project: whoever has it names its folder.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FOLDER_VARIABLE = "HOLON_5G_TRACES"
"""Environment variable that names the folder of the set."""
TIME_FORMAT = "%Y.%m.%d_%H.%M.%S"
COLUMNS = {
    "downlink_kbps": "DL_bitrate",
    "uplink_kbps": "UL_bitrate",
    "rsrp_dbm": "RSRP",
    "rsrq_db": "RSRQ",
    "snr_db": "SNR",
    "cqi": "CQI",
    "speed_kmh": "Speed",
    "longitude_deg": "Longitude",
    "latitude_deg": "Latitude",
}
"""Quantity -> column of the file."""


class TraceError(Exception):
    """A folder or file that does not hold such traces; the message says which and why."""


@dataclass(frozen=True)
class Trace:
    """`t_s` counts from the first row; `values` has every quantity of `COLUMNS`, NaN if missing."""

    name: str
    application: str
    """What the phone did: Netflix, Amazon_Prime or Download."""
    mobility: str
    """Static or Driving."""
    t_s: FloatArray
    values: dict[str, FloatArray]

    def sampled(self, quantity: str, step_s: float) -> FloatArray:
        """The quantity every `step_s` from the start, holding the last finite row.

        Holding, not interpolating: a row is the mean of its second, and nothing
        finer was measured.  Seconds before the first finite row are 0.
        """
        finite = np.isfinite(self.values[quantity])
        at_s, rows = self.t_s[finite], self.values[quantity][finite]
        grid_s = np.arange(0.0, float(self.t_s[-1]) + 1.0, step_s)
        if rows.size == 0:
            return np.zeros(grid_s.size)
        place = np.searchsorted(at_s, grid_s, side="right") - 1
        return np.where(place >= 0, rows[np.maximum(place, 0)], 0.0)

    def held(self, quantity: str, at_s: float) -> float:
        """The quantity of the last row at or before `at_s` that has one; NaN before the first."""
        rows = np.flatnonzero(np.isfinite(self.values[quantity]) & (self.t_s <= at_s))
        return float(self.values[quantity][rows[-1]]) if rows.size else math.nan


def load_trace(path: Path) -> Trace:
    """Raises `TraceError` for what is not such a file."""
    try:
        rows = _rows(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: cannot be read as a 5G trace: {error}") from error
    missing = [c for c in ("Timestamp", *COLUMNS.values()) if not rows or c not in rows[0]]
    if missing:
        raise TraceError(f"{path}: no column {', '.join(missing)}; is it a 5G trace?")
    try:
        times = [datetime.strptime(row["Timestamp"], TIME_FORMAT) for row in rows]
    except (ValueError, TypeError) as error:
        raise TraceError(f"{path}: {error}") from None
    application, mobility, *_ = path.name.split("__")
    return Trace(
        name=path.name.removesuffix(".gz").removesuffix(".csv"),
        application=application,
        mobility=mobility,
        t_s=np.array([(t - times[0]).total_seconds() for t in times]),
        values={q: np.array([_number(row[c]) for row in rows]) for q, c in COLUMNS.items()},
    )


def load_traces(folder: Path) -> list[Trace]:
    """Every trace of a folder, by name; raises `TraceError` when there is none."""
    paths = sorted(p for p in folder.glob("*.csv*") if p.suffix in (".csv", ".gz"))
    if not paths:
        raise TraceError(f"{folder}: no 5G traces (*.csv, *.csv.gz) in it")
    return [load_trace(path) for path in paths]


def is_held_out(trace: Trace) -> bool:
    """Every fourth trace by name hash is for evaluation and never trained on."""
    return sum(trace.name.encode()) % 4 == 0


def _rows(path: Path) -> list[dict[str, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def _number(text: str | None) -> float:
    """NaN for `-` and for whatever else is no number."""
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan
