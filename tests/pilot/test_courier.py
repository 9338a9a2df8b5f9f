"""Results on their way back: nothing is lost or doubled, whatever the pool does meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from picas.errors import InvalidInput, PoolRefused, PoolUnavailable
from picas.finishing import Result, Verdict
from picas.payload import Payload
from picas.pilot import courier, inbox, supply
from picas.pilot import loop as pilot
from picas.pool import Pool
from picas.spool.spool import Spool, flush
from picas.stores.base import Change
from picas.tokens import Failure, Outcome, State, Token


class Faulty:
    """A store that answers some calls with an error, before or after they took effect."""

    def __init__(self, store):
        self.store = store
        self.errors = {}
        self.after = False
        self.failed = 0

    def __getattr__(self, name):
        method = getattr(self.store, name)
        if name not in self.errors:
            return method

        def failing(*args, **options):
            error = self.errors.get(name)
            if error is None:
                return method(*args, **options)
            if self.after:
                method(*args, **options)
            self.failed += 1
            raise error

        return failing

    def fail(self, error, *names):
        self.errors = dict.fromkeys(names, error)


@pytest.fixture
def faulty(bench):
    return Faulty(bench.pool.store)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(courier, "PAUSE_SECONDS", (0.02, 0.1))
    monkeypatch.setattr(pilot, "PATIENCE_SECONDS", 0.3)


@contextmanager
def running(started):
    """A pilot at work on a thread, ended afterwards; what it did is in the list."""
    done = []
    thread = threading.Thread(target=lambda: done.append(started.run()))
    thread.start()
    try:
        yield done
    finally:
        if not done:
            started.stop()
        thread.join(120)
        assert not thread.is_alive()


def waiting(bench):
    return Spool(bench.spool, bench.url).waiting()


def claimed(bench, **fields):
    bench.push({"input": "true", **fields})
    return bench.pool.claim()


def result(token, exit_code=0, **fields):
    failure = Failure.APPLICATION if exit_code else None
    logs = (Payload(f"logs_{token.id}.out", "text/plain", (b"log",)),)
    return Result(token, Outcome(exit_code, 1.0, 2.0, failure, **fields), logs)


# --- A pool that does not answer ---


def test_while_many_results_wait_nothing_more_is_claimed(bench, faulty, eventually, monkeypatch):
    monkeypatch.setattr(pilot, "MOST_WAITING", 5)
    monkeypatch.setattr(supply, "CLAIM_BATCH", 10)
    bench.push(*map(str, range(200)))
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    with running(bench.pilot(lambda token: None, pool=Pool(faulty))) as done:
        eventually(lambda: waiting(bench) > 5)
        time.sleep(0.3)
        assert bench.pool.counts()[State.TODO] > 150
        faulty.errors = {}
        eventually(lambda: done)
    assert (done[0].done, done[0].reason) == (200, "empty")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after-the-write"])
def test_results_arrive_once_the_pool_answers_again_and_work_goes_on(bench, faulty, eventually, after):
    bench.push(*[f"echo {n}" for n in range(6)])
    faulty.after = after
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    with running(bench.pilot(pool=Pool(faulty), wait=True)) as done:
        eventually(lambda: [event.kind for event in bench.events].count("started") == 6)
        eventually(lambda: waiting(bench))
        assert "the pool is away" in bench.problems()
        faulty.errors = {}
        eventually(lambda: set(bench.states().values()) == {"done"})
        eventually(lambda: not waiting(bench))
    assert (done[0].done, done[0].superseded, done[0].unsent) == (6, 0, 0)
    for n in range(6):
        token = bench.token(f"token_{n}")
        assert (token.attempt, token.history, bench.out(token.id)) == (1, [], f"{n}\n")
    assert bench.left_in_scratch() == []


def test_what_comes_while_the_pool_is_away_goes_to_the_spool_at_once(bench, faulty, monkeypatch, eventually):
    bench.push("true", *["sleep 0.3"] * 3)
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    with running(bench.pilot(pool=Pool(faulty), workers=4)) as done:
        eventually(lambda: waiting(bench) == 4)
        faulty.errors = {}
        eventually(lambda: done)
    assert (done[0].done, waiting(bench)) == (4, 0)


def test_claims_are_tried_again_too(bench, faulty, eventually):
    bench.push("true")
    faulty.fail(PoolUnavailable("the pool is away"), "claim")
    with running(bench.pilot(pool=Pool(faulty))) as done:
        eventually(lambda: faulty.failed > 2)
        faulty.errors = {}
        eventually(lambda: done)
    assert done[0].done == 1


def test_a_pool_that_is_away_does_not_outlast_max_time(bench, faulty):
    bench.push("true")
    faulty.fail(PoolUnavailable("the pool is away"), "claim")
    assert bench.run(pool=Pool(faulty), max_time=0.3).reason == "max-time"
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    summary = bench.run(pool=Pool(faulty), max_time=0.5)
    assert (summary.reason, summary.unsent) == ("max-time", 1)
    assert summary.spool == str(Spool(bench.spool, bench.url).directory)


def test_what_could_not_be_sent_is_sent_by_the_next_pilot(bench, faulty):
    bench.push("echo one; echo 1 > a.txt", "exit 3", "true")
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    summary = bench.run(pool=Pool(faulty), max_tasks=2, collect=["*.txt"], max_scrub=1)
    assert (summary.done, summary.unsent) == (0, 2)
    assert list(bench.states().values()) == ["locked", "locked", "todo"]
    assert bench.left_in_scratch() == []
    assert bench.run(where="id == 'token_2'").done == 1
    assert waiting(bench) == 0
    assert list(bench.states().values()).count("locked") == 0
    assert (bench.out("token_0"), bench.attached("a.txt", "token_0")) == ("one\n", b"1\n")
    assert bench.token("token_1").history[0]["exit_code"] == 3  # retried, as its own pilot would have it


def test_released_tokens_wait_in_the_spool_too(bench, faulty, eventually):
    bench.push("sleep 1000", *["true"] * 3)
    started = bench.pilot(pool=Pool(faulty))
    with running(started):
        eventually(lambda: any(event.kind == "started" for event in bench.events))
        faulty.fail(PoolUnavailable("the pool is away"), "replace")
    assert bench.states()["token_0"] == "locked"
    assert flush(bench.pool, bench.spool) == (1, 0)
    assert (bench.states()["token_0"], bench.token().scrub_count) == ("todo", 0)


def test_tokens_claimed_ahead_are_put_back_when_the_pool_returns_in_time(
    bench, faulty, monkeypatch, eventually
):
    monkeypatch.setattr(pilot, "PATIENCE_SECONDS", 120.0)
    bench.push(*["true"] * 30, *["sleep 1000"] * 30)
    with running(bench.pilot(pool=Pool(faulty), order="oldest")):
        eventually(lambda: bench.states()["token_29"] == "done")
        eventually(lambda: list(bench.states().values()).count("locked") > 1)
        faulty.fail(PoolUnavailable("the pool is away"), "replace")
        threading.Timer(0.5, faulty.errors.clear).start()
    assert list(bench.states().values()).count("locked") == 0


def test_where_neither_pool_nor_spool_take_a_result_it_is_told(bench, faulty):
    bench.spool.write_text("a file where the directory should be")
    bench.push("echo precious")
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    assert bench.run(pool=Pool(faulty), max_tasks=1).unsent == 1
    assert "cannot be written" in bench.problems()
    assert "picas reset token_0" in bench.problems()


def test_a_spool_that_cannot_be_written_is_no_matter_while_the_pool_comes_back(bench, faulty, eventually):
    bench.spool.write_text("a file where the directory should be")
    bench.push("echo precious")
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    with running(bench.pilot(pool=Pool(faulty))) as done:
        eventually(lambda: faulty.failed > 2)
        faulty.errors = {}
        eventually(lambda: done)
    assert (done[0].done, done[0].unsent) == (1, 0)
    assert bench.out() == "precious\n"


def test_a_pilot_in_a_hurry_does_not_wait_for_the_pool(bench, faulty, monkeypatch, eventually):
    monkeypatch.setattr(pilot, "PATIENCE_SECONDS", 500.0)
    bench.push("true")
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    started = bench.pilot(pool=Pool(faulty))
    with running(started) as done:
        eventually(lambda: waiting(bench))
        started.stop()
        time.sleep(0.3)
        assert not done
        started._courier.hurry()  # as a second signal does
        eventually(lambda: done)
    assert done[0].unsent == 1


def test_results_with_much_to_attach_are_brought_back_in_small_groups(bench, faulty, monkeypatch):
    groups = []

    def recorded(changes):
        groups.append(sum(payload.length for change in changes for payload in change.attach))
        return faulty.store.replace(changes)

    monkeypatch.setattr(inbox, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(inbox, "GROUP_SECONDS", 0.5)
    faulty.replace = recorded
    bench.push(*map(str, range(20)))
    assert bench.run(lambda token, job: job.attach("a", b"x" * 40_000), pool=Pool(faulty)).done == 20
    assert sum(groups) == 800_000
    assert 40_000 < max(groups) < 140_000  # together, but not without end


# --- The spool first ---


@pytest.fixture
def remote(faulty, monkeypatch, bench):
    """The pool as if it were on a server; its results wait in the spool of that server's pool."""
    faulty.url = "https://couchdb.example.org/pool"
    return Pool(faulty)


def kept_for(bench, url="https://couchdb.example.org/pool"):
    return Spool(bench.spool, url).waiting()


def test_a_pool_on_a_server_is_told_of_what_is_on_the_disk(bench, faulty, remote):
    told = []

    def recorded(changes):
        told.append((len(changes), kept_for(bench)))
        return faulty.store.replace(changes)

    faulty.replace = recorded
    bench.push(*["echo x"] * 30)
    assert bench.run(lambda token: None, pool=remote).done == 30
    assert sum(number for number, _ in told) == 30
    assert all(kept >= number for number, kept in told)
    assert kept_for(bench) == 0
    assert list(Spool(bench.spool, remote.url).directory.iterdir()) == []


def test_what_comes_while_a_request_hangs_is_kept_at_once(bench, faulty, remote, eventually):
    answering = threading.Event()

    def hanging(changes):
        answering.wait(120)
        return faulty.store.replace(changes)

    faulty.replace = hanging
    bench.push(*["sleep 0.2"] * 3)
    with running(bench.pilot(pool=remote)) as done:
        eventually(lambda: kept_for(bench) == 3)
        answering.set()
        eventually(lambda: bool(done))
    assert (done[0].done, kept_for(bench)) == (3, 0)


def test_an_embedded_pool_is_told_at_once(bench, faulty):
    told = []

    def recorded(changes):
        told.append(waiting(bench))
        return faulty.store.replace(changes)

    faulty.replace = recorded
    bench.push("true")
    assert bench.run(pool=Pool(faulty)).done == 1
    assert told == [0]
    assert not bench.spool.exists()


def test_a_pilot_killed_while_the_pool_is_told_has_kept_the_result(bench, eventually):
    bench.push("echo precious; head -c 200000 /dev/zero > large")
    program = """
import os, signal, sys
from picas.pilot.loop import Pilot
from picas.pool import Pool, open_pool
url, scratch, spool = sys.argv[1:]
store = open_pool(url).store
class Remote:
    url = "https://couchdb.example.org/pool"
    def __getattr__(self, name):
        return getattr(store, name)
    def replace(self, changes):
        os.kill(os.getpid(), signal.SIGKILL)
Pilot(Pool(Remote()), collect=["large"], scratch=scratch, spool=spool).run()
"""
    command = [sys.executable, "-c", program, bench.url, str(bench.scratch), str(bench.spool)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert (bench.states(), kept_for(bench)) == ({"token_0": "locked"}, 1)
    shutil.rmtree(bench.scratch)  # as batch systems do
    assert Spool(bench.spool, "https://couchdb.example.org/pool").flush(bench.pool) == (1, 0)
    assert (bench.out(), bench.attached("large")) == ("precious\n", bytes(200_000))
    assert kept_for(bench) == 0


def test_a_spool_that_cannot_be_written_is_told_once_and_stops_nothing(bench, remote):
    bench.spool.write_text("a file where the directory should be")
    bench.push(*["true"] * 5)
    summary = bench.run(pool=remote)
    assert (summary.done, summary.unsent) == (5, 0)
    assert bench.problems().count("cannot be written") == 1


def test_what_the_pool_refuses_waits_beside_what_goes_on(bench, faulty, remote):
    replace = faulty.store.replace

    def picky(changes):
        if any(change.token.id == "token_1" for change in changes):
            raise InvalidInput("not this one")
        return replace(changes)

    faulty.replace = picky
    bench.push(*["true"] * 4)
    summary = bench.run(pool=remote)
    assert (summary.done, summary.unsent, kept_for(bench)) == (3, 1, 1)
    assert summary.spool == str(Spool(bench.spool, remote.url).directory)


# --- A pool that refuses ---


def test_a_pool_that_refuses_ends_the_pilot_and_results_stay_in_the_spool(bench, faulty):
    bench.push(*["echo kept"] * 5)
    faulty.fail(PoolRefused("no rights"), "replace")
    with pytest.raises(PoolRefused, match="no rights"):
        bench.run(pool=Pool(faulty), workers=2)
    begun = {event.token.id for event in bench.events if event.kind == "started"}
    assert 1 <= waiting(bench) <= len(begun)
    sent, left = flush(bench.pool, bench.spool)
    assert (sent, left) == (len(begun), 0)
    states = bench.states()
    assert {states[token_id] for token_id in begun} <= {
        "done",
        "todo",
    }  # todo is what ran when the refusal came
    assert "done" in states.values()


def test_a_pool_that_refuses_claims_ends_the_pilot(bench, faulty):
    faulty.fail(PoolRefused("no rights"), "claim")
    with pytest.raises(PoolRefused):
        bench.run(pool=Pool(faulty))


@pytest.mark.parametrize("error", [InvalidInput("odd"), OSError(5, "odd")])
def test_one_result_that_the_pool_does_not_take_does_not_harm_the_others(bench, faulty, error):
    replace = faulty.store.replace

    def picky(changes):
        if any("bad" in payload.name for change in changes for payload in change.attach):
            raise error
        return replace(changes)

    faulty.replace = picky
    bench.push(*["true"] * 5, "echo log; touch bad", *["true"] * 5)
    summary = bench.run(pool=Pool(faulty), workers=2, collect=["*"])
    assert (summary.done, summary.error, summary.unsent) == (10, 1, 0)
    token = bench.token("token_5")
    assert (token["exit_code"], token.run["failure"]) == (126, "infrastructure")
    assert "could not be saved" in bench.message("token_5")
    assert bench.out("token_5") == "log\n"


# --- Tokens that change meanwhile ---


@pytest.fixture
def meanwhile(bench, eventually):
    """Does something to token_0 while it runs, and lets it end; the pilot's summary."""

    def act(change):
        bench.push(
            {"input": 'until [ -e "$TEST_SCRATCH/../go" ]; do sleep 0.02; done; echo mine', "note": "old"}
        )
        with running(bench.pilot()) as done:
            eventually(lambda: bench.states()["token_0"] == "locked")
            change(bench.token())
            (bench.path / "go").touch()
            eventually(lambda: done)
        return done[0]

    return act


def test_a_token_that_was_deleted_meanwhile_does_no_harm(bench, meanwhile):
    summary = meanwhile(lambda token: bench.pool.delete([token]))
    assert summary.superseded == 1
    assert bench.states() == {}


def test_a_token_that_was_edited_meanwhile_keeps_the_edit_and_gets_the_result(bench, meanwhile):
    def edit(token):
        body = {**token.body, "note": "new", "mine": True}
        assert bench.pool.store.replace([Change(Token(token.id, body, token.rev))])[0]

    assert meanwhile(edit).done == 1
    token = bench.token()
    assert (token["note"], token["mine"], token.state.value) == ("new", True, "done")
    assert bench.out() == "mine\n"


def test_a_token_that_was_reset_meanwhile_keeps_the_late_result_beside(bench, meanwhile):
    summary = meanwhile(lambda token: bench.pool.reset([token]))
    assert (summary.superseded, summary.done) == (1, 1)  # reset, so it ran again
    token = bench.token()
    assert (token.state.value, bench.out()) == ("done", "mine\n")
    [late] = [entry for entry in token.history if entry.get("superseded")]
    assert bench.attached(late["logs"][0]) == b"mine\n"


def test_a_token_that_was_reset_and_claimed_by_another_meanwhile_is_left_to_that(bench, meanwhile):
    other = []

    def take_away(token):
        bench.pool.reset([token])
        other.append(bench.pool.claim())

    assert meanwhile(take_away).superseded == 1
    token = bench.token()
    assert (token.claim_id, token.state.value) == (other[0].claim_id, "locked")
    assert bench.pool.finish(other[0], Outcome(0, 1.0, 2.0)) is Verdict.DONE
    assert [entry.get("superseded") for entry in bench.token().history].count(True) == 1


def test_a_claim_that_was_given_back_is_not_taken_from_another(bench):
    token = claimed(bench)
    bench.pool.reset([token])
    other = bench.pool.claim()
    assert bench.pool.release([token]) == 0
    assert bench.token().claim_id == other.claim_id


def test_a_claimed_token_that_was_edited_can_be_given_back(bench):
    token = claimed(bench)
    bench.pool.store.replace([Change(Token(token.id, {**token.body, "note": "new"}, token.rev))])
    assert bench.pool.release([token]) == 1
    assert (bench.token()["note"], bench.token().attempt) == ("new", 0)
