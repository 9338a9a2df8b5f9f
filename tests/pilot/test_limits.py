"""What a pilot takes, in which order, and when it ends."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from picas.errors import InvalidInput
from picas.pilot.supply import Supply
from picas.tokens import Claimer


def order_of_work(bench):
    """The ids in the order in which they were begun."""
    return [event.token.id for event in bench.events if event.kind == "started"]


def counted(bench, state):
    return list(bench.states().values()).count(state)


@pytest.mark.parametrize("work", [None, lambda token: None], ids=["commands", "functions"])
@pytest.mark.parametrize("workers", [1, 4])
def test_no_more_than_max_tasks_are_begun(bench, work, workers):
    bench.push(*["true"] * 60)
    summary = bench.run(work, workers=workers, max_tasks=37)
    assert (summary.done, summary.reason, summary.released) == (37, "max-tasks", 0)
    assert (counted(bench, "done"), counted(bench, "todo")) == (37, 23)


def test_what_has_just_been_claimed_counts_before_more_is(bench):
    bench.push(*["true"] * 60)
    claimer = Claimer("pilot", "here")
    news = threading.Event()
    supply = Supply(bench.pool, claimer, None, "oldest", 4, news.set, print, print)
    supply.start()
    try:
        assert supply.refill(4, 4, 0.0)
        assert news.wait(120)
        assert not supply.refill(4, 4, 0.0)  # the answer is there, and nobody has looked at it
        supply.collect()
        assert len(supply) == 4
    finally:
        supply.stop()
        supply.join(120)


def test_failed_and_repeated_attempts_count_among_max_tasks(bench):
    bench.push(*["false"] * 10)
    summary = bench.run(workers=4, max_tasks=25, max_scrub=2)
    assert summary.error + summary.retried == 25
    assert sum(token.attempt for token in bench.pool.tokens()) == 25


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_is_begun_after_max_time_and_what_runs_is_finished(bench, workers):
    bench.push(*["sleep 0.05"] * 3, *["sleep 0.4; echo end"] * 50)
    summary = bench.run(workers=workers, max_time=1.2, order="oldest")
    assert summary.reason == "max-time"
    assert summary.error == 0
    done = [token for token in bench.pool.tokens("done") if "end" in token.input]
    assert 1 <= len(done) <= 20
    assert all(bench.out(token.id) == "end\n" for token in done)
    assert counted(bench, "locked") == 0
    assert all(token.attempt == 0 for token in bench.pool.tokens("todo"))


def test_max_time_ends_functions_with_many_claimed_ahead(bench):
    bench.push(*map(str, range(300)))
    summary = bench.run(lambda token: time.sleep(0.01), max_time=0.5)
    assert summary.reason == "max-time"
    assert counted(bench, "todo") > 0
    assert counted(bench, "done") + counted(bench, "todo") == 300


def test_a_pilot_that_only_waits_for_the_last_token_does_not_keep_the_processor_busy(bench):
    bench.push("sleep 1.5")
    before = time.process_time()
    bench.run(workers=4, max_time=0.3)
    assert time.process_time() - before < 0.7


def test_a_token_takes_as_many_slots_as_it_has_cores(bench):
    command = 'echo "$PICAS_TOKEN_ID + $PICAS_CORES" >> "$TEST_SCRATCH/../log"; sleep 0.1; echo "$PICAS_TOKEN_ID -" >> "$TEST_SCRATCH/../log"'
    bench.push(*({"input": command, "cores": 1 + n % 2} for n in range(12)))
    assert bench.run(workers=2).done == 12
    used, cores = 0, {}
    for token_id, sign, *number in map(str.split, Path("log").read_text().splitlines()):
        if sign == "+":
            cores[token_id] = int(number[0])
            used += cores[token_id]
        else:
            used -= cores[token_id]
        assert used <= 2


def test_tokens_that_need_more_cores_than_there_are_stay_and_are_counted(bench):
    bench.push(
        {"input": "true", "cores": 3}, "true", {"input": "true", "cores": 8}, {"input": "true", "cores": 2}
    )
    summary = bench.run(workers=2)
    assert (summary.done, summary.unfit) == (2, 2)
    assert list(bench.states().values()) == ["todo", "done", "todo", "done"]
    assert bench.token("token_0").attempt == 0


def test_only_tokens_that_fit_the_condition_are_taken(bench):
    bench.push(*({"input": "true", "site": site} for site in "abab"))
    assert bench.run(where="site == 'b'").done == 2
    assert list(bench.states().values()) == ["todo", "done", "todo", "done"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("priority", ["high4", "a1", "b3", "c5", "low2"]),
        ("oldest", ["a1", "low2", "b3", "high4", "c5"]),
        ("newest", ["c5", "high4", "b3", "low2", "a1"]),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_tokens_are_begun_in_the_order_asked_for(bench, order, expected, workers):
    priorities = {"a1": 0, "low2": -1, "b3": 0, "high4": 2.5, "c5": 0}
    bench.push(*({"_id": name, "input": "true", "priority": number} for name, number in priorities.items()))
    bench.run(workers=workers, order=order)
    assert order_of_work(bench) == expected


def test_a_failed_token_is_tried_again_as_often_as_allowed(bench):
    bench.push("echo $PICAS_ATTEMPT; exit $PICAS_ATTEMPT")
    summary = bench.run(max_scrub=2)
    assert (summary.error, summary.retried) == (1, 2)
    token = bench.token()
    assert (token["exit_code"], token["scrub_count"], token.attempt) == (3, 2, 3)
    assert [(entry["attempt"], entry["exit_code"]) for entry in token.history] == [(1, 1), (2, 2)]
    assert [entry["message"] for entry in token["error"]] == ["exit code 1", "exit code 2", "exit code 3"]


def test_a_token_that_succeeds_the_second_time_is_done(bench):
    bench.push('[ "$PICAS_ATTEMPT" = 2 ]')
    summary = bench.run(max_scrub=5)
    assert (summary.done, summary.retried, summary.error) == (1, 1, 0)


def test_reset_gives_a_fresh_budget(bench):
    bench.push("false")
    bench.run(max_scrub=1)
    assert bench.pool.reset(bench.pool.tokens("error")) == 1
    bench.run(max_scrub=1)
    token = bench.token()
    assert (token.attempt, token.state.value) == (4, "error")
    assert len([name for name in token.attachments if name.endswith(".out")]) == 4


PUSH_MORE = f"""{sys.executable} -c '
import os
from picas.pool import open_pool
n = int(os.environ["PICAS_N"])
if n: open_pool(os.environ["PICAS_POOL"]).push([{{"input": os.environ["PICAS_INPUT"], "n": n - 1}}])
'"""


def test_tokens_that_a_command_pushes_are_run_by_the_same_pilot(bench):
    bench.push({"input": PUSH_MORE, "n": 2})
    assert bench.run().done == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_tokens_that_a_function_pushes_are_run_by_the_same_pilot(bench, workers):
    def work(token):
        if token["n"]:
            bench.pool.push([{"n": token["n"] - 1}])

    bench.push({"n": 4})
    assert bench.run(work, workers=workers).done == 5


def test_a_waiting_pilot_takes_what_is_pushed_later_and_ends_when_told(bench, eventually):
    pilot = bench.pilot(wait=True)
    thread = threading.Thread(target=pilot.run)
    thread.start()
    try:
        eventually(lambda: any(event.kind == "waiting" for event in bench.events))
        time.sleep(0.5)
        bench.push("true")
        eventually(lambda: bench.states() == {"token_0": "done"})
    finally:
        pilot.stop()
        thread.join(120)
    assert not thread.is_alive()


def test_a_waiting_pilot_says_once_that_it_waits_and_hardly_works(bench):
    bench.push("true")
    before = time.process_time()
    assert bench.run(wait=True, max_time=2).reason == "max-time"
    assert time.process_time() - before < 1.0
    assert [event.kind for event in bench.events].count("waiting") == 1


def test_tokens_claimed_ahead_go_back_when_the_work_turns_out_long(bench, monkeypatch, eventually):
    from picas.pilot import supply

    monkeypatch.setattr(supply, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(supply, "STALE_CHECK_SECONDS", 0.1)
    bench.push(*["true"] * 20, *["sleep 1000"] * 200)
    started = bench.pilot(order="oldest")
    thread = threading.Thread(target=started.run)
    thread.start()
    try:
        eventually(lambda: counted(bench, "done") >= 20 and counted(bench, "locked") > 1)
        eventually(lambda: counted(bench, "locked") == 1)
    finally:
        started.stop()
        thread.join(120)
    assert all(token.attempt == 0 for token in list(bench.pool.tokens("todo"))[1:])


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"max_tasks": 0},
        {"max_time": 0},
        {"max_time": float("nan")},
        {"task_timeout": -1},
        {"max_scrub": -1},
        {"log_cap": -1},
        {"grace": -0.1},
        {"order": "random"},
        {"where": "cores ="},
    ],
)
def test_limits_that_make_no_sense_are_refused(bench, options):
    with pytest.raises(InvalidInput):
        bench.pilot(**options)


def test_limits_that_never_end_are_taken(bench):
    bench.push("true")
    assert bench.run(max_time=float("inf"), task_timeout=1e12).done == 1


def test_what_a_listener_raises_ends_the_pilot_in_order(bench):
    def listener(event):
        if event.kind == "finished":
            raise RuntimeError("no more")

    bench.push(*["true"] * 50)
    with pytest.raises(RuntimeError, match="no more"):
        bench.run(on_event=listener, workers=2)
    assert counted(bench, "locked") == 0
    assert counted(bench, "done") >= 1
