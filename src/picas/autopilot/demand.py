"""What waits in the pool, by the kind of pilots that it is for."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from picas.autopilot.needs import body_of, need_of
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from picas.autopilot.needs import Need
    from picas.autopilot.profiles import Plan, Profile
    from picas.stores.base import Tally
    from picas.tokens import Token

LATEST = 200
"""Of so many tokens that ended last is looked how long they took."""

ENOUGH = 3
"""So many measured tokens of a kind tell more than what tokens declare."""


@dataclass(frozen=True)
class Waiting:
    """What there is for one kind of pilots.

    Attributes:
        tokens: that may be claimed now.
        slots: cores that they would take if all ran at once on such pilots, with those that stay idle because tokens
            do not fill a pilot.
        running: tokens that pilots, of this kind or another, are at.
        running_slots: the same for those.
        seconds: that one takes; None if nobody knows.
        source: how that is known, for people; "" if it is not.
    """

    tokens: int = 0
    slots: float = 0.0
    running: int = 0
    running_slots: float = 0.0
    seconds: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Unfit:
    """Tokens that wait for pilots that nobody offers.

    Attributes:
        need: what each of them needs.
        count: how many there are.
    """

    need: Need
    count: int


@dataclass(frozen=True)
class Demand:
    """What waits in a pool.

    Attributes:
        of: what there is for each kind of pilots, by its name.
        unfit: tokens that are for none of them, the most frequent first.
        todo, locked: all tokens in these states, but for those that wait for their next try.
    """

    of: Mapping[str, Waiting] = field(default_factory=dict)
    unfit: tuple[Unfit, ...] = ()
    todo: int = 0
    locked: int = 0


@dataclass
class _Kind:
    """What is being counted for one kind of pilots."""

    tokens: Counter[State] = field(default_factory=Counter)
    slots: defaultdict[State, float] = field(default_factory=lambda: defaultdict(float))
    declared: float = 0.0
    declaring: int = 0

    def add(self, profile: Profile, need: Need, state: State, count: int) -> None:
        self.tokens[state] += count
        # Of 8 cores a token with 5 takes all, since there is no room for another.
        self.slots[state] += count * profile.cores / (profile.cores // need.cores)
        if need.walltime is not None:
            self.declared += count * need.walltime
            self.declaring += count


def demand(plan: Plan, tallies: Iterable[Tally], latest: Iterable[Token] = ()) -> Demand:
    """What waits, by what a store has counted.

    Args:
        tallies: by the fields that the plan names.
        latest: tokens that ended lately, to know how long they take.
    """
    kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
    unfit: Counter[Need] = Counter()
    states: Counter[State] = Counter()
    for each in tallies:
        states[each.state] += each.count
        token_id, body = body_of(plan.fields, each.values)
        need = need_of(body)
        profile = plan.profile_for(token_id, body)
        if profile is not None:
            kinds[profile.name].add(profile, need, each.state, each.count)
        elif each.state is State.TODO:
            unfit[need] += each.count
    walls = _measured(plan, latest)
    found = {}
    for profile in plan.profiles:
        kind = kinds[profile.name]
        seconds, source = _seconds(profile, walls[profile.name], kind)
        found[profile.name] = Waiting(
            kind.tokens[State.TODO],
            kind.slots[State.TODO],
            kind.tokens[State.LOCKED],
            kind.slots[State.LOCKED],
            seconds,
            source,
        )
    most_first = tuple(Unfit(need, count) for need, count in unfit.most_common())
    return Demand(found, most_first, states[State.TODO], states[State.LOCKED])


def _measured(plan: Plan, latest: Iterable[Token]) -> defaultdict[str, list[float]]:
    """Seconds that tokens of each kind took which ended well."""
    walls: defaultdict[str, list[float]] = defaultdict(list)
    for token in latest:
        wall: Any = token.run.get("wall")
        if token.state is not State.DONE or isinstance(wall, bool) or not isinstance(wall, (int, float)):
            continue
        profile = plan.profile_for(token.id, token.body)
        if profile is not None and 0 <= wall < 1e9:
            walls[profile.name].append(float(wall))
    return walls


def _seconds(profile: Profile, walls: Sequence[float], kind: _Kind) -> tuple[float | None, str]:
    """How long a token of this kind takes, and how that is known."""
    if len(walls) >= ENOUGH:
        return sum(walls) / len(walls), f"what the last {len(walls)} took"
    if kind.declaring and kind.declaring == sum(kind.tokens.values()):
        return kind.declared / kind.declaring, "what they declare"
    if profile.token_time is not None:
        return profile.token_time, "what token-time says"
    if walls:
        return sum(walls) / len(walls), f"what the last {len(walls)} took"
    return None, ""
