"""An xApp, unchanged, in the gym: its own `main` reads the emulator's cells and decides there.

What `holon_xapp.Xapp` is live, `GymXapp` is here: the stream yields the environment's `cell`
documents, a decision passes the same guard, and when the xApp asks for the next event the
emulated network runs on by a period.

`python -m models.gym.xapp XAPP_FOLDER [--scenario S] [--run DIR] [--seed N]...`
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from holon_xapp import CellEvent, Decision, Settings, Xapp, parse_event
from holon_xapp.decisions import Plan

from models.gym.slicing import SlicingEnv

DESCRIPTOR = "config-file.json"


class GymXapp(Xapp):
    """`rewards`: of each period so far; `decisions`: what was asked and answered, in order."""

    def __init__(self, settings: Settings, folder: Path, env: SlicingEnv, seed: int) -> None:
        super().__init__(settings, folder)
        self._env = env
        self._seed = seed
        self.rewards: list[float] = []
        self.decisions: list[Decision] = []

    def ready(self) -> None:
        """Nobody waits for it here."""

    def health(self) -> dict[str, Any]:
        return {"status": "ok", "ready": True, "alarms": []}

    def subscribe(
        self, kind: str = "cell", ids: Iterable[str] | None = None, period_ms: int = 0
    ) -> Generator[CellEvent, None, None]:
        """One episode's `cell` events; it ends with the episode, as no live stream does."""
        if kind != "cell":
            raise ValueError(f"the gym's stream has cells only, no {kind!r}")
        wanted = None if ids is None else frozenset(ids)
        _, info = self._env.reset(seed=self._seed)
        ended = False
        while not ended:
            for document in info["cells"]:
                if wanted is None or document["id"] in wanted:
                    yield _event(document)
            _, reward, terminated, truncated, info = self._env.run_on()
            self.rewards.append(reward)
            ended = terminated or truncated

    def decide(self, plan: Plan, dry_run: bool = False) -> Decision:
        body = {**plan.request(), "xapp": self.name}
        body["decision_id"] = f"{self.name[:31]}-{len(self.decisions)}"
        decision = Decision.from_record(self._env.decide(body).model_dump(mode="json"))
        self.decisions.append(decision)
        return decision


def _event(document: Mapping[str, Any]) -> CellEvent:
    """As if it had just arrived: an xApp may refuse to decide on what is old."""
    now_ns = time.time_ns()
    stamped = {"completed_at_ns": now_ns, "sent_at_ns": now_ns, "received_at_ns": now_ns}
    event = parse_event(json.dumps({**document, **stamped}))
    assert isinstance(event, CellEvent)
    return event


def play(
    folder: Path, env: SlicingEnv, seed: int, config: Mapping[str, Any] | None = None
) -> GymXapp:
    """One episode of the xApp in this folder; raises RuntimeError when its `main` fails."""
    descriptor = json.loads((folder / DESCRIPTOR).read_text())
    holon = descriptor["holon"]
    settings = Settings(
        url="gym:",
        token="none",
        name=descriptor["xapp_name"],
        config={**holon.get("config", {}), **(config or {})},
    )
    xapp = GymXapp(settings, folder, env, seed)
    with _module(folder / holon["entry_point"]) as module, _in_place_of_the_live_one(xapp):
        status = module.main()
    if status:
        raise RuntimeError(f"{descriptor['xapp_name']} ended with status {status}")
    return xapp


@contextmanager
def _module(path: Path) -> Iterator[ModuleType]:
    """An xApp's files import each other by their bare names; none of them stays loaded."""
    before = set(sys.modules)
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location("gym_xapp_entry", path)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{path} is not a Python program")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(path.parent))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if Path(file).parent == path.parent:
                del sys.modules[name]


@contextmanager
def _in_place_of_the_live_one(xapp: GymXapp) -> Iterator[None]:
    live = Xapp.__dict__["from_environment"]

    def from_environment(cls: type[Xapp], folder: Path | None = None) -> Xapp:
        return xapp

    Xapp.from_environment = classmethod(from_environment)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Xapp.from_environment = live  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("xapp", type=Path)
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--run", help="a results folder instead of new demand")
    parser.add_argument("--seed", type=int, nargs="+", default=[11, 12, 13])
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    env = SlicingEnv(options.scenario, run=options.run)
    for seed in options.seed:
        played = play(options.xapp.resolve(), env, seed)
        applied = sum(d.is_applied for d in played.decisions)
        print(
            f"seed {seed}: mean reward {sum(played.rewards) / len(played.rewards):.3f} over "
            f"{len(played.rewards)} periods; {len(played.decisions)} decisions, {applied} applied"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
