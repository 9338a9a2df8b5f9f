"""A pilot whose time ends: what it begins, how the work hears of it, and what the next attempt finds."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from picas.budgets import Budgets
from picas.errors import InfrastructureError, InvalidInput
from picas.finishing import Result
from picas.payload import Payload
from picas.pilot import checkpoints
from picas.pilot.ending import LEAVE_SECONDS, Ending
from picas.stores.base import Change
from picas.tokens import Failure, Outcome, Usage
from picas.walltime import End, Notice
from picas.work.inprocess import Interrupted, OwnWork
from picas.work.runner import Phase

FAR = 10_000.0

AT_ONCE = Budgets(scrub=9, pause=(0.0, 0.0))
"""Whatever failed may be tried again without a pause."""

COUNTS = """\
[ -f state ] && echo "from $(cat state)" && exit 0
trap 'echo 42 > state.new; mv state.new state; exit {code}' USR1
echo ready
while :; do sleep 0.02; done
"""


class Running:
    """A pilot at work in another thread, whose time the test lets run out."""

    def __init__(self, pilot):
        self.pilot = pilot
        self.summary = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        self.summary = self.pilot.run()

    def is_warned(self):
        """Let it be time for the signal."""
        self.pilot._ending.closes_at = time.monotonic()
        self.pilot._children.ring()

    def is_over(self):
        """Let it be time to stop what runs."""
        self.pilot._ending.closes_at = self.pilot._ending.stops_at = time.monotonic()
        self.pilot._children.ring()

    def end(self):
        """What it did, once it has ended by itself."""
        self.thread.join(120)
        assert not self.thread.is_alive()
        return self.summary


@pytest.fixture
def running(bench):
    """Starts pilots with time enough that say how they end."""
    started = []

    def start(work=None, **options):
        options = {"until": time.time() + FAR, "budgets": AT_ONCE, **options}
        started.append(Running(bench.pilot(work, **options)))
        return started[-1]

    yield start
    for each in started:
        each.pilot.stop()
        each.thread.join(120)


@contextmanager
def logs_of(bench, eventually, text):
    """Wait until running work has printed this."""

    def printed():
        return any(text in path.read_text() for path in bench.scratch.glob("*/*/stdout") if path.is_file())

    eventually(printed)
    yield


def when_it_has_begun(bench, work):
    """What a pilot did whose time ended soon, but not before it had begun a token: a busy machine is slow."""
    for seconds in (3, 30, 90):
        summary = bench.run(work, until=time.time() + seconds, order="oldest")
        if bench.token().attempt:
            break
    return summary


# --- What runs when the time ends --------------------------------------------------------------------


def test_work_that_has_not_ended_goes_back_uncharged(bench, running, eventually):
    bench.push("echo ready; sleep 1000", "true")
    pilot = running(order="oldest")
    with logs_of(bench, eventually, "ready"):
        pilot.is_over()
    summary = pilot.end()
    assert (summary.reason, summary.released, summary.error, summary.retried) == ("walltime", 1, 0, 0)
    assert "--until" in summary.because
    assert pilot.pilot.ended_because == summary.because
    token = bench.token()
    assert bench.states() == {"token_0": "todo", "token_1": "todo"}
    assert (token.scrub_count, token.picas["spent"], token.checkpoint) == (0, {"preempted": 1}, ())
    assert token.history[0]["failure"] == "preempted"
    assert bench.message().startswith("stopped: its time ends at ")
    assert bench.out() == "ready\n"
    assert bench.token("token_1").attempt == 0
    assert bench.alive() == []


def test_after_too_many_such_ends_it_is_an_error_of_that_class(bench, running, eventually):
    bench.push("echo ready; sleep 1000")
    pilot = running(budgets=Budgets(preempted=0))
    with logs_of(bench, eventually, "ready"):
        pilot.is_over()
    assert pilot.end().error == 1
    token = bench.token()
    assert (token.state.value, token.run["failure"], token["exit_code"]) == ("error", "preempted", 143)


@pytest.mark.parametrize("code", [3, 75, 130])
def test_the_next_attempt_finds_what_the_signal_made_the_work_save(bench, running, eventually, code):
    bench.push(COUNTS.format(code=code))
    pilot = running(signal="USR1@120", collect=("state*",))
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    summary = pilot.end()
    assert (summary.reason, summary.released) == ("walltime", 1)
    token = bench.token()
    assert (token.state.value, token.checkpoint, token.picas["spent"]) == (
        "todo",
        ("state",),
        {"preempted": 1},
    )
    assert token.history[0]["exit_code"] == code
    assert bench.attached("state") == b"42\n"
    assert bench.run().done == 1  # also by a pilot that knows nothing of signals
    assert bench.out() == "from 42\n"


def test_a_checkpoint_is_gone_when_the_token_is_done_unless_the_work_leaves_it(bench, running, eventually):
    for collect, left in (((), False), (("state",), True)):
        bench.pool.delete(bench.pool.tokens())
        bench.push({"_id": "token_0", "input": COUNTS.format(code=1)}, again=True)
        pilot = running(signal="USR1@120", collect=("state",))
        with logs_of(bench, eventually, "ready"):
            pilot.is_warned()
        pilot.end()
        assert bench.run(collect=collect).done == 1
        assert ("state" in bench.token().attachments) is left
        assert bench.token().checkpoint == ()


def test_exit_code_0_after_the_signal_is_done_and_noted(bench, running, eventually):
    bench.push(COUNTS.format(code=0))
    pilot = running(signal="USR1@120")
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    assert pilot.end().done == 1
    assert "warned" in bench.token().run["notes"][0]


def test_work_that_goes_on_after_the_signal_is_stopped_and_its_files_are_kept(bench, running, eventually):
    bench.push(
        "trap 'mkdir -p a/b; echo 7 > a/b/state; echo saved' USR1; echo ready; while :; do sleep 0.02; done"
    )
    pilot = running(signal="USR1@120", collect=("**/state",))
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    with logs_of(bench, eventually, "saved"):
        assert pilot.thread.is_alive()
        pilot.is_over()
    assert pilot.end().released == 1
    assert bench.token().checkpoint == ("a/b/state",)
    assert bench.run(["cat", "a/b/state"]).done == 1
    assert bench.out() == "7\n"


def test_all_of_a_group_hears_the_signal_and_may_save_though_its_shell_heeds_none(bench, running, eventually):
    program = (
        "import signal, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(2.5)\n"
        "    open('state', 'w').write('whole')\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.02)\n"
    )
    bench.push({"input": f'{sys.executable} -c "$PICAS_PROGRAM"; echo never', "program": program})
    pilot = running(signal="USR1@120", collect=("state",))
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    assert pilot.end().released == 1
    assert bench.attached("state") == b"whole"
    assert bench.out() == "ready\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_may_heed_the_signal(bench, running, eventually, workers):
    def work(token):
        if Path("state").exists():
            return {"state": Path("state").read_text()}

        def save(*_):
            Path("state").write_text("saved by a function")
            sys.exit(9)

        signal.signal(signal.SIGUSR1, save)
        print("ready", flush=True)
        while True:
            time.sleep(0.02)

    bench.push("x")
    pilot = running(work, signal="USR1@120", collect=("state",), workers=workers)
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    assert pilot.end().released == 1
    assert bench.run(work, workers=2).done == 1
    assert bench.token().output == {"state": "saved by a function"}


def test_a_function_that_does_not_heed_the_signal_is_ended_by_it(bench, eventually):
    bench.push("x")
    source = "import time\ndef work(token):\n    print('ready', flush=True)\n    time.sleep(1000)\n"
    pilot = bench.start(source, signal="USR1@120", budgets=None)
    with logs_of(bench, eventually, "ready"):
        pilot.signal(signal.SIGUSR1)
    assert pilot.summary()["released"] == 1
    assert bench.token().history[0]["exit_code"] == 128 + signal.SIGUSR1


def test_a_function_in_the_pilots_own_process_is_interrupted_and_its_token_goes_back(bench):
    def work(token):
        time.sleep(1000)

    bench.push("x", "y")
    summary = when_it_has_begun(bench, work)
    assert (summary.reason, summary.released) == ("walltime", 1)
    assert bench.token().history[0]["failure"] == "preempted"
    assert bench.states() == {"token_0": "todo", "token_1": "todo"}


def test_a_function_in_the_pilots_own_process_begins_with_the_checkpoint(bench, running, eventually):
    bench.push(COUNTS.format(code=1))
    pilot = running(signal="USR1@120", collect=("state",))
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    pilot.end()
    assert bench.run(lambda token, job: {"found": (job.scratch / "state").read_text()}).done == 1
    assert bench.token().output == {"found": "42\n"}


def test_a_pilot_that_is_told_to_go_leaves_checkpoints_too(bench, running, eventually):
    bench.push("trap 'echo 5 > state; exit' TERM; echo ready; while :; do sleep 0.02; done")
    pilot = running(signal="USR1@120", collect=("state",))
    with logs_of(bench, eventually, "ready"):
        pilot.pilot.stop()
    assert pilot.end().released == 1
    token = bench.token()
    assert (token.checkpoint, token.history[0]["failure"]) == (("state",), "released")
    assert token.picas.get("spent") is None


def test_what_a_warned_shell_left_running_does_not_keep_a_pilot_that_is_told_to_go(
    bench, running, eventually
):
    bench.push("(trap '' USR1 TERM; echo ready; while :; do sleep 0.02; done) & wait; true")
    pilot = running(signal="USR1@120", grace=0.2)
    with logs_of(bench, eventually, "ready"):
        pilot.is_warned()
    (runner,) = pilot.pilot._slots._running.values()
    eventually(lambda: runner.phase is Phase.LINGERING)
    pilot.pilot.stop()
    assert pilot.end().released == 1
    assert bench.alive() == []


def test_without_a_signal_files_of_work_that_was_stopped_are_no_checkpoint(bench, running, eventually):
    bench.push("echo 5 > state; echo ready; sleep 1000")
    pilot = running(collect=("state",))
    with logs_of(bench, eventually, "ready"):
        pilot.is_over()
    pilot.end()
    assert bench.token().checkpoint == ()
    bench.run(["bash", "-c", "ls"])
    assert bench.out() == ""


def test_long_work_is_done_by_many_short_jobs(bench, running, eventually):
    """It counts to 60 in steps, and each number once, in whichever job."""
    bench.push(
        "n=$(cat state 2>/dev/null || echo 0); trap 'echo $n > state.new; mv state.new state; exit 85' USR1\n"
        "echo ready; while [ $n -lt 60 ]; do n=$((n + 1)); echo $n; sleep 0.02; done"
    )
    for step in range(1, 5):
        pilot = running(signal="USR1@120", collect=("state",))
        with logs_of(bench, eventually, f"\n{10 * step}\n"):
            pilot.is_warned()
        assert pilot.end().released == 1
    assert bench.run(budgets=AT_ONCE).done == 1
    token = bench.token()
    names = [
        *(name for entry in token.history for name in entry["logs"] if name.endswith(".out")),
        "logs_token_0.out",
    ]
    counted = "".join(bench.attached(name).decode() for name in names).replace("ready\n", "").split()
    assert counted == [str(number) for number in range(1, 61)]
    assert (token.attempt, token.scrub_count, token.picas["spent"]) == (5, 0, {"preempted": 4})


def test_a_batch_system_may_send_the_signal_itself(bench, eventually):
    """As Slurm does before it preempts a job, whose end nobody knew."""
    bench.push(COUNTS.format(code=3), "true")
    pilot = bench.start(signal="USR1@120", collect=["state"], order="oldest")
    with logs_of(bench, eventually, "ready"):
        pilot.signal(signal.SIGUSR1)
    summary = pilot.summary()
    assert (summary["reason"], summary["released"], summary["done"]) == ("walltime", 1, 0)
    assert "SIGUSR1" in summary["because"]
    assert bench.token().checkpoint == ("state",)
    assert bench.token("token_1").attempt == 0


def test_work_in_the_pilots_own_process_that_says_itself_how_it_ends_is_interrupted(bench):
    class Sleeper(OwnWork):
        def run(self, token, interruptible):
            started = time.time()
            try:
                with interruptible.within(lambda: None):
                    time.sleep(1000)
            except Interrupted:
                outcome = Outcome(0, started, time.time(), Failure.RELEASED)
                return Result(token, outcome)

    bench.push("x", "y")
    summary = when_it_has_begun(bench, Sleeper())
    assert (summary.reason, summary.released) == ("walltime", 1)
    assert bench.states() == {"token_0": "todo", "token_1": "todo"}


def test_a_pilot_that_waits_for_work_leaves_at_its_end(bench):
    summary = bench.run(wait=True, until=time.time() + 1)
    assert (summary.reason, summary.done) == ("walltime", 0)


def test_by_the_clock_too_work_is_warned_stopped_and_goes_on(bench):
    """Nothing is helped along here: only the time passes, more of it where the machine is slow."""
    for seconds in (6, 60):
        bench.pool.delete(bench.pool.tokens())
        bench.push({"_id": "token_0", "input": COUNTS.format(code=75)}, again=True)
        end = time.time() + seconds
        summary = bench.run(until=end, signal=f"USR1@{seconds - 2}", collect=("state",), budgets=AT_ONCE)
        assert summary.reason == "walltime"
        if bench.token().checkpoint:
            break
    assert time.time() < end
    assert bench.run().done == 1
    assert bench.out() == "from 42\n"


# --- What becomes of a checkpoint --------------------------------------------------------------------


def with_checkpoint(bench, *names, data=b"good"):
    """A token that has been stopped once and has a checkpoint."""
    bench.push("true")
    token = bench.pool.claim()
    files = tuple(Payload(name, "application/octet-stream", (data,)) for name in names)
    outcome = Outcome(143, time.time() - 1, time.time(), Failure.PREEMPTED, "stopped", checkpoint=names)
    bench.pool.finish_many([Result(token, outcome, (), files)], budgets=AT_ONCE)
    assert bench.token().checkpoint == names


def test_a_failed_attempt_does_not_replace_the_checkpoint(bench):
    with_checkpoint(bench, "state")
    for _ in range(2):  # as good the second time
        bench.run(
            ["bash", "-c", "cat state; echo broken > state; echo more > more; exit 1"],
            collect=("*",),
            budgets=AT_ONCE,
            max_tasks=1,
        )
        assert bench.out() == "good"
        bench.run(max_tasks=1, work=["bash", "-c", "exit 1"], budgets=AT_ONCE)
    assert bench.attached("state") == b"good"
    assert bench.attached("more") == b"more\n"


def test_reset_begins_from_nothing(bench):
    with_checkpoint(bench, "state")
    assert bench.pool.reset(bench.pool.tokens("todo")) == 1
    assert bench.pool.reset(bench.pool.tokens("todo")) == 0
    bench.run(["ls"])
    assert bench.out() == ""


def test_a_checkpoint_that_somebody_removed_is_done_without(bench):
    with_checkpoint(bench, "state")
    token = bench.token()
    assert bench.pool.store.replace([Change(token, remove=("state",))])[0] is not None
    assert bench.run(["ls"]).done == 1
    assert bench.out() == ""


@pytest.mark.parametrize("name", ["../evil", "/tmp/picas-evil", "a/../../evil"])
def test_no_name_of_a_checkpoint_leads_out_of_the_directory(bench, name):
    with_checkpoint(bench, "fine", name)
    assert bench.run(["find", ".", "-type", "f"]).done == 1
    assert bench.out() == "./fine\n"
    assert not Path("/tmp/picas-evil").exists()
    assert list(bench.path.rglob("*evil*")) == []


def test_a_checkpoint_for_which_there_is_no_room_is_no_failure_of_the_work(bench, monkeypatch):
    with_checkpoint(bench, "state")
    monkeypatch.setattr(checkpoints.Checkpoints, "_fetch", lambda *_: os.mkdir("/proc/nothing"))
    with pytest.raises(InfrastructureError, match="checkpoints"):
        bench.run(["true"])
    assert bench.states() == {"token_0": "todo"}
    assert (bench.token().attempt, bench.token().checkpoint) == (1, ("state",))


def test_what_was_fetched_and_not_begun_is_removed(bench, running, eventually):
    """Claimed while the only worker is busy."""
    with_checkpoint(bench, "state")
    bench.push(
        {"_id": "a", "input": "true", "priority": 3},
        {"_id": "b", "input": "echo ready; sleep 1000", "priority": 2},
    )
    pilot = running()
    with logs_of(bench, eventually, "ready"):
        eventually(lambda: list(bench.scratch.glob("*/checkpoints/*/state")))
        pilot.pilot.stop()
    assert pilot.end().done == 1
    assert bench.left_in_scratch() == []
    assert (bench.token().attempt, bench.token().checkpoint) == (1, ("state",))


# --- What is begun -----------------------------------------------------------------------------------


def test_only_tokens_that_fit_are_begun_and_the_others_are_counted(bench):
    bench.push(
        {"input": "true", "walltime": 5},
        {"input": "true", "walltime": "3h"},
        {"input": "true", "walltime": "00:00:20"},
        {"input": "true", "walltime": 20_000},
        "true",
    )
    summary = bench.run(until=time.time() + FAR, workers=2)
    assert (summary.done, summary.too_long, summary.reason, summary.released) == (3, 2, "empty", 0)
    assert list(bench.states().values()) == ["done", "todo", "done", "todo", "done"]
    assert bench.token("token_1").attempt == 0
    assert bench.run().done == 2  # without an end all fit


def test_what_others_took_tells_how_long_a_token_takes_that_says_nothing(bench):
    bench.push("true", "true", {"input": "true", "walltime": 60})
    token = bench.pool.claim(order="oldest")
    bench.pool.finish(token, Outcome(0, 0.0, 1.0, usage=Usage(2 * FAR)))
    summary = bench.run(until=time.time() + FAR)
    assert (summary.done, summary.too_long) == (1, 1)
    assert bench.states() == {"token_0": "done", "token_1": "todo", "token_2": "done"}


def test_what_was_claimed_and_fits_no_longer_goes_back(bench, running, eventually):
    bench.push(*[{"input": "true", "walltime": 1}] * 20, *[{"input": "true", "walltime": 100}] * 20)
    entered, gate = threading.Event(), threading.Event()

    def work(token):
        if token["walltime"] == 100:
            entered.set()
            gate.wait(120)

    pilot = running(work, order="oldest")
    assert entered.wait(120)
    eventually(lambda: list(bench.states().values()).count("locked") > 1)
    pilot.pilot._horizon._closes_at = time.monotonic() + 50
    gate.set()
    summary = pilot.end()
    assert summary.reason == "empty"
    assert (summary.done, summary.too_long) == (21, 19)
    assert all(token.attempt == 0 for token in bench.pool.tokens("todo"))


def test_nothing_is_begun_when_the_time_is_nearly_over(bench):
    bench.push("true")
    summary = bench.run(until=time.time() + 3600, signal="USR1@2h")
    assert (summary.reason, summary.done) == ("walltime", 0)
    assert bench.token().attempt == 0


def test_a_pilot_in_a_batch_job_knows_its_end(bench, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + 600)))
    bench.push({"input": "true", "walltime": "1h"}, {"input": "true", "walltime": "1m"})
    assert bench.run().done == 1
    assert any("SLURM_JOB_END_TIME" in event.message for event in bench.events if event.kind == "note")
    assert bench.run(until="never").done == 1


def test_there_is_time_to_leave():
    def leaves(left, notice=None):
        ending = Ending(End(time.time() + left, "test"), notice)
        return left - (ending.stops_at - time.monotonic()), left - (ending.closes_at - time.monotonic())

    assert leaves(3600) == pytest.approx((LEAVE_SECONDS, LEAVE_SECONDS), abs=1)
    assert leaves(60) == pytest.approx((6, 6), abs=1)
    assert leaves(3600, Notice(10, 120)) == pytest.approx((30, 120), abs=1)
    assert leaves(3600, Notice(10, 20)) == pytest.approx((5, 20), abs=1)
    assert leaves(3600, Notice(10, 600)) == pytest.approx((150, 600), abs=1)


@pytest.mark.parametrize(
    "options", [{"until": 5}, {"until": "soon"}, {"signal": "KILL@5"}, {"max_quick_failures": 0}]
)
def test_what_cannot_be_meant_is_refused(bench, options):
    with pytest.raises(InvalidInput):
        bench.pilot(**options)
