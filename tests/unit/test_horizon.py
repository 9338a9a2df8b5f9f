"""Which tokens fit into the time that a pilot has left, and which a claim then leaves."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.errors import PoolUnavailable
from picas.pilot.horizon import MOST_TEXTS, Horizon
from picas.pool import open_pool
from picas.selection import Selection
from picas.tokens import Outcome, Token, Usage

ANY_WALLTIME = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10_000),
    st.floats(-10, 10_000),
    st.sampled_from(["1h", "2h", "1m", "00:10:00", "soon", "", "it's", "\0", "\ud800", 'a "q" \\']),
    st.text(max_size=5),
    st.just([60]),
)


def horizon(left: float, *walls: float, where: Selection | None = None) -> Horizon:
    made = Horizon(time.monotonic() + left, where)
    for wall in walls:
        made.measure(wall)
    return made


def token(walltime: object = None, **fields: object) -> Token:
    return Token("token_1", {**fields, "walltime": walltime})


def passes(condition: Selection | None, each: Token) -> bool:
    return condition is None or condition.matches(each.id, each.body)


def test_what_a_token_declares_goes_before_what_others_took():
    looked = horizon(1000, 5000, 5000)
    assert looked.fits(token(900))
    assert looked.fits(token("15m"))
    assert not looked.fits(token("20m"))
    assert not looked.fits(token())
    assert horizon(1000, 10).fits(token())
    assert not horizon(1000, 10).fits(token(1001))


def test_as_long_as_nothing_is_known_a_token_that_declares_nothing_fits():
    assert horizon(0.5).fits(token())
    assert horizon(0.5).fits(token("soon"))


def test_others_are_expected_to_take_as_long_as_nineteen_in_twenty_did():
    walls = [*range(1, 101)]
    assert horizon(50, *walls).expected == 95
    assert horizon(50, 7).expected == 7


def test_as_long_as_all_fits_claims_are_as_they_were():
    where = Selection.parse("cores == 1")
    looked = horizon(1000, 10)
    assert looked.sort([token(5), token("1m"), token()]) == ([token(5), token("1m"), token()], [])
    assert looked.narrowed(where) is where
    assert looked.narrowed(None) is None


@given(st.lists(ANY_WALLTIME, max_size=30), st.floats(0, 9000), st.lists(st.floats(0, 9000), max_size=3))
def test_what_did_not_fit_is_not_claimed_again_and_what_fits_is(walltimes, left, walls):
    """Each claim that brings something unfit leaves less, until claims bring only what fits: never for ever."""
    looked = horizon(left + 0.9, *walls)
    pool = [token(walltime) for walltime in walltimes]
    for _ in range(len(pool) + 1):
        fitting, others = looked.sort([each for each in pool if passes(looked.narrowed(None), each)])
        if not others:
            break
        assert len(fitting) < len(pool)
    assert others == []
    for each in pool:
        walltime = each.get("walltime")
        if type(walltime) in (int, float) and 0 < walltime < looked.left - 1:  # it counts in whole seconds
            assert each in fitting


def test_very_many_different_texts_are_left_all_together():
    looked = horizon(10)
    looked.sort([token(f"{n}h") for n in range(1, MOST_TEXTS + 2)])
    condition = looked.narrowed(None)
    assert not passes(condition, token("1s"))
    assert passes(condition, token(1))
    assert passes(condition, token())


def test_it_learns_from_what_is_done_in_the_pool(tmp_path):
    pool = open_pool(f"sqlite:///{tmp_path}/p.db")
    pool.push([{"input": str(n), "kind": "long" if n else "short"} for n in range(4)])
    for n, claimed in enumerate(pool.claim_many(4)):
        pool.finish(claimed, Outcome(0, 0.0, 1.0, usage=Usage(100.0 * (n + 1))))
    looked = horizon(1000)
    looked.learn(pool)
    assert looked.expected == 400
    only_short = horizon(1000, where=Selection.parse("kind == 'short'"))
    only_short.learn(pool)
    assert only_short.expected == 100
    pool.push(["more"])
    pool.finish(pool.claim(), Outcome(0, 0.0, 1.0, usage=Usage(9000.0)))
    looked.learn(pool)
    assert looked.expected == 400  # it asks once
    pool.close()


def test_a_pool_that_is_away_is_asked_the_next_time():
    class Away:
        asked = 0

        def tokens(self, state):
            self.asked += 1
            raise PoolUnavailable("away")

    looked, pool = horizon(1000), Away()
    looked.learn(pool)
    looked.learn(pool)
    assert (pool.asked, looked.expected) == (2, 0)


@pytest.mark.parametrize("walls", [(), (5000.0,)], ids=["nothing known", "others take too long"])
def test_the_condition_means_the_same_to_a_database(tmp_path, walls):
    """Asked of SQLite, which reads it as SQL."""
    written = [5, 700.5, 4000, "10m", "2h", "soon", "it's", None, True, [1]]
    with open_pool(f"sqlite:///{tmp_path}/p.db") as pool:
        pool.push([{"input": str(n), "walltime": walltime} for n, walltime in enumerate(written)])
        looked = horizon(1000.5, *walls)
        looked.sort(list(pool.tokens("todo")))
        condition = looked.narrowed(None)
        found = [each.get("walltime") for each in pool.tokens("todo", condition)]
    expected = [5, 700.5, "10m"] if walls else [5, 700.5, "10m", "soon", "it's", None, True, [1]]
    assert found == expected
    assert found == [walltime for walltime in written if passes(condition, token(walltime))]
