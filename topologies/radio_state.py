"""The shared table of positions and RSRP: one writer (the emulation), many readers.

A memory-mapped file, one row per user, in the inventory's order of users and
cells.  Each row has a version that is odd while the row is being written
(a seqlock), so a reader never gets half of one row and half of the next.
"""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controller.contracts.inventory import Inventory
from topologies.link_budget import LinkQuality

READ_TIMEOUT_S = 1.0
HEADER_ALIGNMENT_BYTES = 4096


class RadioStateError(Exception):
    """The table is missing, of another make, or its writer died in the middle of a row."""


@dataclass(frozen=True)
class RadioRow:
    """One user's radio situation.  `rsrp_dbm` is per cell, in the inventory's order."""

    position_m: tuple[float, float]
    speed_mps: float
    serving_index: int
    rsrp_dbm: tuple[float, ...]
    updated_at_ns: int
    """CLOCK_REALTIME; 0 until the first write."""
    quality: LinkQuality | None = None
    """Of the serving cell; None without a radio model that knows it."""


def _row_type(cells: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("version", "<u8"),
            ("updated_at_ns", "<i8"),
            ("position_m", "<f8", (2,)),
            ("speed_mps", "<f8"),
            ("serving_index", "<i8"),
            ("rsrp_dbm", "<f8", (cells,)),
            ("quality", "<f8", (5,)),
        ]
    )


class RadioState:
    """Rows by user index or `ue_id`; `write` is for the emulation only.

    The order of a row's stores is the order of the code: x86 keeps it, and each
    numpy store is a call that the compiler cannot move across.
    """

    def __init__(self, path: Path, users: list[str], cells: list[str], offset: int) -> None:
        self.users = users
        self.cells = cells
        self._index = {ue_id: index for index, ue_id in enumerate(users)}
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._rows: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(
            self._map, dtype=_row_type(len(cells)), count=len(users), offset=offset
        )
        self._staged = np.zeros(1, dtype=_row_type(len(cells)))

    @classmethod
    def create(cls, path: Path, inventory: Inventory) -> RadioState:
        """Make the table with each user at its initial cell; appears at `path` complete."""
        users = [user.ue_id for user in inventory.users]
        cells = [cell.cell_id for cell in inventory.cells]
        header = json.dumps({"users": users, "cells": cells}).encode() + b"\n"
        offset = -(-len(header) // HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES
        rows = np.zeros(len(users), dtype=_row_type(len(cells)))
        rows["rsrp_dbm"] = np.nan
        rows["serving_index"] = [cells.index(user.cell_id) for user in inventory.users]
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_bytes(header.ljust(offset, b"\0") + rows.tobytes())
        unfinished.rename(path)
        return cls(path, users, cells, offset)

    @classmethod
    def open(cls, path: Path) -> RadioState:
        """Attach to an existing table; raises `RadioStateError` when there is none."""
        try:
            with path.open("rb") as file:
                header = file.readline()
                names = json.loads(header)
            offset = -(-len(header) // HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES
            return cls(path, names["users"], names["cells"], offset)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RadioStateError(f"{path}: no table of radio states: {error}") from error

    def write(
        self,
        index: int,
        *,
        position_m: tuple[float, float],
        speed_mps: float,
        serving_index: int,
        rsrp_dbm: Sequence[float],
        updated_at_ns: int,
        quality: LinkQuality | None = None,
    ) -> None:
        """Replace the row of user `index`; one writer process only."""
        staged, version = self._staged[0], int(self._rows["version"][index])
        staged["version"] = version + 1
        staged["position_m"] = position_m
        staged["speed_mps"] = speed_mps
        staged["serving_index"] = serving_index
        staged["rsrp_dbm"] = rsrp_dbm
        staged["quality"] = np.nan if quality is None else astuple(quality)
        staged["updated_at_ns"] = updated_at_ns
        self._rows["version"][index] = version + 1
        self._rows[index : index + 1] = self._staged
        self._rows["version"][index] = version + 2

    def read(self, user: int | str) -> RadioRow:
        """A consistent copy of one row, by index or `ue_id`.

        Raises `RadioStateError` when the row stays half written (its writer died).
        """
        index = self._index[user] if isinstance(user, str) else user
        versions, give_up_s = self._rows["version"], 0.0
        while True:
            before = int(versions[index])
            copy = self._rows[index].copy()
            if before % 2 == 0 and int(versions[index]) == before:
                return _plain(copy)
            now_s = time.monotonic()
            give_up_s = give_up_s or now_s + READ_TIMEOUT_S
            if now_s > give_up_s:
                raise RadioStateError(f"row of {user} stays half written; is the emulation alive?")

    def serving_cell(self, user: int | str) -> str:
        """Id of the cell that serves the user now."""
        return self.cells[self.read(user).serving_index]

    def close(self) -> None:
        """Let go of the mapping; the file stays (it goes with the run folder)."""
        del self._rows
        self._map.close()


def _plain(row: Any) -> RadioRow:
    x_m, y_m = row["position_m"]
    rsrq_db, snr_db, cqi, down_kbps, up_kbps = row["quality"].tolist()
    return RadioRow(
        position_m=(float(x_m), float(y_m)),
        speed_mps=float(row["speed_mps"]),
        serving_index=int(row["serving_index"]),
        rsrp_dbm=tuple(row["rsrp_dbm"].tolist()),
        updated_at_ns=int(row["updated_at_ns"]),
        quality=(
            None if np.isnan(cqi) else LinkQuality(rsrq_db, snr_db, int(cqi), down_kbps, up_kbps)
        ),
    )
