"""Intents as plain JSON documents, and the one function that applies them to a state. Pure.

An intent says how something shall be from now on, whole, never how it changes: so
the newest of a target counts, and replaying a journal ends where it ended before.
A new kind of intent is a function in `APPLY` and a maker beside the three here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.contracts.inventory import Reservation
from controller.network_state import Attachment, NetworkState

Document = Mapping[str, Any]


def reserve_document(cell_id: str, reservations: Iterable[Reservation]) -> dict[str, Any]:
    """The cell's reservations shall be exactly these."""
    held = [r.model_dump(mode="json") for r in reservations]
    return {"kind": "reserve", "cell_id": cell_id, "reservations": held}


def attach_document(ue_id: str, cell_id: str) -> dict[str, Any]:
    """The user shall be served by this cell."""
    return {"kind": "attach", "ue_id": ue_id, "cell_id": cell_id}


def schedule_document(slice_id: int, shares: Mapping[str, float]) -> dict[str, Any]:
    """The slice's users shall have exactly these shares."""
    return {"kind": "schedule", "slice_id": slice_id, "shares": dict(shares)}


def _reserve(state: NetworkState, document: Document) -> NetworkState:
    held = [Reservation.model_validate(r) for r in document["reservations"]]
    return state.reserved(document["cell_id"], held)


def _attach(state: NetworkState, document: Document) -> NetworkState:
    return state.attached(document["ue_id"], Attachment.at(document["cell_id"]))


def _schedule(state: NetworkState, document: Document) -> NetworkState:
    return state.scheduled(int(document["slice_id"]), document["shares"])


APPLY: dict[str, Callable[[NetworkState, Document], NetworkState]] = {
    "reserve": _reserve,
    "attach": _attach,
    "schedule": _schedule,
}
"""By the document's `kind`."""


def apply(state: NetworkState, document: Document) -> NetworkState:
    """The state after the intent. Raises `LookupError`, `ValueError` for a document of no kind
    known here or of another shape."""
    return APPLY[document["kind"]](state, document)


def restored(state: NetworkState, documents: Iterable[Document]) -> tuple[NetworkState, list[str]]:
    """The state after all of them, and one line for each that could not be applied."""
    problems = []
    for document in documents:
        try:
            state = apply(state, document)
        except (LookupError, ValueError, TypeError) as error:
            problems.append(f"intent {document.get('kind')!r} is not understood: {error}")
    return state, problems
