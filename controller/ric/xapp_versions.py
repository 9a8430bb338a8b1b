"""Versions of deployed xApps: one takes another's place under its name, and the one before returns.

One version runs at a time.  What it reserved stays while the next one starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.ric.errors import Conflict
from controller.ric.xapp_program import code_digest
from controller.ric.xapps import Xapp, Xapps


class XappVersions:
    """Upgrades and rollbacks; what ran before is known until the xApp is undeployed."""

    def __init__(self, xapps: Xapps) -> None:
        self._xapps = xapps
        self._earlier: dict[str, list[Xapp]] = {}

    async def upgrade(self, name: str, where: str, config: Mapping[str, Any] | None) -> Xapp:
        """`config` None: as the running version has it. Raises as `Xapps.replace` does."""
        before = self._xapps.get(name)
        wanted = before.deployment.config if config is None else config
        deployment = replace(before.deployment, where=where, config=wanted)
        upgraded = await self._xapps.replace(name, deployment)
        self._earlier.setdefault(name, []).append(before)
        return upgraded

    async def rollback(self, name: str) -> Xapp:
        """The version before; `Conflict` without one, or when its code is no longer that."""
        self._xapps.get(name)
        if not self._earlier.get(name):
            raise Conflict(f"xApp {name} was not upgraded", "there is no version to go back to")
        before = self._earlier[name][-1]
        folder, version = before.program.folder, before.program.descriptor.version
        if code_digest(folder) != before.program.code_digest:
            raise Conflict(
                f"version {version} of xApp {name} ran from {folder}, which has changed since",
                "bring its code back, or upgrade to a folder that has it",
            )
        restored = await self._xapps.replace(name, before.deployment)
        self._earlier[name].pop()
        return restored

    async def undeploy(self, name: str) -> Xapp:
        gone = await self._xapps.undeploy(name)
        self._earlier.pop(name, None)
        return gone
