"""Signals: a pilot that has to go gives its tokens back, and nothing keeps running."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

LONG = 'echo begun; touch "$TEST_SCRATCH/../began-$PICAS_TOKEN_ID"; sleep 1000'
DEAF = "trap '' TERM INT HUP; touch \"$TEST_SCRATCH/../began-$PICAS_TOKEN_ID\"; while :; do sleep 0.1; done"


SLEEPER = """
import os, pathlib, time
def work(token):
    print("begun")
    pathlib.Path(os.environ["TEST_SCRATCH"], "..", "began-" + token.id).touch()
    {body}
"""


def began(bench, *token_ids):
    return lambda: all((bench.path / f"began-{token_id}").exists() for token_id in token_ids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_puts_running_tokens_back_uncharged(bench, eventually, number):
    bench.push(LONG, LONG)
    pilot = bench.start(workers=2, grace=500)
    eventually(began(bench, "token_0", "token_1"))
    pilot.signal(number)
    summary = pilot.summary()
    assert (summary["reason"], summary["signal"], summary["released"]) == ("signal", number, 2)
    for token in bench.pool.tokens():
        assert (token.state.value, token.scrub_count, token["exit_code"], token["lock"]) == ("todo", 0, "", 0)
        assert "error" not in token.body
        [entry] = token.history
        assert (entry["failure"], entry["exit_code"]) == ("released", "")
        assert bench.attached(entry["logs"][0], token.id) == b"begun\n"
    assert bench.alive() == []
    assert bench.left_in_scratch() == []


PID = f"echo $$ > $TEST_SCRATCH/../pid; {LONG}"
"""Work that tells its group."""


def group_of(bench, eventually):
    eventually(began(bench, "token_0"))
    return int((bench.path / "pid").read_text())


def test_work_that_hears_the_end_of_the_job_before_the_pilot_has_not_failed(bench, eventually):
    bench.push(PID)
    pilot = bench.start()
    os.killpg(group_of(bench, eventually), signal.SIGTERM)
    eventually(lambda: bench.alive() == [])
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 1
    assert [entry["failure"] for entry in bench.token().history] == ["released"]


def test_work_that_ends_at_the_pilots_own_signal_has_not_failed_whatever_it_says(bench, eventually):
    bench.push(f"trap 'exit 7' TERM; {PID.replace('sleep 1000', 'while :; do sleep 0.05; done')}")
    pilot = bench.start()
    group = group_of(bench, eventually)
    pilot.signal(signal.SIGSTOP)
    os.killpg(group, signal.SIGTERM)
    eventually(lambda: bench.alive() == [])
    pilot.signal(signal.SIGTERM)
    pilot.signal(signal.SIGCONT)
    assert pilot.summary()["released"] == 1
    assert [entry["failure"] for entry in bench.token().history] == ["released"]


def test_work_that_somebody_ends_by_a_signal_has_failed_if_the_pilot_stays(bench, eventually):
    bench.push(PID)
    pilot = bench.start()
    os.killpg(group_of(bench, eventually), signal.SIGTERM)
    assert pilot.summary()["error"] == 1
    assert bench.token()["exit_code"] == 128 + signal.SIGTERM


def test_control_c_reaches_the_pilot_and_not_the_work(bench, eventually):
    bench.push(
        f"trap 'echo INT' INT; trap 'echo TERM; exit 1' TERM; {LONG.replace('sleep 1000', 'while :; do sleep 0.05; done')}"
    )
    pilot = bench.start()
    eventually(began(bench, "token_0"))
    os.killpg(pilot.process.pid, signal.SIGINT)  # to the foreground group, as a terminal does
    assert pilot.summary()["released"] == 1
    assert bench.attached(bench.token().history[0]["logs"][0]) == b"begun\nTERM\n"


def test_tokens_that_were_claimed_ahead_go_back_as_if_never_claimed(bench, eventually):
    bench.push(*["short"] * 30, "long", *["short"] * 300)
    source = SLEEPER.format(body="time.sleep(1000 if token.input == 'long' else 0)")
    pilot = bench.start(source, order="oldest")
    eventually(began(bench, "token_30"))
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] > 1
    tokens = list(bench.pool.tokens("todo"))
    assert len(tokens) == 301
    assert [token.attempt for token in tokens if token.id != "token_30"] == [0] * 300
    assert not any(token.history for token in tokens if token.id != "token_30")


def test_work_that_ends_as_its_pilot_begins_to_leave_is_not_waited_for(bench, eventually):
    bench.push(LONG, LONG)
    slowly = """
import time
from picas.pilot.loop import Pilot
leave = Pilot._leave
Pilot._leave = lambda self: (time.sleep(1), leave(self))
"""
    pilot = bench.start(slowly, workers=2, grace=500)
    eventually(began(bench, "token_0", "token_1"))
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 2
    assert bench.alive() == []


def test_a_token_that_was_put_back_runs_again_as_the_next_attempt(bench, eventually):
    bench.push(LONG)
    pilot = bench.start()
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    pilot.summary()
    bench.run(["echo", "again"])
    assert bench.token().attempt == 2
    assert bench.out() == "again\n"
    assert bench.attached("logs_token_0.attempt-1.out") == b"begun\n"


def test_what_finished_by_itself_is_kept(bench, eventually):
    bench.push('echo whole; touch "$TEST_SCRATCH/../began-token_0"; sleep 1000 & disown', LONG)
    pilot = bench.start(workers=2)
    eventually(began(bench, "token_0", "token_1"))
    time.sleep(0.2)  # the shell of the first ends right after it said so
    pilot.signal(signal.SIGTERM)  # within the moment that the background process of the first gets
    summary = pilot.summary()
    assert (summary["done"], summary["released"]) == (1, 1)
    assert bench.states() == {"token_0": "done", "token_1": "todo"}
    assert bench.alive() == []


def test_a_command_that_ignores_the_signal_is_killed_when_the_grace_is_over(bench, eventually):
    bench.push(DEAF)
    pilot = bench.start(grace=0.5)
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 1
    assert bench.states() == {"token_0": "todo"}
    assert bench.alive() == []


def test_a_second_signal_kills_at_once(bench, eventually):
    bench.push(DEAF)
    pilot = bench.start(grace=500)
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    time.sleep(1.0)  # two that come at the same moment count as one
    assert pilot.process.poll() is None
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 1
    assert bench.states() == {"token_0": "todo"}
    assert bench.alive() == []


def test_a_waiting_pilot_ends_at_once(bench, eventually):
    bench.push("true")
    pilot = bench.start(wait=True)
    eventually(lambda: bench.states() == {"token_0": "done"})
    time.sleep(0.3)
    pilot.signal(signal.SIGINT)
    summary = pilot.summary()
    assert (summary["reason"], summary["done"], summary["released"]) == ("signal", 1, 0)


@pytest.mark.parametrize("body", ["time.sleep(1000)", "while True: pass"])
def test_a_function_in_the_pilots_own_process_is_interrupted(bench, eventually, body):
    bench.push("x", "y")
    pilot = bench.start(SLEEPER.format(body=body))
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    summary = pilot.summary()
    assert (summary["reason"], summary["error"]) == ("signal", 0)
    token = bench.token()
    assert (token.state.value, token.scrub_count) == ("todo", 0)
    assert bench.attached(token.history[0]["logs"][0]) == b"begun\n"
    assert bench.token("token_1").attempt == 0


def test_a_signal_that_breaks_off_no_sleep_is_heeded_nevertheless(bench):
    # As one does that comes just before the sleep begins: another thread gets it, the one that sleeps is not woken.
    bench.push("x")
    body = "threading.Thread(target=elsewhere).start(); time.sleep(1000)"
    elsewhere = """
import signal, threading, time
def elsewhere():
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
"""
    assert bench.start(elsewhere + SLEEPER.format(body=body)).summary()["reason"] == "signal"
    assert bench.token().state.value == "todo"


def test_a_function_that_catches_everything_is_interrupted_by_the_second_signal(bench, eventually):
    caught = "print('caught'); pathlib.Path(os.environ['TEST_SCRATCH'], '..', 'began-caught').touch()"
    body = f"try: time.sleep(1000)\n    except BaseException: {caught}\n    time.sleep(1000)"
    bench.push("x")
    pilot = bench.start(SLEEPER.format(body=body))
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    eventually(began(bench, "caught"))
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 1
    assert bench.attached(bench.token().history[0]["logs"][0]) == b"begun\ncaught\n"


@pytest.mark.parametrize("body", ["time.sleep(1000)", "sum(range(10**12))"])
def test_a_function_in_a_child_is_stopped_even_in_c_code(bench, eventually, body):
    bench.push("x")
    pilot = bench.start(SLEEPER.format(body=body), workers=2)
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 1
    assert bench.states() == {"token_0": "todo"}
    assert bench.alive() == []


def test_files_of_an_attempt_that_was_cut_off_are_not_attached(bench, eventually):
    bench.push("echo half > result; " + LONG)
    pilot = bench.start(collect=["result"])
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGTERM)
    pilot.summary()
    assert "result" not in bench.token().attachments


def test_an_ignored_hangup_stays_ignored(bench, eventually):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        bench.push(LONG)
        pilot = bench.start(max_tasks=1, task_timeout=1.0)
    finally:
        signal.signal(signal.SIGHUP, before)
    eventually(began(bench, "token_0"))
    pilot.signal(signal.SIGHUP)
    assert pilot.summary()["reason"] == "max-tasks"
    assert bench.token()["exit_code"] == 124
