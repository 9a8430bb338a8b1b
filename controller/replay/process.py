"""The replay's process: the RIC's API over a recording, xApps beside it, results at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from controller.contracts.run_folder import RunFolder
from controller.replay.network import RecordedNetwork
from controller.replay.patience import OpenRequests, until_done
from controller.replay.player import Player, RecordedTime, happenings, likeness, verdicts
from controller.replay.recording import Recording, RecordingError, load_recording
from controller.ric.app import create_app
from controller.ric.attempts import Clock
from controller.ric.errors import NotFound, RicError, StartError
from controller.ric.neighbours import UserTwins
from controller.ric.netns import http_listener, open_socket
from controller.ric.process import Server
from controller.ric.state import Ric
from controller.ric.xapp_program import Deployment, xapp_folder
from controller.ric.xapps import PROJECT
from controller.store.embedded import EmbeddedSdl

SUBSCRIBED_WITHIN_S = 5.0
"""An xApp that says ready has so long to open its stream before the recording starts."""
XAPP_END_GRACE_S = 0.5


@dataclass(frozen=True)
class Wanted:
    """`port` 0: any free one; without `xapps` the replay starts when somebody subscribes."""

    recording: Path
    out: Path
    xapps: tuple[str, ...] = ()
    speed: float = 1.0
    port: int | None = None


class NoUserTwins(UserTwins):
    """User twins live at the edges and are in no recording."""

    async def summaries(self) -> tuple[list[dict[str, Any]], list[str]]:
        return [], []

    async def changed(self, since_ns: int) -> dict[str, dict[str, Any]]:
        return {}

    async def _ask(self, op: str, ue_id: str, *_: Any, **__: Any) -> Any:
        raise NotFound(f"the twin of {ue_id} is not in the recording", "it has slices and cells")


def replaying_ric(run: RunFolder, recording: Recording, clock: RecordedTime) -> Ric:
    """The RIC as live, but that nothing is enforced and no neighbour is asked."""
    inventory = recording.inventory
    store = EmbeddedSdl()  # never the live testbed's
    ric = Ric(run, inventory, RecordedNetwork(inventory), store, Clock(now_s=clock.now_s))
    ric.pipeline.replayed = True
    ric.user_twins.close()
    ric.user_twins = NoUserTwins(run, inventory)
    ric.xapps.is_placed = False
    return ric


def replay(wanted: Wanted) -> int:
    """Exit status: 0 when the whole recording was played, 1 with one line otherwise."""
    try:
        recording = load_recording(wanted.recording)
        run = RunFolder(wanted.out / "run")
        run.path.mkdir(parents=True, exist_ok=True)
        port = recording.inventory.northbound_tcp_port if wanted.port is None else wanted.port
        listener = open_socket(
            lambda: http_listener("127.0.0.1", port),
            f"port {port} of 127.0.0.1",
            "a testbed or another replay holds it; choose another with --port",
            None,
        )
        return uvloop.run(_live(wanted, recording, run, listener))
    except (RecordingError, StartError) as error:
        print(f"replay: {error}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"replay: {wanted.out}: {error.strerror or error}", file=sys.stderr, flush=True)
    return 1


async def _live(
    wanted: Wanted, recording: Recording, run: RunFolder, listener: socket.socket
) -> int:
    clock = RecordedTime()
    ric = replaying_ric(run, recording, clock)
    ric.xapps.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    requests = OpenRequests(create_app(ric))
    config = uvicorn.Config(
        requests, log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    ric.progress.ready = True
    print(f"the API: {ric.xapps.url}, its token in {run.token}", flush=True)
    player = player_of(ric, wanted.speed, clock, requests)
    playing = asyncio.ensure_future(_play(wanted, recording, ric, player))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        names = await playing
    except asyncio.CancelledError:
        print("replay: ended before the recording did", file=sys.stderr, flush=True)
        return 1
    except RicError as error:
        print(f"replay: {error.message}", file=sys.stderr, flush=True)
        return 1
    finally:
        await _end(ric, server, serving)
    _write(wanted, recording, ric, player, names)
    return 0


def player_of(ric: Ric, speed: float, clock: RecordedTime, requests: OpenRequests) -> Player:
    """It waits for the xApps that the RIC started; of others only for their open requests."""
    assert isinstance(ric.enforcer, RecordedNetwork)

    def pids() -> list[int]:
        return [x["pid"] for x in ric.xapps.documents() if x["pid"] is not None]

    def is_written() -> bool:
        return not any(s.waiting for s in ric.centre.stream.subscriptions)

    async def done() -> bool:
        return await until_done(pids, is_written, requests)

    return Player(ric.centre, ric.enforcer, speed, done, clock)


async def _play(wanted: Wanted, recording: Recording, ric: Ric, player: Player) -> list[str]:
    """Names of the xApps. Raises `RicError` when one does not start, or fails on the way."""
    names = [await _deployed(where, ric) for where in wanted.xapps]
    ric.progress.deployed = True
    await _subscribed(ric, names)
    await player.play(happenings(recording, names))
    for document in ric.xapps.documents():
        if document["state"] == "failed":
            raise RicError(f"xApp {document['xapp_name']} {document['reason']}")
    return names


async def _deployed(where: str, ric: Ric) -> str:
    """As the recorded run configured it, if it was there."""
    folder = xapp_folder(where, PROJECT)
    placed = (x for x in ric.inventory.xapps if xapp_folder(x.name, PROJECT) == folder)
    configured: dict[str, Any] = next((dict(x.config) for x in placed), {})
    return (await ric.xapps.deploy(Deployment(str(folder), config=configured))).name


async def _subscribed(ric: Ric, names: Sequence[str]) -> None:
    """Until every xApp (without any: somebody) has its stream, so that none misses the start."""
    stream = ric.centre.stream
    if not names:
        print("plays as soon as somebody opens a stream", flush=True)
    waited_s = 0.0
    while waited_s < SUBSCRIBED_WITHIN_S or not names:
        consumers = {s.consumer for s in stream.subscriptions}
        if consumers and consumers >= set(names):
            return
        await asyncio.sleep(0.02)
        waited_s += 0.02


async def _end(ric: Ric, server: Server, serving: asyncio.Future[None]) -> None:
    server.should_exit = True
    ric.centre.stream.close()
    await ric.whatif.stop()
    await ric.xapps.stop_all(XAPP_END_GRACE_S)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    ric.close()


def _write(
    wanted: Wanted, recording: Recording, ric: Ric, player: Player, names: Sequence[str]
) -> None:
    ric.flush(wanted.out)
    made = [d for d in ric.decisions.all_records() if d.xapp in names or not names]
    live = [d for d in recording.decisions if d.xapp in {m.xapp for m in made} | set(names)]
    document = {
        "replayed": str(recording.folder),
        "scenario": recording.inventory.scenario,
        "seed": recording.inventory.seed,
        "policy": recording.inventory.policy,
        "speed": wanted.speed,
        "duration_s": recording.duration_s,
        "windows": player.windows,
        "refused_windows": dict(ric.centre.refused),
        "unfinished": player.unfinished,
        "stream_dropped": ric.centre.stream.dropped,
        "xapps": list(names),
        "decisions": verdicts(made),
        "rules": dict(ric.decisions.rules),
        "as_recorded": dict(likeness(live, made)),
    }
    (wanted.out / "replay.json").write_text(json.dumps(document, indent=2) + "\n")
