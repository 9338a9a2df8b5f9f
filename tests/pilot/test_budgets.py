"""Tries after failures: of each class within its own budget, after a pause, and never before."""

from __future__ import annotations

import time

import pytest

from picas.budgets import Budgets
from picas.tokens import Failure, Outcome, State

SHORT = Budgets(pause=(0.3, 0.3))


def wait_for(bench, seconds, token_id="token_0"):
    """Have the token wait for so many seconds after a failure of somebody else's pilot."""
    token = bench.pool.claim()
    assert token.id == token_id
    budgets = Budgets(lost=100, pause=(seconds, seconds))
    now = time.time()
    bench.pool.finish(token, Outcome(1, now, now, Failure.LOST, "gone"), budgets=budgets)
    return bench.token(token_id).not_before


@pytest.mark.any_pool
def test_the_next_try_comes_after_a_pause_and_the_pilot_waits_for_it(bench):
    bench.push('date +%s.%N; [ "$PICAS_ATTEMPT" = 3 ]', "true")
    summary = bench.run(max_scrub=2, budgets=SHORT)
    assert (summary.done, summary.retried, summary.reason, summary.next_try) == (2, 2, "empty", None)
    token = bench.token()
    assert [(entry["failure"], entry["exit_code"]) for entry in token.history] == [("application", 1)] * 2
    tries = [*token.history, token.run]
    assert all(
        later["started"] - earlier["ended"] >= 0.25  # as well as the two clocks agree
        for earlier, later in zip(tries, tries[1:])
        if "couch" not in bench.url
    )
    assert any("wait for their next try" in event.message for event in bench.events)


def test_other_work_goes_on_meanwhile(bench):
    bench.push({"input": '[ "$PICAS_ATTEMPT" = 2 ]', "priority": 1}, *["true"] * 3)
    bench.run(max_scrub=1, budgets=SHORT)
    starts = sorted((token.run["started"], token.id) for token in bench.pool.tokens("done"))
    assert [token_id for _, token_id in starts] == ["token_1", "token_2", "token_3", "token_0"]


def test_what_comes_meanwhile_is_not_kept_waiting(bench):
    bench.push("false")

    def push_when_it_waits(event):
        if event.kind == "waiting" and not more:
            more.append(bench.pool.push(["true"]))

    more = []
    summary = bench.run(max_scrub=1, budgets=Budgets(pause=(2.5, 2.5)), on_event=push_when_it_waits)
    assert (summary.done, summary.error) == (1, 1)
    assert bench.token("token_1").run["ended"] < bench.token().run["started"]


def test_a_pilot_does_not_stay_for_what_is_far_off_and_says_so(bench):
    bench.push("true", "true")
    not_before = wait_for(bench, 3600)
    summary = bench.run()
    assert (summary.done, summary.reason) == (1, "empty")
    assert summary.next_try == not_before
    assert bench.states() == {"token_0": "todo", "token_1": "done"}


def test_what_it_could_not_run_is_not_waited_for(bench):
    bench.push({"input": "true", "cores": 4, "kind": "a"}, {"input": "true", "kind": "b"})
    wait_for(bench, 30)
    summary = bench.run(workers=2)
    assert (summary.done, summary.next_try) == (1, None)
    assert bench.run(workers=4, where="kind == 'b'").next_try is None


def test_a_limit_of_time_ends_the_wait(bench):
    bench.push("true")
    wait_for(bench, 50)
    summary = bench.run(max_time=0.5)
    assert (summary.done, summary.reason) == (0, "max-time")


def test_a_signal_ends_the_wait(bench, eventually):
    bench.push("false", "touch begun")
    started = bench.start(max_scrub=1, budgets_pause=[50, 50])
    eventually(lambda: bench.token().not_before and bench.states()["token_1"] == "done")
    started.process.terminate()
    assert started.summary()["signal"] == 15


@pytest.mark.any_pool
def test_who_waits_for_work_takes_it_when_its_time_comes(bench, eventually):
    bench.push("true")
    wait_for(bench, 1.5)
    bench.start(wait=True)
    eventually(lambda: bench.states() == {"token_0": "done"})


@pytest.mark.any_pool
def test_pilots_that_share_a_pool_make_each_further_try_once_and_not_too_early(bench):
    bench.push(*['[ "$PICAS_ATTEMPT" = 3 ]'] * 40, *["exit 1"] * 5)
    # A server tells its time in whole seconds, and late if it is busy.
    pause, least = (0.5, 0.45) if bench.url.startswith("sqlite:") else (3.0, 0.3)
    pilots = [bench.start(max_scrub=2, budgets_pause=[pause, pause], workers=4) for _ in range(3)]
    summaries = [pilot.summary() for pilot in pilots]
    assert sum(each["done"] for each in summaries) == 40
    assert sum(each["error"] for each in summaries) == 5
    assert sum(each["retried"] for each in summaries) == 90
    for token in bench.pool.tokens():
        tries = [*token.history, token.run]
        assert [entry["attempt"] for entry in tries] == [1, 2, 3]
        assert all(after["started"] - before["ended"] > least for before, after in zip(tries, tries[1:]))


def test_an_exit_code_that_means_try_again_costs_no_scrub(bench):
    bench.push('[ "$PICAS_ATTEMPT" = 3 ] || exit 75', "exit 76")
    summary = bench.run(retry_on=[75])
    assert (summary.done, summary.retried, summary.error) == (1, 2, 1)
    token = bench.token()
    assert (token.scrub_count, token.picas["spent"]) == (0, {"again": 2})


def test_what_cannot_be_started_has_a_budget_of_its_own(bench):
    bench.push({"cmd": "/no/such/program"})
    summary = bench.run(["{cmd}"], max_scrub=0, budgets=Budgets(infrastructure=2, pause=(0, 0)))
    assert (summary.retried, summary.error) == (2, 1)
    token = bench.token()
    assert (token.scrub_count, token["exit_code"], token.attempt) == (0, 127, 3)
    assert [entry["failure"] for entry in (*token.history, token.run)] == ["infrastructure"] * 3


def test_what_the_token_itself_makes_impossible_is_tried_once(bench):
    bench.push({"input": 5}, {"input": "a\0b"}, {"input": "true"})
    summary = bench.run()
    assert (summary.done, summary.retried, summary.error) == (1, 0, 2)


def test_every_attempt_stays_in_the_history_with_its_class_host_times_and_logs(bench):
    bench.push('echo $PICAS_ATTEMPT; case "$PICAS_ATTEMPT" in 1) exit 4;; 2) kill -9 $$;; 3) sleep 60;; esac')
    summary = bench.run(max_scrub=3, task_timeout=1.0)
    assert summary.done == 1
    token = bench.token()
    assert [entry["failure"] for entry in token.history] == ["application", "signal", "timeout"]
    assert [entry["exit_code"] for entry in token.history] == [4, 137, 124]
    for n, entry in enumerate(token.history, 1):
        assert entry["claimed"] <= entry["started"] + 0.1 <= entry["ended"] + 0.2
        assert entry["host"]
        assert entry["pilot"]
        assert entry["attempt"] == n
        assert bench.attached(entry["logs"][0]) == f"{n}\n".encode()
    assert bench.out() == "4\n"


def test_a_person_need_not_wait(bench):
    bench.push("true")
    wait_for(bench, 3600)
    assert bench.pool.reset(bench.pool.tokens(State.TODO)) == 1
    assert bench.run().done == 1
    assert bench.token().picas.get("spent") is None
