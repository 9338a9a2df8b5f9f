"""Pilots that are dead, or believed to be: what they held goes back, and nothing that they finished is lost."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from picas import machine
from picas.budgets import Budgets
from picas.errors import PoolUnavailable
from picas.finishing import Result, Verdict
from picas.fleet import orders
from picas.fleet.reaping import Reaper
from picas.pool import open_pool
from picas.selection import Selection
from picas.spool.spool import Spool
from picas.stores.base import Change, PilotRecord
from picas.tokens import Claimer, Failure, Outcome, State, Token
from picas.transitions import claim

pytestmark = pytest.mark.any_pool

QUICK = {"lease": 2.0, "beat": 0.5}
"""A pilot that counts as dead after two seconds."""

ONCE = Budgets(lost=1, pause=(0.0, 0.0))

ELSEWHERE = {"boot": "another machine"}


def fleet_of(bench: Any) -> Any:
    return bench.pool.store.fleet


def claimed(bench: Any, pilot: str = "gone", count: int = 1, **fields: Any) -> Any:
    """Tokens that a pilot elsewhere has claimed, whose record says that they run."""
    claimer = Claimer(pilot, "far", {}, "/nowhere/picas-x", 60.0)
    tokens = bench.pool.claim_many(count, claimer)
    running = [{"id": token.id, "claim": token.claim_id} for token in tokens]
    fleet_of(bench).beat(
        pilot,
        {"host": "far", "lease": 60.0, "interval": 10.0, "process": ELSEWHERE, "running": running, **fields},
    )
    return tokens


def silence(monkeypatch: pytest.MonkeyPatch, bench: Any, seconds: float = 100.0) -> None:
    """Let all records be so old."""
    fleet = type(fleet_of(bench))
    pilots = fleet.pilots

    def older(self: Any) -> list[PilotRecord]:
        return [PilotRecord(each.id, each.fields, each.silent + seconds) for each in pilots(self)]

    monkeypatch.setattr(fleet, "pilots", older)


def reap(bench: Any, budgets: Budgets = ONCE) -> Any:
    return Reaper(bench.pool, budgets).reap(sure=True, orphans=True)


# --- Real processes ---


def test_what_a_killed_pilot_ran_is_taken_over_by_the_next_one_here(bench, eventually):
    bench.push('echo attempt "$TEST_TRY"; test -e "$TEST_SCRATCH/../again" || sleep 1000')
    pilot = bench.start()
    eventually(lambda: bench.states() == {"token_0": "locked"} and bench.left_in_scratch())
    eventually(
        lambda: list(bench.scratch.rglob("stdout")) and next(bench.scratch.rglob("stdout")).read_text()
    )
    (bench.path / "again").touch()
    pilot.kill()
    assert bench.run().done == 1
    token = bench.token()
    first, last = token.history[0], token.run
    assert (first["failure"], first["attempt"], last["attempt"]) == ("lost", 1, 2)
    assert first["logs"] == ["logs_token_0.attempt-1.out", "logs_token_0.attempt-1.err"]
    assert bench.attached("logs_token_0.attempt-1.out") == b"attempt \n"
    assert token.scrub_count == 0
    assert fleet_of(bench).pilots() == []
    assert bench.left_in_scratch() == []
    assert bench.alive() == []


def test_a_pilot_that_was_stopped_for_too_long_finds_its_tokens_with_others(bench, eventually):
    bench.push('test -e "$TEST_SCRATCH/../second" || sleep 4; echo done')
    first = bench.start(**QUICK)
    eventually(lambda: bench.states() == {"token_0": "locked"})
    held = bench.token().claim_id
    eventually(lambda: fleet_of(bench).pilots()[0].fields["running"])
    first.signal(signal.SIGSTOP)
    (bench.path / "second").touch()
    second = bench.start(wait=True, **QUICK)
    eventually(lambda: bench.states() == {"token_0": "done"})
    assert bench.token().claim_id != held
    first.signal(signal.SIGCONT)
    assert first.summary()["superseded"] == 1
    second.signal(signal.SIGTERM)
    second.summary()
    token = bench.token()
    assert (token.state, token.attempt) == (State.DONE, 2)
    late = [entry for entry in token.history if entry.get("superseded")]
    assert [entry["claim"] for entry in late] == [held]
    assert bench.attached(late[0]["logs"][0]) == b"done\n"


def test_a_clock_that_is_hours_off_makes_no_pilot_look_dead(bench, eventually):
    bench.push(*["sleep 3"] * 2)
    source = "import time\nreal = time.time\ntime.time = lambda: real() + {}"
    pilots = [bench.start(source.format(hours * 3600), **QUICK) for hours in (-5, 5)]
    eventually(lambda: set(bench.states().values()) == {"locked"})
    assert bench.run(wait=False, **QUICK).done == 0
    assert [pilot.summary()["done"] for pilot in pilots] == [1, 1]
    assert [token.attempt for token in bench.pool.tokens()] == [1, 1]


def test_a_pilot_that_leaves_in_order_leaves_no_record(bench):
    bench.push("true")
    seen: list[int] = []
    bench.run(lambda token: seen.append(len(fleet_of(bench).pilots())))
    assert seen == [1]
    assert fleet_of(bench).pilots() == []


# --- Taking back ---


def test_the_tokens_of_a_silent_pilot_are_todo_again_and_its_record_goes_last(bench, monkeypatch):
    bench.push("a", "b")
    claimed(bench)
    assert reap(bench).tokens == []
    silence(monkeypatch, bench)
    done = reap(bench)
    assert (done.tokens, done.pilots) == (["token_0"], ["gone"])
    token = bench.token()
    assert (token.state, token.scrub_count, token.history[0]["failure"]) == (State.TODO, 0, "lost")
    assert "has not given a sign of life" in token["error"][-1]["message"]
    assert fleet_of(bench).pilots() == []


def test_a_token_that_loses_its_pilots_too_often_is_in_error(bench, monkeypatch):
    bench.push("a")
    silence(monkeypatch, bench)
    for _ in range(2):
        claimed(bench)
        reap(bench)
    token = bench.token()
    assert (token.state, token.run["failure"], len(token.history)) == (State.ERROR, "lost", 1)


def test_what_had_not_begun_is_not_charged(bench, monkeypatch):
    bench.push("a", "b")
    claimed(bench, count=2, running=[])
    silence(monkeypatch, bench)
    assert sorted(reap(bench).tokens) == ["token_0", "token_1"]
    assert [(token.state, token.attempt, token.get("error")) for token in bench.pool.tokens()] == [
        (State.TODO, 0, None)
    ] * 2


def test_a_token_that_is_never_seen_running_and_kills_all_its_pilots_is_charged_at_last(bench, monkeypatch):
    bench.push("a")
    silence(monkeypatch, bench)
    for _ in range(12):
        if bench.token().state is State.TODO:
            claimed(bench, running=[])
            reap(bench, Budgets(lost=0, pause=(0.0, 0.0)))
    assert (bench.token().state, bench.token().run["failure"]) == (State.ERROR, "lost")


def test_locks_without_a_lease_are_left_to_people(bench, monkeypatch):
    bench.push("a", "b")
    bench.pool.claim(Claimer("program", "far"))
    other = dict(bench.pool.claim().body, picas={}, lock=1_000_000_000)
    bench.pool.store.replace([Change(Token("token_1", other, bench.token("token_1").rev))])
    silence(monkeypatch, bench)
    assert reap(bench).tokens == []
    assert set(bench.states().values()) == {"locked"}


def test_a_token_whose_pilot_has_no_record_goes_back_when_its_lease_is_over(bench):
    bench.push("a")
    store = bench.pool.store
    claimer = Claimer("unknown", "far", {}, "", 60.0)
    store.claim(lambda token: claim(token, claimer, store.now()), 1, None, "oldest")
    assert reap(bench).tokens == []
    bench.pool.reset(bench.pool.tokens("locked"))
    store.claim(lambda token: claim(token, claimer, store.now() - 100), 1, None, "oldest")
    assert reap(bench).tokens == ["token_0"]


def test_two_who_take_back_at_once_do_it_once(bench, monkeypatch):
    bench.push(*"abcdefgh")
    claimed(bench, count=8)
    silence(monkeypatch, bench)
    start = threading.Barrier(4)

    def go() -> None:
        with open_pool(bench.url) as mine:
            start.wait()
            Reaper(mine, ONCE).reap(sure=True)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = list(bench.pool.tokens())
    assert {token.state for token in tokens} == {State.TODO}
    assert [[entry["failure"] for entry in token.history] for token in tokens] == [["lost"]] * 8
    assert [token.picas["spent"] for token in tokens] == [{"lost": 1}] * 8


def test_a_pool_that_was_away_makes_nobody_look_dead(bench, monkeypatch):
    bench.push("a")
    claimed(bench)
    silence(monkeypatch, bench)
    monkeypatch.setattr(type(fleet_of(bench)), "steady", False)
    reaper = Reaper(bench.pool, ONCE)
    done = reaper.reap()
    assert (done.tokens, done.unsure) == ([], ["gone"])
    here, now = machine.clock()
    monkeypatch.setattr(
        machine, "clock", lambda: (here, now + 16)
    )  # in touch for longer than it takes to give a sign
    assert reaper.reap().tokens == ["token_0"]


def test_it_begins_anew_after_a_trouble_for_which_a_living_pilot_may_be_silent(bench, monkeypatch):
    here, now = machine.clock()

    def at(seconds: float) -> None:
        monkeypatch.setattr(machine, "clock", lambda: (here, now + seconds))

    bench.push("a")
    claimed(bench)  # with a lease of 60 s, and a sign each 10 s
    silence(monkeypatch, bench)
    monkeypatch.setattr(type(fleet_of(bench)), "steady", False)
    reaper = Reaper(bench.pool, ONCE)
    reaper.reap()
    reaper.out_of_touch()
    for seconds in (30, 44):
        at(seconds)
        assert reaper.reap().unsure == ["gone"]
    at(46)
    assert reaper.reap().tokens == ["token_0"]


def test_a_request_that_is_lost_now_and_then_does_not_count(bench, monkeypatch):
    here, now = machine.clock()
    bench.push("a")
    claimed(bench)
    silence(monkeypatch, bench)
    monkeypatch.setattr(type(fleet_of(bench)), "steady", False)
    reaper = Reaper(bench.pool, ONCE)
    assert reaper.reap().unsure == ["gone"]
    reaper.out_of_touch()
    monkeypatch.setattr(machine, "clock", lambda: (here, now + 16))
    assert reaper.reap().tokens == ["token_0"]


def test_what_the_pool_does_not_answer_to_keeps_no_other_token_from_going_back(bench, monkeypatch):
    bench.push(*"abcdefg")
    claimed(bench, count=7)
    silence(monkeypatch, bench)
    finish_many = bench.pool.finish_many

    def sometimes(results: Any, **options: Any) -> Any:
        if any(result.token.id == "token_3" for result in results):
            raise PoolUnavailable("no answer")
        return finish_many(results, **options)

    monkeypatch.setattr(bench.pool, "finish_many", sometimes)
    with pytest.raises(PoolUnavailable):
        reap(bench)
    assert [token.id for token in bench.pool.tokens("locked")] == ["token_3"]
    assert [record.id for record in fleet_of(bench).pilots()] == ["gone"]
    monkeypatch.undo()
    silence(monkeypatch, bench)
    assert reap(bench).tokens == ["token_3"]
    assert [len(token.history) for token in bench.pool.tokens()] == [1] * 7


def test_logs_that_are_gone_when_they_are_read_keep_no_token_from_going_back(bench, monkeypatch):
    bench.push(*"abc")
    scratch = bench.scratch / "picas-alive"
    tokens = bench.pool.claim_many(3, Claimer("gone", "far", {}, str(scratch), 60.0))
    running = [{"id": token.id, "claim": token.claim_id} for token in tokens]
    fields = {"lease": 60.0, "interval": 10.0, "process": ELSEWHERE, "running": running}
    fleet_of(bench).beat("gone", fields)
    for token in tokens:
        (scratch / token.claim_id).mkdir(parents=True, mode=0o700)
        (scratch / token.claim_id / "stdout").write_text("so far")
    scratch.chmod(0o700)
    silence(monkeypatch, bench)
    finish_many = bench.pool.finish_many

    def as_its_pilot_ends(results: Any, **options: Any) -> Any:
        (scratch / tokens[1].claim_id / "stdout").unlink(missing_ok=True)
        return finish_many(results, **options)

    monkeypatch.setattr(bench.pool, "finish_many", as_its_pilot_ends)
    assert len(reap(bench).tokens) == 3
    found = [token.history[0].get("logs") for token in bench.pool.tokens("todo")]
    assert [bool(logs) for logs in found] == [True, False, True]


def test_a_pool_that_answers_nothing_is_not_asked_for_each_token(bench, monkeypatch):
    bench.push(*"abcdefg")
    claimed(bench, count=7)
    silence(monkeypatch, bench)
    asked: list[int] = []

    def never(results: Any, **_: Any) -> Any:
        asked.append(len(results))
        raise PoolUnavailable("no answer")

    monkeypatch.setattr(bench.pool, "finish_many", never)
    with pytest.raises(PoolUnavailable):
        reap(bench)
    assert asked == [7, 3, 1, 2, 1, 1]


# --- Late results ---


def finish(bench: Any, token: Any, code: int = 0) -> Verdict:
    failure = Failure.APPLICATION if code else None
    now = time.time()
    return bench.pool.finish(token, Outcome(code, now - 1, now, failure, "late" if code else ""))


def test_a_late_result_counts_if_nobody_has_claimed_the_token_since(bench, monkeypatch):
    bench.push("a")
    (token,) = claimed(bench)
    silence(monkeypatch, bench)
    reap(bench)
    assert finish(bench, token) is Verdict.DONE
    found = bench.token()
    assert (found.state, found.attempt, found.history, found.claim_id) == (State.DONE, 1, [], token.claim_id)
    assert bench.pool.claim() is None


def test_it_counts_also_if_the_token_was_given_up(bench, monkeypatch):
    bench.push("a")
    (token,) = claimed(bench)
    silence(monkeypatch, bench)
    reap(bench, Budgets(lost=0))
    assert bench.token().state is State.ERROR
    assert finish(bench, token) is Verdict.DONE
    assert finish(bench, token) is Verdict.DONE  # its answer was lost, it comes again


@pytest.mark.parametrize("over", [False, True])
def test_it_is_kept_beside_that_of_a_newer_attempt(bench, monkeypatch, over):
    bench.push("a")
    (token,) = claimed(bench)
    silence(monkeypatch, bench)
    reap(bench)
    (newer,) = claimed(bench, "another")
    if over:
        finish(bench, newer, 3)
    assert finish(bench, token) is Verdict.SUPERSEDED
    found = bench.token()
    assert found.state is (State.ERROR if over else State.LOCKED)
    assert found.claim_id == newer.claim_id
    assert [entry.get("superseded") for entry in found.history] == [None, True]


# --- Orders ---


def give(bench: Any, change: Any) -> None:
    orders.give(fleet_of(bench), change, bench.pool.store.now())


def test_a_cancelled_command_is_stopped_and_its_token_in_error(bench, eventually):
    bench.push("echo begun; sleep 1000", "true")
    pilot = bench.start(beat=0.5, max_scrub=3)
    eventually(lambda: bench.token().state is State.LOCKED and bench.left_in_scratch())
    held = bench.token().claim_id
    eventually(lambda: fleet_of(bench).pilots()[0].fields["running"])
    give(bench, lambda fields: orders.cancel(fields, [held], bench.pool.store.now()))
    assert pilot.summary()["error"] == 1
    assert bench.states() == {"token_0": "error", "token_1": "done"}
    assert (bench.token().run["failure"], bench.token()["exit_code"]) == ("cancelled", 143)
    assert bench.out() == "begun\n"


def test_a_cancelled_function_is_interrupted(bench, eventually):
    bench.push("a", "b")
    source = "import time\ndef work(token):\n    while token.input == 'a': time.sleep(0.01)"
    pilot = bench.start(source, beat=0.5)
    eventually(lambda: bench.token().state is State.LOCKED)
    held = bench.token().claim_id
    eventually(lambda: fleet_of(bench).pilots()[0].fields["running"])
    give(bench, lambda fields: orders.cancel(fields, [held], bench.pool.store.now()))
    summary = pilot.summary()
    assert (summary["done"], summary["error"], summary["reason"]) == (1, 1, "empty")
    assert bench.token().run["failure"] == "cancelled"


@pytest.mark.parametrize("how", ["name", "all", "barred"])
def test_a_pilot_that_is_told_to_stop_finishes_what_runs(bench, eventually, how):
    bench.push('while ! test -e "$TEST_SCRATCH/../go"; do sleep 0.05; done', "true", "true")
    pilot = bench.start(beat=0.5)
    eventually(lambda: bench.token().state is State.LOCKED)
    (record,) = eventually(lambda: [each for each in fleet_of(bench).pilots() if each.fields["running"]])
    now = bench.pool.store.now()
    if how == "barred":
        give(bench, lambda fields: orders.bar(fields, record.fields["host"], "it smells", now))
    else:
        give(bench, lambda fields: orders.stop(fields, record.id if how == "name" else orders.ALL, now))
    time.sleep(1.5)  # longer than it takes to hear of it
    (bench.path / "go").touch()
    summary = pilot.summary()
    assert summary["reason"] == ("barred" if how == "barred" else "told-to-stop")
    assert summary["done"] == 1
    assert bench.states() == {"token_0": "done", "token_1": "todo", "token_2": "todo"}
    if how == "all":  # whoever begins later is not meant
        assert bench.run().done == 2


def test_a_paused_pool_gives_nothing_out(bench, eventually):
    bench.push({"input": "true", "cores": 1}, {"input": "true", "cores": 2, "size": "large"})
    now = bench.pool.store.now()
    large = Selection.parse('size == "large"')
    give(bench, lambda fields: orders.pause(fields, large, "", now))
    assert bench.run(workers=2).done == 1
    assert bench.states() == {"token_0": "done", "token_1": "todo"}
    give(bench, lambda fields: orders.pause(fields, None, "quiet", now))
    assert bench.run(workers=2).reason == "paused"
    pilot = bench.start(wait=True, workers=2, beat=0.5)
    eventually(fleet_of(bench).pilots)
    give(bench, lambda fields: orders.resume(fields, None, everything=True))
    eventually(lambda: bench.states() == {"token_0": "done", "token_1": "done"})
    pilot.signal(signal.SIGTERM)
    pilot.summary()


def test_what_a_pilot_of_this_machine_had_finished_is_not_run_again(bench):
    bench.push("a")
    (token,) = claimed(bench, process={**machine.this_process(), "begun": -1})
    spool = Spool(bench.spool, bench.pool.url)
    journal = spool.journal()
    now = time.time()
    journal.keep([Result(token, Outcome(0, now - 1, now))], ONCE)
    journal.close()
    done = Reaper(bench.pool, ONCE, spool=spool).reap()
    assert (done.tokens, done.pilots) == ([], ["gone"])
    assert (bench.token().state, bench.token().claim_id) == (State.DONE, token.claim_id)


def test_a_pilot_stays_until_it_is_certain_that_the_holder_of_the_last_token_is_dead(bench, monkeypatch):
    bench.push("true")
    claimed(bench, interval=2.0)
    silence(monkeypatch, bench)
    monkeypatch.setattr(type(fleet_of(bench)), "steady", False)
    monkeypatch.setattr("picas.pilot.loop.SILENT_LOOK_SECONDS", 0.3)
    summary = bench.run(budgets=ONCE)
    assert (summary.done, summary.reason) == (1, "empty")
    assert "waiting whether pilots that are silent" in "".join(event.message for event in bench.events)
    assert bench.token().history[0]["failure"] == "lost"


def test_it_does_not_for_one_that_holds_nothing(bench, monkeypatch):
    bench.push("true")
    claimed(bench)
    bench.pool.reset(bench.pool.tokens("locked"))
    silence(monkeypatch, bench)
    monkeypatch.setattr(type(fleet_of(bench)), "steady", False)
    assert bench.run().reason == "empty"
    assert [record.id for record in fleet_of(bench).pilots()] == ["gone"]
