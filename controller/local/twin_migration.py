"""A user's twin on its way to another edge: as messages, and put together again. Pure.

Two messages, because infrastructure has few bits: first the twin as it is now (about
a kilobyte, compressed), with which the new edge serves it at once; then its history.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from controller.contracts.twin_messages import UserReport
from controller.twins.level_one import Attribute, UserTwin
from controller.twins.log_document import log_document, reports_in
from controller.twins.predictions import Prediction
from controller.twins.report_log import ReportLog, log_of

COMPRESSION_LEVEL = 6
MAX_MESSAGE_BYTES = 1 << 20


class BadMessage(ValueError):
    """What arrived is no part of a migration; the message says why."""


@dataclass(frozen=True)
class Arrival:
    """A message of one migration. `left_at_ns`: when the old edge was told to let go."""

    ue_id: str
    left_at_ns: int
    twin: UserTwin | None
    """Of the first message; None in the second."""
    history: tuple[UserReport, ...]
    """Of the second message."""


def head_message(twin: UserTwin, left_at_ns: int) -> bytes:
    """Everything but the history."""
    document = {
        "ue_id": twin.ue_id,
        "left_at_ns": left_at_ns,
        "twin": {
            "version": twin.version,
            "measured_at_ns": twin.measured_at_ns,
            "arrived_at_ns": twin.arrived_at_ns,
            "period_ms": twin.period_ms,
            "attributes": {name: asdict(a) for name, a in twin.attributes.items()},
            "predicted": {name: _prediction_document(p) for name, p in twin.predicted.items()},
        },
    }
    return zlib.compress(orjson.dumps(document), COMPRESSION_LEVEL)


def history_message(twin: UserTwin, left_at_ns: int) -> bytes:
    document = {
        "ue_id": twin.ue_id,
        "left_at_ns": left_at_ns,
        "history": log_document(twin.history),
    }
    return zlib.compress(orjson.dumps(document), COMPRESSION_LEVEL)


def decoded(message: bytes) -> Arrival:
    """Raises `BadMessage`."""
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(message, MAX_MESSAGE_BYTES)
        if inflater.unconsumed_tail or not inflater.eof:
            raise BadMessage(f"longer than {MAX_MESSAGE_BYTES} bytes, or cut off")
        document = orjson.loads(text)
        head, history = document.get("twin"), document.get("history")
        return Arrival(
            document["ue_id"],
            document["left_at_ns"],
            None if head is None else _twin(document["ue_id"], head),
            tuple(reports_in(document["ue_id"], history)) if history is not None else (),
        )
    except BadMessage:
        raise
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadMessage(f"{type(error).__name__}: {error}") from None


def _prediction_document(prediction: Prediction) -> dict[str, Any]:
    return {
        "made_at_ns": prediction.made_at_ns,
        "source": prediction.source,
        "horizons": prediction.horizons,
    }


def _twin(ue_id: str, head: dict[str, Any]) -> UserTwin:
    return UserTwin(
        ue_id=ue_id,
        version=head["version"],
        measured_at_ns=head["measured_at_ns"],
        arrived_at_ns=head["arrived_at_ns"],
        period_ms=head["period_ms"],
        newest=None,
        kept={n: Attribute(**a) for n, a in head["attributes"].items()},
        history=ReportLog(ue_id, 1),
        predicted={n: Prediction.of(**p) for n, p in head["predicted"].items()},
    )


def with_head(mine: UserTwin | None, theirs: UserTwin) -> UserTwin:
    """What the new edge serves: the twin that arrived, unless a newer report came before it."""
    if mine is None or mine.version < theirs.version:
        return theirs if mine is None else theirs._replace(history=mine.history)
    return mine


def with_history(mine: UserTwin, earlier: Iterable[UserReport], length: int) -> UserTwin:
    """The newest `length` reports of both, each once, oldest first."""
    reports = (*earlier, *mine.history.reports())
    return mine._replace(history=log_of(mine.ue_id, reports, length))


def versions_missing(twin: UserTwin, since: int) -> int:
    """Versions after `since` up to the newest that its history does not have."""
    held = set(twin.history.sequences())
    return sum(version not in held for version in range(since + 1, twin.version + 1))
