"""The radio part of a scenario: which model, and what it needs to know. Pure data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from controller.contracts.slices import Strict

Propagation = Literal["uma", "umi", "inh", "free_space"]
"""TR 38.901 urban macro, urban micro street canyon, indoor office; or free space."""


class RsrpOnlyRadio(Strict):
    """Line-of-sight RSRP decides who serves whom; rates are the cells' `down_mbps` alone."""

    model: Literal["rsrp_only"] = "rsrp_only"


class Tr38901Radio(Strict):
    """Path loss, LOS state, shadowing, SNR, CQI, and each user's own rate, applied to packets."""

    model: Literal["tr38901"]
    line_of_sight: Literal["probability", "always", "never"] = "probability"
    shadowing: bool = True
    interference_load_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How busy other cells of the same frequency are; 0: noise only."""
    uplink_interference_margin_db: Annotated[float, Field(ge=0, le=30)] = 0.0
    ue_height_m: Annotated[float, Field(ge=1.5, le=22.5)] = 1.5
    ue_tx_power_dbm: Annotated[float, Field(le=33)] = 23.0
    """Power class 3 of TS 38.101-1 table 6.2.1-1."""
    ue_noise_figure_db: Annotated[float, Field(ge=0, le=20)] = 9.0
    access_point_noise_figure_db: Annotated[float, Field(ge=0, le=20)] = 5.0
    rate_change_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """A user's shaper follows only larger changes than this share of its rate."""


RadioSpec = Annotated[RsrpOnlyRadio | Tr38901Radio, Field(discriminator="model")]


class RadioTrace(Strict):
    """A recorded 5G trace drives this user's radio instead of the model.

    `file` is in the folder that HOLON_5G_TRACES names.  Its bit rates times
    `rate_ratio` are the user's rates: networks of hundreds of Mbit/s fit no small
    machine.  It knows no neighbour cells, so the user is never handed over by A3.
    """

    file: Annotated[str, Field(pattern=r"^[^/]+\.csv(\.gz)?$")]
    start_s: Annotated[float, Field(ge=0)] = 0.0
    rate_ratio: Annotated[float, Field(gt=0, le=1)] = 0.05
