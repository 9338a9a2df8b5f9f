"""Budgets: how often a token is tried again after failures of each class, and after which pause."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.budgets import AGAIN, COUNTED_APART, Budgets
from picas.errors import InvalidInput
from picas.tokens import Claimer, Failure, Outcome, State, Token, fresh_body, spent
from picas.transitions import claim, reset

NOW = 1_700_000_000.0
CLAIMER = Claimer("pilot", "node")
OF_THE_WORK = [Failure.APPLICATION, Failure.TIMEOUT, Failure.SIGNAL, Failure.MEMORY]
OF_THE_PLACE = [Failure.LOST, Failure.INFRASTRUCTURE, Failure.PREEMPTED]


def failed(failure: Failure | None, exit_code: int = 1) -> Outcome:
    return Outcome(exit_code, NOW, NOW + 1, failure, "it failed")


def fresh() -> Token:
    return Token("a", fresh_body({"input": "x"}))


def pauses(budgets: Budgets, outcome: Outcome, token: Token | None = None) -> tuple[list[float], Token]:
    """The pauses before each further try of a token that always fails so, and the token in error."""
    token = token or fresh()
    found = []
    while True:
        token = budgets.after(claim(token, CLAIMER, NOW), outcome, (), NOW)
        if token.state is State.ERROR:
            return found, token
        assert token.state is State.TODO
        found.append(token.not_before - NOW if token.not_before else 0.0)


@pytest.mark.parametrize("failure", OF_THE_WORK)
def test_failures_of_the_work_are_scrubs(failure: Failure) -> None:
    found, token = pauses(Budgets(scrub=4), failed(failure))
    assert found == [1, 2, 4, 8]
    assert (token.scrub_count, token.attempt, token.picas.get("spent")) == (4, 5, None)
    assert {entry["failure"] for entry in (*token.history, token.run)} == {failure.value}


@pytest.mark.parametrize("failure", OF_THE_PLACE)
def test_failures_of_the_place_have_limits_of_their_own(failure: Failure) -> None:
    budgets = replace(Budgets(scrub=0, spread=1), **{failure.value: 3})
    found, token = pauses(budgets, failed(failure))
    assert found == ([0, 0, 0] if failure is Failure.PREEMPTED else [1, 2, 4])
    assert (token.scrub_count, token.picas["spent"]) == (0, {failure.value: 3})
    assert (token.run["failure"], token.attempt) == (failure.value, 4)


def test_no_class_costs_another_one_anything() -> None:
    budgets = Budgets(scrub=1, lost=1, infrastructure=1, preempted=1, spread=1)
    token = fresh()
    for failure in (*OF_THE_PLACE, Failure.APPLICATION):
        token = budgets.after(claim(token, CLAIMER, NOW), failed(failure), (), NOW)
        assert token.state is State.TODO
        # each class begins with the shortest pause; whose batch job ended need not wait at all
        assert token.not_before == (0 if failure is Failure.PREEMPTED else NOW + 1)
    for failure in (*OF_THE_PLACE, Failure.TIMEOUT):
        ended = budgets.after(claim(token, CLAIMER, NOW), failed(failure), (), NOW)
        assert (ended.state, ended.run["failure"]) == (State.ERROR, failure.value)


def test_an_exit_code_that_means_try_again_costs_no_scrub() -> None:
    budgets = Budgets(scrub=0, again=2, retry_on=(75, 111))
    found, token = pauses(budgets, failed(Failure.APPLICATION, 75))
    assert found == [1, 2]
    assert (token.scrub_count, spent(token, AGAIN), token["exit_code"]) == (0, 2, 75)
    assert token.run["failure"] == "application"
    assert pauses(budgets, failed(Failure.APPLICATION, 76))[0] == []
    assert pauses(budgets, failed(Failure.SIGNAL, 75))[0] == []  # not the work's own word


def test_the_pause_grows_up_to_the_longest() -> None:
    found, _ = pauses(Budgets(infrastructure=40, pause=(2, 100)), failed(Failure.INFRASTRUCTURE))
    assert found == [2, 4, 8, 16, 32, 64] + [100] * 34


def test_tokens_that_were_lost_together_do_not_wait_for_the_same_time() -> None:
    first = [pauses(Budgets(pause=(10, 600)), failed(Failure.LOST))[0] for _ in range(50)]
    for n, shortest in enumerate((10, 20, 40)):
        found = sorted(each[n] for each in first)
        assert shortest <= found[0] < found[-1] <= 3 * shortest
        assert found[-1] - found[0] > shortest / 2
    assert pauses(Budgets(lost=9, pause=(10, 40)), failed(Failure.LOST))[0][3:] == [40] * 6


def test_without_a_pause_a_token_is_free_at_once() -> None:
    assert pauses(Budgets(scrub=2, pause=(0, 0)), failed(Failure.APPLICATION))[0] == [0, 0]


@pytest.mark.parametrize("failure", [None, Failure.RELEASED])
def test_success_and_release_are_not_charged(failure: Failure | None) -> None:
    budgets = Budgets(scrub=9)
    outcome = Outcome(0, NOW, NOW + 1, failure)
    token = claim(fresh(), CLAIMER, NOW)
    assert budgets.pause_before(token, outcome) is None
    ended = budgets.after(token, outcome, (), NOW)
    assert (ended.state, ended.scrub_count) == (State.TODO if failure else State.DONE, 0)
    assert not ended.not_before


def test_what_would_end_the_same_way_is_not_tried_again() -> None:
    assert pauses(Budgets(), replace(failed(Failure.INFRASTRUCTURE), final=True))[0] == []
    assert pauses(Budgets(scrub=3), replace(failed(Failure.APPLICATION), final=True))[0] == []


def test_a_reset_gives_fresh_budgets() -> None:
    for failure in (Failure.LOST, Failure.APPLICATION):
        budgets = Budgets(scrub=2, lost=2, spread=1)
        first, token = pauses(budgets, failed(failure))
        again, _ = pauses(budgets, failed(failure), reset(token, NOW))
        assert first == again == [1, 2]


def test_what_somebody_else_wrote_there_is_no_obstacle() -> None:
    for written in ("x", 5, [1], {"lost": "many"}, {"lost": -3}, {"lost": None}):
        token = Token("a", {**fresh().body, "picas": {"spent": written, "scrub_base": "?"}})
        assert pauses(Budgets(lost=2, spread=1), failed(Failure.LOST), token)[0] == [1, 2]


def test_of_a_program_that_says_only_how_often_nothing_else_is_tried_again() -> None:
    budgets = Budgets.of_scrub(2)
    assert pauses(budgets, failed(Failure.APPLICATION))[0] == [0, 0]
    assert all(pauses(budgets, failed(failure))[0] == [] for failure in OF_THE_PLACE)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: -1} for name in ("scrub", *COUNTED_APART)),
        {"retry_on": (0,)},
        {"retry_on": (75, 256)},
        {"pause": (2, 1)},
        {"spread": 0.5},
        {"spread": float("nan")},
        {"pause": (-1, 1)},
        {"pause": (float("nan"), 1)},
    ],
)
def test_budgets_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Budgets(**wrong)


@given(
    st.builds(
        Budgets,
        *[st.integers(0, 10**6)] * 5,
        st.lists(st.integers(1, 255), max_size=3).map(tuple),
        st.tuples(st.floats(0, 9), st.floats(9, 1e6)),
    )
)
def test_budgets_are_read_as_they_were_written(budgets: Budgets) -> None:
    written = json.loads(json.dumps(budgets.as_dict()))
    assert Budgets.from_dict(written) == budgets
    assert Budgets.from_dict({**written, "of a later version": 1}) == budgets
    assert Budgets.from_dict({}) == Budgets()
