"""Processes: time limits hold for whole groups, and nothing outlives its token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from picas.work import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def test_a_time_limit_stops_the_command(bench):
    bench.push("echo begun; sleep 1000")
    begun = time.monotonic()
    assert bench.run(task_timeout=0.8, grace=500).error == 1
    assert time.monotonic() - begun < 100
    token = bench.token()
    assert (token["exit_code"], token.run["failure"]) == (124, "timeout")
    assert "time limit" in bench.message()
    assert bench.out() == "begun\n"
    assert bench.alive() == []


def test_a_time_limit_stops_children_and_grandchildren(bench):
    bench.push("bash -c 'sleep 1000 & sleep 1000' & sleep 1000")
    bench.run(task_timeout=0.8)
    assert bench.token()["exit_code"] == 124
    assert bench.alive() == []


def test_a_command_that_ignores_term_is_killed_when_the_grace_is_over(bench):
    bench.push("trap 'echo no' TERM; while :; do sleep 0.05; done")
    begun = time.monotonic()
    bench.run(task_timeout=0.8, grace=0.4)
    assert time.monotonic() - begun >= 1.2
    assert bench.token()["exit_code"] == 124
    assert bench.out() == "no\n"
    assert bench.alive() == []


def test_a_command_may_use_the_grace_to_end_well(bench):
    bench.push("trap 'echo saved; exit 0' TERM; while :; do sleep 0.05; done")
    bench.run(task_timeout=0.8, grace=120)
    assert bench.token().run["failure"] == "timeout"
    assert bench.out() == "saved\n"


def test_what_stays_in_the_group_gets_a_moment_and_is_gone(bench):
    bench.push("(sleep 0.3; echo late) & (sleep 1000; echo never) & echo soon")
    begun = time.monotonic()
    assert bench.run().done == 1
    assert time.monotonic() - begun < 100
    assert bench.out() == "soon\nlate\n"
    assert bench.alive() == []


def test_a_process_substitution_loses_nothing(bench):
    bench.push("exec > >(sleep 0.2; tee log) 2>&1; echo one; echo two >&2")
    bench.run(collect=["log"])
    assert bench.out() == bench.attached("log").decode() == "one\ntwo\n"


@pytest.mark.parametrize(
    "command",
    [
        "setsid sleep 1000 & sleep 0.2",
        "setsid --fork sleep 1000",
        "setsid --fork bash -c 'setsid --fork sleep 1000; sleep 1000'",
        "bash -c '(setsid sleep 1000 & sleep 1000) & sleep 0.2' ",
        "set -m; sleep 1000 & sleep 0.2",
    ],
)
def test_a_daemon_is_gone_after_its_token(bench, command):
    bench.push(command)
    assert bench.run().done == 1
    assert bench.alive() == []


def test_a_daemon_is_gone_while_its_pilot_goes_on(bench, eventually):
    bench.push("setsid --fork sleep 1000")
    started = bench.start(wait=True)
    eventually(lambda: bench.states() == {"token_0": "done"})
    eventually(lambda: bench.alive() == [], 5)
    assert started.process.poll() is None


def test_a_daemon_is_left_alone_as_long_as_its_own_token_runs(bench):
    bench.push("setsid --fork bash -c 'sleep 1; echo alive'; sleep 1.5", *["true"] * 20)
    assert bench.run(workers=2, order="oldest").done == 21
    assert bench.out() == "alive\n"


def test_a_function_leaves_nothing_behind_either(bench):
    def work(token):
        import os
        import subprocess
        import time

        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", "1000"])
        if os.fork() == 0:  # nothing but a copy of this function
            os.setsid()
            time.sleep(1000)
        return os.getpid()

    bench.push("x")
    assert bench.run(work, workers=2).done == 1
    assert bench.alive() == []
    # A mere fork has the environment of the test itself; it is found as a child of ours.
    assert [pid for pid in children._own_children() if children._claim_of(pid)] == []


def test_dead_daemons_do_not_pile_up(bench, monkeypatch):
    monkeypatch.setattr(children, "ORPHAN_SECONDS", 0.0)
    bench.push(*["setsid --fork true; sleep 0.02"] * 20)
    assert bench.run().done == 20
    dead = [pid for pid in children._own_children() if children._is_dead_stranger(pid)]
    assert len(dead) <= 2


def test_the_exit_code_is_right_also_when_the_limit_comes_with_the_end(bench):
    bench.push(*["sleep 0.2; exit 7"] * 18)
    bench.run(workers=3, task_timeout=0.205)
    codes = {token["exit_code"] for token in bench.pool.tokens()}
    assert codes <= {7, 124}


def test_a_signal_to_a_command_that_has_just_ended_does_not_lose_its_exit_code():
    process = subprocess.Popen(["bash", "-c", "exit 7"], start_new_session=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has asked yet
    with children.Children() as ours:
        ours.add(process.pid)
        children.signal_group(process.pid, signal.SIGTERM)
        [ended] = ours.wait(120)
    process.returncode = 0
    assert (ended.exit_code, ended.signal) == (7, None)


def test_an_exit_code_that_somebody_else_has_taken_is_no_success(bench, monkeypatch):
    def gone(pid, options):
        raise ChildProcessError

    bench.push("true")
    monkeypatch.setattr(children.os, "wait4", gone)
    assert bench.run().error == 1
    assert "exit code is lost" in bench.message()


@pytest.mark.parametrize("in_thread", [False, True])
def test_all_works_alike_where_no_event_tells_of_an_end(bench, monkeypatch, in_thread):
    import threading

    monkeypatch.setattr(children, "_pidfd_open", lambda pid: -1)
    bench.push("true", "exit 3", "sleep 1000", "setsid --fork sleep 1000")
    if in_thread:
        thread = threading.Thread(target=bench.run, kwargs={"workers": 2, "task_timeout": 1.5})
        thread.start()
        thread.join(120)
        assert not thread.is_alive()
    else:
        bench.run(workers=2, task_timeout=1.5)
    assert list(bench.states().values()) == ["done", "error", "error", "done"]
    assert bench.alive() == []


def test_the_program_around_it_is_as_before(bench):
    import ctypes
    import signal

    def subreaper():
        value = ctypes.c_int()
        ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
        return value.value

    handlers = [signal.getsignal(number) for number in range(1, 32)]
    bench.push("true")
    bench.run()
    assert [signal.getsignal(number) for number in range(1, 32)] == handlers
    assert signal.set_wakeup_fd(-1) == -1
    assert subreaper() == 0
