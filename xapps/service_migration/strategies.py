"""When a service moves and where: the forecast's choice, and what it is compared with. Pure.

All strategies get the same inputs: the network, a service, its users' newest twins and
(forecast only) the residence model's quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from holon_xapp import SettingsError, Tunables, UserEvent
from network import Network, Service


@dataclass(frozen=True)
class Policy(Tunables):
    """Settings; each may be set in the xApp's config under its name."""

    cost_ms_per_mbps: float = 5.0
    """What a Mbit/s of state on the wire is worth in milliseconds of mean request latency."""
    wire_ratio: float = 1.35
    """Bytes on the wire per byte of state: headers, and pages that are sent again."""
    start_s: float = 0.6
    """Of a migration besides its copy: the new instance's start, the last round, the flip."""
    lead_s: float = 1.0
    """Begun so long before it would have to be: reports and forecasts come every half second."""
    agreeing: float = 2.0
    """So many forecasts, one after the other, have to say the same: one alone may be noise."""
    fastest_mbps: float = 50.0
    """Assumed of a service that states no pace."""
    pause_s: float = 2.0
    """At least so long between two decisions about a service."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fastest_mbps == 0:
            raise SettingsError("fastest_mbps must be above 0")

    def copy_s(self, service: Service) -> float:
        """From the decision until the service runs in its new place: as its newest migration,
        before the first by its state and pace."""
        if service.took_s is not None:
            return service.took_s
        bits = 8 * service.state_bytes * self.wire_ratio
        return self.start_s + bits / 1e6 / (service.transfer_mbps or self.fastest_mbps)

    def move_cost_ms_s(self, service: Service) -> float:
        """What a move's bytes are worth, in milliseconds of latency times seconds."""
        wire_bytes = service.wire_bytes or service.state_bytes * self.wire_ratio
        return self.cost_ms_per_mbps * 8 * wire_bytes / 1e6


@dataclass(frozen=True)
class Residence:
    """The model's quantiles (0.1, 0.5, 0.9) for one user and cell, seconds; `usual_s`: the mean of
    the user's earlier stays there, 0 when there is none."""

    until_s: tuple[float, float, float]
    stay_s: tuple[float, float, float]
    usual_s: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A service, its users' newest twins, and by (ue_id, cell_id) what the model expects."""

    network: Network
    service: Service
    users: Sequence[UserEvent]
    residences: Mapping[tuple[str, str], Residence]


@dataclass(frozen=True)
class Move:
    """`value_ms_s`: expected gain, milliseconds of latency times seconds, its cost deducted.
    `ahead`: user whose handover is expected, and the edge where its twin will be needed."""

    host: str
    reason: str
    value_ms_s: float | None = None
    ahead: tuple[str, str] | None = None


Strategy = Callable[[Policy, Scene], Move | None]


def never(_: Policy, __: Scene) -> Move | None:
    return None


def always(_: Policy, scene: Scene) -> Move | None:
    """After every handover, to the edge of the cell that most of its users are in."""
    edges = [scene.network.edge_of(u.cell_id) for u in scene.users if u.cell_id is not None]
    return _to(scene, max(edges, key=edges.count, default=None), "its users were handed over")


def nearest(_: Policy, scene: Scene) -> Move | None:
    """The edge at the access point that is nearest to its users now; no hysteresis."""
    away_m: dict[str, float] = {}
    for cell in scene.network.cells.values():
        places = [u.position_m for u in scene.users if u.position_m is not None]
        if places and cell.edge in scene.service.candidates:
            total_m = sum(math.dist(cell.place_m, p) for p in places)
            away_m[cell.edge] = min(total_m, away_m.get(cell.edge, math.inf))
    return _to(scene, min(away_m, key=lambda e: away_m[e], default=None), "it is nearer")


def _to(scene: Scene, host: str | None, reason: str) -> Move | None:
    if host is None or host == scene.service.host or host not in scene.service.candidates:
        return None
    return Move(host, reason)


def forecast(policy: Policy, scene: Scene) -> Move | None:
    """The move that is worth most, if it is worth anything and its time has come.

    Worth: what it saves its users over their stay in a cell, less what it costs them
    meanwhile, less its bytes, and what comes after that stay (`_afterwards`).  Time: so
    that it is done just before the handover it is for.
    """
    moves = [
        move
        for host in scene.service.candidates
        if host != scene.service.host
        for move in [_worth(policy, scene, host)]
        if move is not None
    ]
    best = max(moves, key=lambda m: m.value_ms_s or 0.0, default=None)
    return best if best is not None and (best.value_ms_s or 0.0) > 0 else None


def _worth(policy: Policy, scene: Scene, host: str) -> Move | None:
    """Of moving to `host` now; None when it is too early to."""
    saved_ms_s, is_due = 0.0, False
    ahead, words, leaving = None, [], []
    for user in scene.users:
        cell_id, wait_s, stay_s = _next_stay(scene, user, host)
        if cell_id is None:
            saved_ms_s += _loss(policy, scene, user, host)
            continue
        words.append(f"{user.ue_id} in {cell_id} in {wait_s:.1f} s for {stay_s:.1f} s")
        copy_s = policy.copy_s(scene.service)
        gain_ms = _gain_ms(scene, cell_id, host)
        done_s = max(copy_s, wait_s)
        saved_ms_s += gain_ms * max(0.0, wait_s + stay_s - done_s) / len(scene.users)
        early_s = max(0.0, wait_s - copy_s)
        if user.cell_id is not None and early_s > 0:
            saved_ms_s += _gain_ms(scene, user.cell_id, host) * early_s / len(scene.users)
        is_due |= wait_s <= copy_s + policy.lead_s
        if _leaves(scene, user, cell_id):
            leaving.append(_round_ms_s(scene, user, cell_id, host))
        if cell_id != user.cell_id:
            ahead = (user.ue_id, scene.network.edge_of(cell_id))
    if not is_due:
        return None
    cost_ms_s = policy.move_cost_ms_s(scene.service)
    cost_ms_s -= _afterwards(cost_ms_s, leaving)
    reason = f"{saved_ms_s:.0f} ms*s for {cost_ms_s:.0f}: {', '.join(words)}"
    return Move(host, reason, saved_ms_s - cost_ms_s, ahead)


def _afterwards(cost_ms_s: float, rounds: Sequence[float | None]) -> float:
    """What follows when users leave again: another move back, or the service stays and serves
    them in their next round as they usually go about; the better of the two."""
    if not rounds:
        return 0.0
    known = [r for r in rounds if r is not None]
    if len(known) < len(rounds):
        return -cost_ms_s
    return max(-cost_ms_s, sum(known))


def _round_ms_s(scene: Scene, user: UserEvent, cell_id: str, host: str) -> float | None:
    """What a user's next round saves if the service stays at `host`: its usual stay in this cell
    less those where the old place is better; None when its ways are not known."""
    gain_ms = _gain_ms(scene, cell_id, host)
    usual_s = scene.residences[user.ue_id, cell_id].usual_s
    lost_ms_s = [
        _gain_ms(scene, other, host) * expected.usual_s
        for (ue_id, other), expected in scene.residences.items()
        if ue_id == user.ue_id and _gain_ms(scene, other, host) < 0 and expected.usual_s > 0
    ]
    if not usual_s or not lost_ms_s:
        return None
    return (gain_ms * usual_s + sum(lost_ms_s) / len(lost_ms_s)) / len(scene.users)


def _gain_ms(scene: Scene, cell_id: str, host: str) -> float:
    rtt_ms = scene.network.rtt_ms
    return rtt_ms.get((cell_id, scene.service.host), 0.0) - rtt_ms.get((cell_id, host), 0.0)


def _next_stay(scene: Scene, user: UserEvent, host: str) -> tuple[str | None, float, float]:
    """The cell in which `host` would serve the user better and that comes first, by medians."""
    found: list[tuple[float, float, str]] = []
    for cell_id in scene.network.cells:
        expected = scene.residences.get((user.ue_id, cell_id))
        if expected is None or _gain_ms(scene, cell_id, host) <= 0:
            continue
        wait_s = 0.0 if cell_id == user.cell_id else expected.until_s[1]
        if wait_s < UNTIL_HORIZON_S:
            found.append((wait_s, expected.stay_s[1], cell_id))
    if not found:
        return None, 0.0, 0.0
    wait_s, stay_s, cell_id = min(found)
    return cell_id, wait_s, stay_s


UNTIL_HORIZON_S = 9.5
"""The model's 10 s mean: not within its horizon."""
STAY_HORIZON_S = 29.0


def _loss(policy: Policy, scene: Scene, user: UserEvent, host: str) -> float:
    """Of a user that stays where the move does it no good (gain of 0 or below)."""
    if user.cell_id is None:
        return 0.0
    expected = scene.residences.get((user.ue_id, user.cell_id))
    stay_s = expected.stay_s[1] if expected is not None else STAY_HORIZON_S
    served_s = max(0.0, stay_s - policy.copy_s(scene.service))
    return _gain_ms(scene, user.cell_id, host) * served_s / len(scene.users)


def _leaves(scene: Scene, user: UserEvent, cell_id: str) -> bool:
    """Whether the user is expected to leave the cell within the model's horizon."""
    expected = scene.residences.get((user.ue_id, cell_id))
    return expected is not None and expected.stay_s[1] < STAY_HORIZON_S


STRATEGIES: dict[str, Strategy] = {
    "forecast": forecast,
    "always": always,
    "never": never,
    "nearest": nearest,
}
