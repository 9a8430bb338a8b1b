"""Life cycle of xApps: starting -> running | failed, running -> failed | stopped.

`running` means that the xApp itself said so: it reported ready or opened a stream.
A deployment answers only once that is settled, so OK never means 'not running'.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from controller.audit import Audit
from controller.contracts.inventory import Inventory
from controller.contracts.patience import stretched_s
from controller.contracts.run_folder import RunFolder
from controller.ric import xapp_confinement, xapp_process
from controller.ric.callers import Tokens
from controller.ric.errors import Conflict, Malformed, NotFound
from controller.ric.xapp_process import XAPP_URL, Launch
from controller.ric.xapp_program import Deployment, Program, read_program, xapp_folder
from controller.xapp_descriptor import HolonSection, Rehearsal

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = stretched_s(10.0)
END_GRACE_S = 2.0
MODEL_DRIVEN = {"forecaster": "exponential_smoothing"}
"""What policy `model` configures: the same xApp without its learned model."""


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(eq=False)
class Xapp:
    """`deployment` is what was asked for, its name settled."""

    name: str
    deployment: Deployment
    program: Program
    log_path: Path
    token: str
    config: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.STARTING
    reason: str = ""
    process: asyncio.subprocess.Process | None = None
    started_at_ns: int = 0
    uid: int | None = None
    """Its process's user, nobody else's; None: the RIC's."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def document(self) -> dict[str, Any]:
        alive = self.state in (State.STARTING, State.RUNNING) and self.process is not None
        return {
            "xapp_name": self.name,
            "version": self.program.descriptor.version,
            "state": self.state.value,
            "pid": self.process.pid if alive and self.process else None,
            "uid": self.uid,
            "placement": self.deployment.placement,
            "reason": self.reason,
            "scopes": sorted(self.program.holon.scopes),
            "latency_budget_ms": self.program.holon.latency_budget_ms,
            "models": [model.sha256 for model in self.program.holon.models],
            "config": dict(self.config),
            "descriptor_dir": str(self.program.folder),
            "started_at": self.started_at_ns,
        }


def effective_config(
    inventory: Inventory, holon: HolonSection, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The descriptor's defaults, then the deployment's, then what the policy demands.

    Only of an xApp whose descriptor declares such a setting: others would refuse it.
    """
    demanded: dict[str, Any] = {}
    if inventory.policy == "model":
        demanded = {k: v for k, v in MODEL_DRIVEN.items() if k in holon.config}
    return {**holon.config, **config, **demanded}


class Xapps:
    """`ended` is called with an xApp's name when its process is gone, however it went.

    `url`: of the API, as xApps see it; `is_placed`: in the namespace of a host.
    """

    url: str = XAPP_URL
    is_placed: bool = True

    def __init__(
        self,
        run: RunFolder,
        inventory: Inventory,
        tokens: Tokens,
        audit: Audit,
        ended: Callable[[str], None],
        project: Path = PROJECT,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._run = run
        self._inventory = inventory
        self._tokens = tokens
        self._audit = audit
        self._ended = ended
        self._project = project
        self._start_timeout_s = start_timeout_s
        self._xapps: dict[str, Xapp] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    def get(self, name: str) -> Xapp:
        if name not in self._xapps:
            known = ", ".join(sorted(self._xapps)) or "none is deployed"
            raise NotFound(f"unknown xApp {name!r}", f"xApps: {known}")
        return self._xapps[name]

    def is_deployed(self, name: str) -> bool:
        return name in self._xapps

    def documents(self) -> list[dict[str, Any]]:
        return [self._xapps[name].document() for name in sorted(self._xapps)]

    async def deploy(self, deployment: Deployment) -> Xapp:
        """Returns it running; `Malformed` in one line when it is refused or does not start."""
        xapp, launch = self._prepare(deployment)
        if xapp.program.holon.rehearse is not None:
            await self.before_rehearsing()
        self._xapps[xapp.name] = xapp
        try:
            xapp.process = await xapp_process.start(launch)
        except (OSError, xapp_confinement.Unreadable) as error:
            self._fail(xapp, f"cannot be started: {error}")
        else:
            xapp.started_at_ns = time.time_ns()
            watcher = asyncio.ensure_future(self._watch(xapp, xapp.process))
            self._watchers.add(watcher)
            watcher.add_done_callback(self._watchers.discard)
        await self._settle(xapp)
        self._audit.note("xapp deployed", xapp.name, **xapp.document())
        if xapp.state is not State.RUNNING:
            raise Malformed(
                f"xApp {xapp.name} did not start: {xapp.reason}",
                f"its log: {xapp.log_path}, or `xapp logs {xapp.name}`",
            )
        return xapp

    async def replace(self, name: str, deployment: Deployment) -> Xapp:
        """Another version under this name. What would be refused is refused before the old one
        ends; when the new one does not start, the old one is started again.
        """
        old = self.get(name)
        was = old.program.descriptor
        now = read_program(xapp_folder(deployment.where, self._project), self._project).descriptor
        if now.xapp_name != was.xapp_name:
            raise Conflict(f"{name} is xApp {was.xapp_name!r}, not {now.xapp_name!r}",
                           "deploy another xApp beside it")  # fmt: skip
        await self._stop(old, END_GRACE_S)
        try:
            return await self.deploy(deployment)
        except Malformed as error:
            await self.deploy(old.deployment)
            words = f"{error.message}; version {was.version} runs again"
            raise Malformed(words, error.hint) from None

    def _prepare(self, deployment: Deployment) -> tuple[Xapp, Launch]:
        program = read_program(xapp_folder(deployment.where, self._project), self._project)
        name = deployment.name or program.descriptor.xapp_name
        if name in self._xapps and self._xapps[name].state in (State.STARTING, State.RUNNING):
            raise Conflict(f"xApp {name} is deployed already", "undeploy it, or give another name")
        netns_path = self._netns_path(deployment.placement)
        slices = program.holon.slices
        token = self._tokens.issue(
            name,
            frozenset(program.holon.scopes),
            None if slices is None else frozenset(slices),
        )
        log_path = self._run.logs / f"xapp-{name}.log"
        config = effective_config(self._inventory, program.holon, deployment.config)
        xapp = Xapp(name, replace(deployment, name=name), program, log_path, token, config)
        if os.geteuid() == 0:
            taken = {x.uid for x in self._xapps.values() if x.uid is not None}
            xapp.uid = xapp_confinement.free_uid(taken)
        launch = Launch(
            name=name,
            arguments=program.arguments,
            folder=program.folder,
            netns_path=netns_path if self.is_placed else None,
            log_path=log_path,
            python_path=[self._project / "xapps" / "sdk"],
            token=token,
            run_id=self._run.run_id,
            config=config,
            url=self.url,
            uid=xapp.uid,
            reads=[self._project / "models", self._project / "xapps"],
        )
        return xapp, launch

    def _netns_path(self, placement: str) -> str:
        hosts = {h.name: h for h in self._inventory.hosts if h.kind in ("edge", "centre")}
        if placement not in hosts:
            known = ", ".join(sorted(hosts))
            raise Malformed(f"no xApp can be placed at {placement!r}", f"placements: {known}")
        return hosts[placement].netns_path

    async def _settle(self, xapp: Xapp) -> None:
        try:
            await asyncio.wait_for(xapp.settled.wait(), self._start_timeout_s)
        except TimeoutError:
            self._fail(xapp, f"neither ready nor subscribed within {self._start_timeout_s:g} s")
            if xapp.process is not None:
                await xapp_process.end(xapp.process, END_GRACE_S)

    async def before_rehearsing(self) -> None:
        """Awaited before an xApp starts whose reservations are rehearsed; the RIC replaces it."""

    def rehearsal(self, name: str) -> Rehearsal | None:
        """How a running xApp's reservations are rehearsed; None: not at all."""
        xapp = self._xapps.get(name)
        return xapp.program.holon.rehearse if xapp is not None else None

    def handlers(self, policy_type_id: int) -> list[str]:
        """Running xApps whose descriptor names that type of A1 policy."""
        running = (x for x in self._xapps.values() if x.state is State.RUNNING)
        return sorted(x.name for x in running if policy_type_id in x.program.descriptor.policies)

    def mark_ready(self, name: str) -> None:
        """The xApp reported ready, or opened a stream."""
        xapp = self.get(name)
        if xapp.state is State.STARTING:
            xapp.state = State.RUNNING
            xapp.settled.set()
            log.info("xApp %s is running, pid %s", name, xapp.process and xapp.process.pid)

    async def _watch(self, xapp: Xapp, process: asyncio.subprocess.Process) -> None:
        returncode = await process.wait()
        if xapp.state in (State.STARTING, State.RUNNING):
            reason = xapp_process.exit_reason(returncode, xapp.log_path)
            log.error("xApp %s %s", xapp.name, reason)
            self._fail(xapp, reason)

    def _fail(self, xapp: Xapp, reason: str) -> None:
        """The first reason stays: what came first explains the rest."""
        if xapp.state in (State.STARTING, State.RUNNING):
            xapp.state, xapp.reason = State.FAILED, reason
            self._audit.note("xapp failed", xapp.name, reason=reason)
            self._retire(xapp)

    def _retire(self, xapp: Xapp) -> None:
        self._tokens.revoke(xapp.token)
        self._ended(xapp.name)
        xapp.settled.set()

    async def undeploy(self, name: str, grace_s: float = END_GRACE_S) -> Xapp:
        """Ends its process; the xApp leaves the list."""
        xapp = self.get(name)
        await self._stop(xapp, grace_s)
        self._xapps.pop(name, None)
        self._audit.note("xapp undeployed", name)
        return xapp

    async def _stop(self, xapp: Xapp, grace_s: float) -> None:
        if xapp.state in (State.STARTING, State.RUNNING):
            xapp.state, xapp.reason = State.STOPPED, "undeployed"
            self._retire(xapp)
        if xapp.process is not None:
            await xapp_process.end(xapp.process, grace_s)

    async def stop_all(self, grace_s: float) -> None:
        """At the end of the RIC; they stay in the list."""
        await asyncio.gather(*(self._stop(xapp, grace_s) for xapp in self._xapps.values()))

    def log_lines(self, name: str, lines: int) -> list[str]:
        return xapp_process.log_tail(self.get(name).log_path, lines)
