"""A pilot on a machine where something is wrong: the check before the first claim, and failures that come too fast."""

from __future__ import annotations

import threading
import time

import pytest

from picas.budgets import Budgets
from picas.pilot import probe
from picas.pilot.probe import QuickFailures
from picas.tokens import Failure, Outcome


class Told:
    """What a result says of the machine."""

    def __init__(self, name, failure, seconds=0.1):
        self.name = name
        self.outcome = Outcome(int(failure is not None), 100.0, 100.0 + seconds, failure, "no module")


def names(results):
    return "".join(result.name for result in results)


# --- The probe ---------------------------------------------------------------------------------------


def test_where_the_probe_fails_nothing_is_claimed(bench):
    bench.push("true")
    pilot = bench.pilot(probe="echo first; echo /cvmfs is not there >&2; exit 3")
    summary = pilot.run()
    assert (summary.reason, summary.done) == ("probe", 0)
    for said in (summary.because, pilot.ended_because, bench.problems()):
        assert "exit code 3" in said
        assert "/cvmfs is not there" in said
    assert bench.token().attempt == 0
    assert "lock" in bench.token().body
    assert bench.left_in_scratch() == []


def test_where_it_succeeds_the_pilot_works(bench):
    bench.push("true")
    assert bench.run(probe="test -d / && echo fine").done == 1
    assert bench.problems() == ""


def test_a_probe_that_hangs_has_failed_and_leaves_nothing_behind(bench, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.3)
    bench.push("true")
    assert "within" in bench.run(probe="sleep 1000 & sleep 1000").because
    assert bench.alive() == []


def test_a_pilot_that_is_told_to_go_does_not_wait_for_its_probe(bench, eventually):
    bench.push("true")
    pilot = bench.pilot(probe="touch begun; sleep 1000")
    thread = threading.Thread(target=pilot.run)
    thread.start()
    eventually((bench.path / "begun").exists)
    pilot.stop()
    thread.join(120)
    assert not thread.is_alive()
    assert bench.alive() == []
    assert bench.token().attempt == 0


def test_the_probe_is_told_no_password(bench, monkeypatch):
    monkeypatch.setenv("PICAS_PASSWORD", "hush")
    assert probe.probe('echo "<$PICAS_PASSWORD>"; exit 1', lambda: True).endswith("<>")


def test_a_signal_that_ended_the_probe_is_named(bench):
    assert "killed by signal 9" in probe.probe("kill -9 $$", lambda: True)


# --- Failures that come too fast ---------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
def test_after_so_many_quick_failures_in_a_row_all_tokens_go_back_uncharged(bench, workers):
    bench.push(*["echo tried; exit 1"] * 30)
    pilot = bench.pilot(workers=workers, max_quick_failures=5, max_scrub=0)
    summary = pilot.run()
    assert (summary.reason, summary.error, summary.retried) == ("quick-failures", 0, 0)
    assert summary.released >= 5
    assert set(bench.states().values()) == {"todo"}
    for said in (summary.because, pilot.ended_because, bench.problems()):
        assert "5 tokens in a row" in said
        assert "exit code 1" in said
    tokens = list(bench.pool.tokens())
    assert all(
        token.scrub_count == 0 and not token.picas.get("spent") and not token.get("error") for token in tokens
    )
    tried = [token for token in tokens if token.history]
    assert 5 <= len(tried) <= 5 + 2 * workers
    assert {token.history[0]["failure"] for token in tried} == {"released"}
    assert sum("exit code 1" in str(token.history[0].get("notes")) for token in tried) >= 5
    assert bench.out(tried[0].id) == "tried\n"
    assert bench.left_in_scratch() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_with_functions(bench, workers):
    def work(token):
        raise ImportError("no numpy")

    bench.push(*map(str, range(10)))
    summary = bench.run(work, workers=workers, max_quick_failures=3)
    assert (summary.reason, summary.error) == ("quick-failures", 0)
    assert "no numpy" in summary.because
    assert set(bench.states().values()) == {"todo"}


def test_a_command_that_is_not_there_counts_too(bench):
    bench.push(*[{"input": "x", "program": "/nowhere/at-all"}] * 5)
    assert bench.run(["{program}"], max_quick_failures=3).reason == "quick-failures"
    assert set(bench.states().values()) == {"todo"}


def test_failures_among_successes_are_the_works_own(bench):
    bench.push(*["exit 1", "exit 1", "true"] * 6)
    summary = bench.run(max_quick_failures=3, order="oldest")
    assert (summary.done, summary.error, summary.reason) == (6, 12, "empty")


def test_fewer_failures_than_that_are_charged_when_nothing_is_left(bench):
    bench.push("exit 1", "exit 1")
    summary = bench.run(max_quick_failures=3)
    assert (summary.error, summary.reason) == (2, "empty")
    assert bench.run(max_quick_failures=3).error == 0


def test_the_kept_back_are_charged_when_the_pilot_goes_for_another_reason(bench):
    bench.push(*["exit 1"] * 4)
    summary = bench.run(max_quick_failures=3, max_tasks=2)
    assert (summary.error, summary.reason) == (2, "max-tasks")


def test_a_token_is_tried_again_and_again_on_a_bad_machine_only_so_often(bench):
    bench.push("exit 1")
    summary = bench.run(max_quick_failures=4, budgets=Budgets(scrub=100, pause=(0.0, 0.0)))
    assert (summary.reason, summary.error) == ("quick-failures", 0)
    assert bench.token().attempt == 4


def test_a_kept_back_failure_is_told_after_a_while_though_others_still_run(bench, monkeypatch, eventually):
    monkeypatch.setattr(probe, "HOLD_SECONDS", 0.2)
    bench.push("exit 1", "sleep 1000")
    pilot = bench.pilot(workers=2, max_quick_failures=3, order="oldest")
    thread = threading.Thread(target=pilot.run)
    thread.start()
    try:
        eventually(lambda: bench.states() == {"token_0": "error", "token_1": "locked"})
    finally:
        pilot.stop()
        thread.join(120)


def test_what_says_nothing_of_the_machine_neither_counts_nor_breaks_a_row():
    quick = QuickFailures(3)
    assert names(quick.add(Told("a", Failure.APPLICATION))) == ""
    for failure in (Failure.RELEASED, Failure.PREEMPTED, Failure.UNTRUSTED, Failure.CANCELLED):
        assert names(quick.add(Told("x", failure))) == "x"
    assert names(quick.add(Told("b", Failure.SIGNAL))) == ""
    assert quick.why == ""
    assert names(quick.add(Told("c", Failure.INFRASTRUCTURE))) == ""
    assert "no module" in quick.why
    assert quick.overdue() == []
    assert quick.next_tick == float("inf")
    assert names(quick.let_go()) == "abc"


def test_a_failure_that_took_its_time_breaks_a_row():
    quick = QuickFailures(2)
    quick.add(Told("a", Failure.APPLICATION))
    assert names(quick.add(Told("b", Failure.APPLICATION, probe.QUICK_SECONDS))) == "ab"
    quick.add(Told("c", Failure.APPLICATION))
    assert names(quick.succeeded()) == "c"
    quick.add(Told("d", Failure.APPLICATION))
    assert quick.why == ""
    assert time.monotonic() < quick.next_tick <= time.monotonic() + probe.HOLD_SECONDS
