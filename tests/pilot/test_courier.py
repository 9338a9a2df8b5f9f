"""Results on their way back: nothing is lost or doubled, whatever the pool does meanwhile."""

from __future__ import annotations

import os
import stat
import threading
import time
from contextlib import contextmanager

import pytest

from picas import courier, pilot, supply
from picas.errors import InvalidInput, PoolRefused, PoolUnavailable
from picas.payload import Payload
from picas.pool import Pool, Result, Verdict
from picas.spool import Spool, flush
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


def entries(bench):
    return Spool(bench.spool, bench.url).entries()


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
        eventually(lambda: len(entries(bench)) > 5)
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
        eventually(lambda: entries(bench))
        assert "the pool is away" in bench.problems()
        faulty.errors = {}
        eventually(lambda: set(bench.states().values()) == {"done"})
        eventually(lambda: not entries(bench))
    assert (done[0].done, done[0].superseded, done[0].unsent) == (6, 0, 0)
    for n in range(6):
        token = bench.token(f"token_{n}")
        assert (token.attempt, token.history, bench.out(token.id)) == (1, [], f"{n}\n")
    assert bench.left_in_scratch() == []


def test_what_comes_while_the_pool_is_away_goes_to_the_spool_at_once(bench, faulty, monkeypatch, eventually):
    bench.push("true", *["sleep 0.3"] * 3)
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    with running(bench.pilot(pool=Pool(faulty), workers=4)) as done:
        eventually(lambda: len(entries(bench)) == 4)
        faulty.errors = {}
        eventually(lambda: done)
    assert (done[0].done, entries(bench)) == (4, [])


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


def test_what_could_not_be_sent_is_sent_by_the_next_pilot(bench, faulty):
    bench.push("echo one; echo 1 > a.txt", "exit 3", "true")
    faulty.fail(PoolUnavailable("the pool is away"), "replace")
    summary = bench.run(pool=Pool(faulty), max_tasks=2, collect=["*.txt"], max_scrub=1)
    assert (summary.done, summary.unsent) == (0, 2)
    assert list(bench.states().values()) == ["locked", "locked", "todo"]
    assert bench.left_in_scratch() == []
    assert bench.run(where="id == 'token_2'").done == 1
    assert entries(bench) == []
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
        eventually(lambda: entries(bench))
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

    monkeypatch.setattr(courier, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(courier, "GROUP_SECONDS", 0.5)
    faulty.replace = recorded
    bench.push(*map(str, range(20)))
    assert bench.run(lambda token, job: job.attach("a", b"x" * 40_000), pool=Pool(faulty)).done == 20
    assert sum(groups) == 800_000
    assert 40_000 < max(groups) < 140_000  # together, but not without end


# --- A pool that refuses ---


def test_a_pool_that_refuses_ends_the_pilot_and_results_stay_in_the_spool(bench, faulty):
    bench.push(*["echo kept"] * 5)
    faulty.fail(PoolRefused("no rights"), "replace")
    with pytest.raises(PoolRefused, match="no rights"):
        bench.run(pool=Pool(faulty), workers=2)
    begun = [event.kind for event in bench.events].count("started")
    assert 1 <= len(entries(bench)) <= begun
    sent, left = flush(bench.pool, bench.spool)
    assert (sent, left) == (begun, 0)
    assert list(bench.states().values()).count("done") == begun


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


# --- The spool itself ---


@pytest.fixture
def spool(bench):
    return Spool(bench.spool, bench.url)


def test_an_entry_comes_back_as_it_went(bench, spool):
    token = claimed(bench, größe="é")
    whole = result(token, 3, message="broken", output={"x": [1]})
    big = os.urandom(3_000_000)
    spool.keep(Result(token, whole.outcome, whole.logs, (Payload("big", "image/png", (big,)),)), 0)
    assert spool.flush(bench.pool) == (1, 0)
    token = bench.token()
    assert (token["exit_code"], token.output, bench.message()) == (3, {"x": [1]}, "broken")
    assert (bench.out(), bench.attached("big")) == ("log", big)
    assert token.attachments["big"].content_type == "image/png"


def test_entries_are_readable_by_their_owner_only(bench, spool):
    entry = spool.keep(result(claimed(bench)), 0)
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in entry.iterdir()} == {0o600}


def test_keeping_and_sending_twice_does_no_harm(bench, spool):
    kept = result(claimed(bench))
    entry = spool.keep(kept, 0)
    assert spool.keep(kept, 0) == entry
    bench.pool.finish_many([kept])
    assert spool.flush(bench.pool) == (1, 0)
    assert spool.flush(bench.pool) == (0, 0)
    assert bench.token().history == []
    assert bench.out() == "log"


def test_what_a_crash_left_half_written_is_never_sent(bench, spool):
    entry = spool.keep(result(claimed(bench)), 0)
    entry.rename(entry.with_name(f".part-{entry.name}"))
    assert spool.flush(bench.pool) == (0, 0)
    assert bench.states() == {"token_0": "locked"}


def test_old_leftovers_are_cleared_and_new_ones_left_to_their_writer(bench, spool):
    spool.directory.mkdir(parents=True)
    old, new = spool.directory / ".part-old", spool.directory / ".part-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 100_000,) * 2)
    spool.flush(bench.pool)
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"token": {"_id": 5}, "files": [], "logs": 0, "max_scrub": 0}']
)
def test_an_entry_that_cannot_be_read_is_left_where_it_is_and_stops_nothing(bench, spool, text):
    good = spool.keep(result(claimed(bench)), 0)
    bad = spool.directory / "bad"
    bad.mkdir()
    (bad / "result.json").write_text(text)
    assert spool.flush(bench.pool) == (1, 1)
    assert (good.exists(), bad.exists()) == (False, True)


def test_an_entry_that_another_pilot_is_sending_stops_nothing(bench, spool, monkeypatch):
    spool.keep(result(claimed(bench)), 0)

    def vanishing(results, max_scrub):
        for entry in spool.entries():
            spool.drop(entry)
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(bench.pool, "finish_many", vanishing)
    assert spool.flush(bench.pool) == (0, 0)


def test_each_pool_has_a_spool_of_its_own(bench, tmp_path):
    Spool(bench.spool, bench.url).keep(result(claimed(bench)), 0)
    other = Spool(bench.spool, bench.url + "x")
    assert other.entries() == []
    assert Spool(bench.spool, f"sqlite:///{tmp_path}/../odd ü.db").directory.parent == bench.spool


def test_a_full_disk_leaves_no_entry(bench, spool, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.keep(result(claimed(bench)), 0)
    monkeypatch.undo()
    assert list(spool.directory.iterdir()) == []


KEEPER = """
import sys
from picas.payload import Payload
from picas.pool import Result, open_pool
from picas.spool import Spool
from picas.tokens import Outcome
from pathlib import Path

pool = open_pool(sys.argv[1])
spool = Spool(Path(sys.argv[2]), pool.url)
print("begun", flush=True)
while True:
    token = pool.claim()
    logs = tuple(Payload(f"logs_{token.id}.{end}", "text/plain", (token.id.encode() * 5000,)) for end in ("out", "err"))
    spool.keep(Result(token, Outcome(0, 1.0, 2.0), logs), 0)
"""


def test_a_pilot_that_is_killed_outright_leaves_whole_entries_or_none(bench, spool, eventually):
    import subprocess
    import sys

    bench.push(*["true"] * 400)
    for _ in range(3):
        before = len(entries(bench))
        process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, bench.url, str(bench.spool)], stdout=subprocess.PIPE
        )
        eventually(lambda seen=before: len(entries(bench)) > seen + 5)
        process.kill()
        process.communicate()
    number = len(entries(bench))
    assert spool.flush(bench.pool) == (number, 0)
    done = list(bench.pool.tokens("done"))
    assert len(done) == number
    for token in done:
        assert bench.out(token.id) == bench.err(token.id) == token.id * 5000
