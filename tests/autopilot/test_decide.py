"""What waits, how many pilots that is worth, and what keeps them from being started."""

from __future__ import annotations

from typing import Any

import pytest
from tests.autopilot.plans import THREE_KINDS, plan_of

from picas.autopilot.decide import AGAIN_SECONDS, Decision, decide, shared
from picas.autopilot.demand import Demand, Unfit, Waiting, demand
from picas.autopilot.needs import Need
from picas.autopilot.record import Failing, Standing
from picas.stores.base import Tally
from picas.tokens import State, Token

PLAN = plan_of(THREE_KINDS)


def tally(count: int, state: State = State.TODO, **fields: Any) -> Tally:
    return Tally(state, tuple(fields.get(path[0]) for path in PLAN.fields), count)


def ended(seconds: Any, exit_code: int = 0, **fields: Any) -> Token:
    body = {
        "type": "token",
        "lock": 5,
        "done": 6,
        "exit_code": exit_code,
        "picas": {"run": {"wall": seconds}},
    }
    return Token("t", {**body, **fields})


# --- What waits --------------------------------------------------------------------------------------


def test_tokens_are_counted_for_the_kind_that_they_are_for() -> None:
    found = demand(
        PLAN,
        [
            tally(10),
            tally(3, State.LOCKED),
            tally(4, cores=2),
            tally(2, cores=5),
            tally(1, State.LOCKED, cores=8),
            tally(7, cores=64),
            tally(9, cores=64, memory="1TB"),
            tally(5, State.LOCKED, cores=64),
            tally(6, gpus=1, cores=3),
        ],
    )
    assert found.of == {
        "SingleCore": Waiting(10, 10.0, 3, 3.0),
        "MultiCore": Waiting(6, 4 * 2.0 + 2 * 8.0, 1, 8.0),
        "gpu": Waiting(6, 24.0, 0, 0.0),
    }
    assert found.unfit == (Unfit(Need(64, memory=10**12), 9), Unfit(Need(64), 7))
    assert (found.todo, found.locked) == (38, 9)


def test_an_empty_pool_has_nothing_for_anybody() -> None:
    assert demand(PLAN, []) == Demand({name: Waiting() for name in ("SingleCore", "MultiCore", "gpu")})


def test_how_long_tokens_take_is_measured_by_kind() -> None:
    latest = [ended(n) for n in (10, 20, 30.0)] + [ended(500, cores=8) for _ in range(3)]
    latest += [ended(9999, exit_code=1), ended(True), ended("long"), ended(-1), ended(5, cores=64)]
    found = demand(PLAN, [tally(1, walltime="1h"), tally(1, cores=8)], latest)
    assert (found.of["SingleCore"].seconds, found.of["SingleCore"].source) == (20.0, "what the last 3 took")
    assert found.of["MultiCore"].seconds == 500.0
    assert found.of["gpu"].seconds is None


@pytest.mark.parametrize(
    ("tallies", "walls", "setting", "seconds"),
    [
        ([tally(1, walltime=60), tally(3, walltime="20s")], [], "", 30.0),  # what they declare
        ([tally(1, walltime=60), tally(3, walltime="20s")], [5], "", 30.0),
        ([tally(1, walltime=60), tally(3, walltime="20s")], [5, 5, 8], "", 6.0),  # measured goes before
        ([tally(1, walltime=60), tally(1)], [], "", None),  # some do not tell
        ([tally(1, walltime=60), tally(1)], [7], "", 7.0),
        ([tally(1)], [], 'token-time = "2m"', 120.0),
        ([tally(1)], [7], 'token-time = "2m"', 120.0),
    ],
)
def test_how_long_tokens_take_where_few_were_measured(
    tallies: list[Tally], walls: list[float], setting: str, seconds: float | None
) -> None:
    found = demand(plan_of(f"{setting}\n{THREE_KINDS}"), tallies, [ended(wall) for wall in walls])
    assert found.of["SingleCore"].seconds == seconds


# --- How many are wanted -----------------------------------------------------------------------------


def single(
    waiting: Waiting,
    standing: Standing | None = None,
    *,
    now: float = 1000.0,
    paused: str | None = None,
    text: str = "",
) -> Decision:
    """The decision of the first kind, if there is nothing for the others."""
    plan = plan_of(f"{text}\n{THREE_KINDS}")
    return decide(plan, Demand({"SingleCore": waiting}), standing or Standing(), now, paused)[0]


@pytest.mark.parametrize(
    ("waiting", "queued", "running", "wanted", "start"),
    [
        # tokens, slots, running, their slots, seconds each; a pilot for each 15 min of work
        (Waiting(), 0, 0, 0, 0),
        (Waiting(10, 10.0), 0, 0, 10, 10),  # nobody knows how long: all at once
        (Waiting(10, 10.0, seconds=3600.0), 0, 0, 10, 10),  # no more than there are tokens for
        (Waiting(1000, 1000.0, seconds=9.0), 0, 0, 10, 10),
        (Waiting(1000, 1000.0, seconds=0.001), 0, 0, 1, 1),
        (Waiting(1000, 1000.0, seconds=0.0), 0, 0, 1, 1),
        (Waiting(10, 10.0), 4, 3, 10, 3),
        (Waiting(10, 10.0, 3, 3.0), 4, 3, 13, 6),  # those that run are busy
        (Waiting(10, 10.0, 90, 90.0), 4, 3, 13, 6),  # others' pilots have the rest
        (Waiting(1, 1.0, 5, 5.0, seconds=1.0), 0, 5, 1, 0),  # one of the five will soon take it
        (Waiting(0, 0.0, 5, 5.0), 0, 5, 0, 0),
        (Waiting(5, 5.0), 9, 9, 5, 0),
    ],
)
def test_as_many_are_wanted_as_the_work_is_worth(
    waiting: Waiting, queued: int, running: int, wanted: int, start: int
) -> None:
    found = single(waiting, Standing({"SingleCore": queued}, {"SingleCore": running}))
    assert (found.wanted, found.start) == (wanted, start)


def test_a_pilot_with_many_cores_is_worth_as_much_more_work() -> None:
    waiting = demand(PLAN, [tally(1000, cores=2)], [ended(36, cores=2)] * 3)
    found = decide(PLAN, waiting, Standing(), 0.0)
    assert [each.start for each in found] == [0, 10, 0]  # 1000 × 2 cores × 36 s ÷ (8 cores × 900 s)
    assert found[1].why == ("one for each 15 min of work, by what the last 3 took",)


def test_tokens_that_do_not_fill_a_pilot_get_one_each() -> None:
    found = decide(PLAN, demand(PLAN, [tally(10, cores=5), tally(10, cores=4)]), Standing(), 0.0)
    assert [each.start for each in found] == [0, 15, 0]


# --- What keeps them from being started --------------------------------------------------------------

MANY = Waiting(1000, 1000.0)


def test_limits_leave_room_for_so_many() -> None:
    three, two = {"SingleCore": 3}, {"SingleCore": 2}
    found = single(MANY, Standing(three, two, 1, 1), text="max-pilots = 10")
    assert (found.start, found.why[1:]) == (3, ("max-pilots 10 leaves room for 3",))
    found = single(MANY, Standing(three, two, 1), text="max-queued = 10")
    assert (found.start, found.why[1:]) == (6, ("max-queued 10 leaves room for 6",))
    found = single(MANY, Standing(started=4), text="per-hour = 10")
    assert (found.start, found.why[1:]) == (6, ("per-hour 10 leaves room for 6",))
    found = single(MANY, Standing(started=40), text="per-hour = 10")
    assert (found.start, found.why[1:]) == (0, ("per-hour 10 leaves room for none",))
    text = THREE_KINDS.replace('"4h"', '"4h"\nmax-pilots = 9\nmax-queued = 5', 1)
    found = decide(plan_of(text), Demand({"SingleCore": MANY}), Standing(three, two), 0.0)[0]
    assert found.start == 2
    assert found.why[1:] == (
        "its own max-pilots 9 leaves room for 4",
        "its own max-queued 5 leaves room for 2",
    )


def test_what_is_not_cut_is_told_no_limit() -> None:
    found = single(Waiting(2, 2.0), text="max-pilots = 10\nmax-queued = 2\nper-hour = 2")
    assert (found.start, len(found.why)) == (2, 1)


@pytest.mark.parametrize(
    ("wishes", "room", "got"),
    [
        ([], 5, []),
        ([5, 5], 100, [5, 5]),
        ([5, 5], 0, [0, 0]),
        ([100, 100], 10, [5, 5]),
        ([1, 100, 0, 100], 10, [1, 5, 0, 4]),
        ([100, 100, 100], 2, [1, 1, 0]),
        ([100], 7, [7]),
    ],
)
def test_kinds_share_what_room_there_is(wishes: list[int], room: int, got: list[int]) -> None:
    assert shared(wishes, room) == got


def test_nothing_is_started_in_a_pool_that_is_paused() -> None:
    found = single(MANY, paused="the disk is full")
    assert (found.start, found.why[-1]) == (0, "the pool is paused")
    assert single(Waiting(), paused="").why == ("nothing waits",)


def test_after_failed_starts_no_more_are_made_but_one_now_and_then() -> None:
    failing = Standing(failing={"SingleCore": Failing(3, 5000.0, "3 FAILED (no such file)")})
    found = single(MANY, failing, now=5000.0 + AGAIN_SECONDS - 1)
    assert (found.start, found.held_until) == (0, 5000.0 + AGAIN_SECONDS)
    assert found.why[-1] == "3 pilots in a row failed: 3 FAILED (no such file)"
    found = single(MANY, failing, now=5000.0 + AGAIN_SECONDS)
    assert (found.start, found.held_until) == (1, None)
    waits = Standing({"SingleCore": 1}, failing=failing.failing)
    assert single(MANY, waits, now=5000.0 + AGAIN_SECONDS).start == 0
    few = Standing(failing={"SingleCore": Failing(2, 5000.0, "")})
    assert single(Waiting(7, 7.0), few, now=5000.0).start == 7
    assert single(Waiting(), failing, now=5000.0).held_until is None, "nobody would have started any"
    assert single(MANY, few, now=5000.0, text="max-failures = 2").held_until is not None
