"""Users' shares within a slice: the decision `schedule`, as user meters of table 3, downlink.

A share is of what the slice may send in the cell that carries the user, so it follows
reservations and handovers; the meters stand on the cells' switches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from controller.errors import UnknownTargetError
from controller.intent_documents import schedule_document
from controller.journal import Journal
from controller.metering import share_kbps
from controller.network_state import NetworkState
from controller.outcome import EnforcementResult, confirmations_of, undone
from controller.reconcile import Change, difference
from controller.rules import compile_attachments
from controller.switches import Switches


class Schedules:
    """Raises `UnknownTargetError`; what a switch refused is in the confirmations."""

    def __init__(self, switches: Switches, journal: Journal) -> None:
        self._switches = switches
        self._journal = journal

    async def schedule(
        self, slice_id: int, shares: Mapping[str, float], dry_run: bool
    ) -> EnforcementResult:
        """The slice's shares shall be exactly these; {}: nobody is limited by a share."""
        network = self._switches.network
        if slice_id not in network.slices:
            raise UnknownTargetError(f"unknown slice {slice_id}")
        if dry_run:
            before = self._switches.state
            changes = self._changes(before, before.scheduled(slice_id, shares))
            return EnforcementResult(diff=Change.diff(changes.values(), {}))
        async with self._switches.holding({c.switch for c in network.cells.values()}):
            before = self._switches.state
            after = before.scheduled(slice_id, shares)
            result = await self._send(before, after)
            if result.confirmed:
                # Users may have moved meanwhile: only the shares are ours.
                self._switches.state = self._switches.state.scheduled(slice_id, shares)
                self._journal.append(schedule_document(slice_id, shares))
                rates = {u: share_kbps(network, after, u, slice_id) for u in shares}
                result.measured["rates_kbps"] = rates
                return result
            undoing = await self._send(after, before)
        return undone(result, undoing.confirmations)

    async def _send(self, before: NetworkState, after: NetworkState) -> EnforcementResult:
        changes = self._changes(before, after)
        answers = await self._switches.send(changes)
        enforced_ns = max(a.at_ns for a in answers.values())
        return EnforcementResult(
            confirmations_of(answers),
            Change.diff(changes.values(), {}),
            {"enforced": enforced_ns, "confirmed": time.time_ns()},
        )

    def _changes(self, before: NetworkState, after: NetworkState) -> dict[str, Change]:
        """Of every cell's switch: a user may be carried by two of them in a handover."""
        network = self._switches.network
        return {
            switch: difference(
                compile_attachments(network, before, switch),
                compile_attachments(network, after, switch),
            )
            for switch in sorted({c.switch for c in network.cells.values()})
        }
