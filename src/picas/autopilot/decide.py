"""How many pilots of each kind to start now, and why. Pure functions.

As many are wanted as the work is worth (so many seconds of it for each), and no more than there are tokens for. Those
that are queued or running are counted off; limits cut what is left, fairly between the kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from picas.autopilot.demand import Waiting
from picas.autopilot.record import Failing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from picas.autopilot.demand import Demand
    from picas.autopilot.profiles import Limits, Plan, Profile
    from picas.autopilot.record import Standing

AGAIN_SECONDS = 3600.0
"""After failed starts, one more pilot is tried so long after the last of them."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """What is decided of one kind of pilots.

    Attributes:
        profile: the kind.
        waiting: what there is for it.
        queued, running: pilots of it that there are.
        wanted: as many as the work is worth, those among them.
        start: how many to start now.
        why: the reasons, a phrase each: first why so many are wanted, then what keeps them from being started.
        held_until: where starts have failed, when the next one is tried, Unix seconds.
    """

    profile: Profile
    waiting: Waiting
    queued: int
    running: int
    wanted: int
    start: int
    why: tuple[str, ...]
    failing: Failing
    held_until: float | None = None


def decide(
    plan: Plan,
    demand: Demand,
    standing: Standing,
    now: float,
    paused: str | None = None,
    silent: Collection[str] = (),
) -> list[Decision]:
    """How many to start, of each kind in the order of the plan.

    Args:
        now: Unix seconds.
        paused: why nothing is to be claimed in this pool; None if it may be.
        silent: batch systems that do not say how far their jobs are.
    """
    decisions = [_wish(profile, demand, standing) for profile in plan.profiles]
    if paused is not None:
        return [_cut(each, 0, "the pool is paused") for each in decisions]
    decisions = [
        _cut(each, 0, "its batch system does not answer") if each.profile.launcher in silent else each
        for each in decisions
    ]
    decisions = [_within_own(_unless_failing(each, plan.limits, now)) for each in decisions]
    room, name = min(_rooms(plan.limits, standing))
    allowed = shared([each.start for each in decisions], room)
    return [
        _cut(each, most, f"{name} leaves room for {_few(most)}") for each, most in zip(decisions, allowed)
    ]


def _wish(profile: Profile, demand: Demand, standing: Standing) -> Decision:
    """As many as the work is worth."""
    waiting = demand.of.get(profile.name, Waiting())
    queued, running = standing.queued.get(profile.name, 0), standing.running.get(profile.name, 0)
    wanted, why = _wanted(profile, waiting, running)
    start = max(0, wanted - queued - running)
    failing = standing.failing.get(profile.name, Failing())
    return Decision(profile, waiting, queued, running, wanted, start, (why,), failing)


def _wanted(profile: Profile, waiting: Waiting, running: int) -> tuple[int, str]:
    if not waiting.tokens:
        return 0, "nothing waits"
    # Pilots that run are at something. How far they are is not known: half of it is left.
    busy = min(waiting.running_slots, float(running * profile.cores))
    most = math.ceil((waiting.slots + busy) / profile.cores - _ROUNDING)
    if waiting.seconds is None:
        return most, "room for all at once, since nobody knows how long they take"
    work = waiting.seconds * (waiting.slots + busy / 2)
    worth = max(1, math.ceil(work / (profile.work_per_pilot * profile.cores) - _ROUNDING))
    if worth >= most:
        return most, "room for all at once"
    return worth, f"one for each {_time(profile.work_per_pilot)} of work, by {waiting.source}"


def _unless_failing(decision: Decision, limits: Limits, now: float) -> Decision:
    """No more after failed starts, but one now and then."""
    failing = decision.failing
    if failing.count < limits.failures or not decision.start:
        return decision
    said = f"{failing.count} pilots in a row failed: {failing.why or 'nobody says why'}"
    again = failing.at + AGAIN_SECONDS
    if now < again:
        return replace(_cut(decision, 0, said), held_until=again)
    most = 0 if decision.queued + decision.running else 1
    return _cut(decision, most, f"{said}; one is tried")


def _within_own(decision: Decision) -> Decision:
    """No more than the limits of this kind alone allow."""
    profile = decision.profile
    if profile.max_pilots is not None:
        room = max(0, profile.max_pilots - decision.queued - decision.running)
        why = f"its own max-pilots {profile.max_pilots} leaves room for {_few(room)}"
        decision = _cut(decision, room, why)
    if profile.max_queued is not None:
        room = max(0, profile.max_queued - decision.queued)
        why = f"its own max-queued {profile.max_queued} leaves room for {_few(room)}"
        decision = _cut(decision, room, why)
    return decision


def _rooms(limits: Limits, standing: Standing) -> list[tuple[int, str]]:
    """How many pilots the limits of all kinds together still allow, with their names."""
    found = [(limits.pilots - standing.alive, f"max-pilots {limits.pilots}")]
    if limits.queued is not None:
        found.append((limits.queued - standing.all_queued, f"max-queued {limits.queued}"))
    if limits.per_hour is not None:
        found.append((limits.per_hour - standing.started, f"per-hour {limits.per_hour}"))
    return found


def shared(wishes: Sequence[int], room: int) -> list[int]:
    """What each gets of the room: equal shares, but nobody more than wished for, and all of it if it is wished for."""
    got = [0] * len(wishes)
    wishing = [number for number, wish in enumerate(wishes) if wish > 0]
    while wishing and room > 0:
        share = max(1, room // len(wishing))
        for number in list(wishing):
            more = min(share, wishes[number] - got[number], room)
            got[number] += more
            room -= more
            if got[number] == wishes[number]:
                wishing.remove(number)
    return got


def _cut(decision: Decision, most: int, why: str) -> Decision:
    """No more than so many."""
    if decision.start <= most:
        return decision
    return replace(decision, start=most, why=(*decision.why, why))


def _few(number: int) -> str:
    return "none" if number == 0 else str(number)


def _time(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"
