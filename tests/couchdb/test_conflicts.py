"""Conflicting versions of tokens in a real database: found, finished on, deleted, mended."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.couchdb.processes import ask

from picas import transitions
from picas.finishing import Result, Verdict
from picas.payload import Payload
from picas.pool import Pool, open_pool
from picas.stores.base import Change
from picas.stores.couch import conflicts, leaves
from picas.stores.couch.http import Server, split_url
from picas.tokens import Claimer, Failure, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.couchdb

RUN_OUT = -60.0
"""Seconds that a claim counts as running, so that none does: clocks may differ a little."""

WORK = Claimer("another-pilot", "far")


@dataclass
class Database:
    """A pool, and what can be done to its documents behind its back."""

    url: str
    pool: Pool
    server: Server
    name: str

    def leaves(self, token_id: str = "token_0") -> list[Token]:
        return leaves.read(self.server, self.name, [token_id])[0]

    def fork(self, parent: Token, token: Token, digest: str = "", **attachments: str) -> Token:
        """Store this version beside whatever has come after its parent, as a replication would."""
        generation, _, hash_ = (parent.rev or "").partition("-")
        digest = digest or secrets.token_hex(16)
        revision = f"{int(generation) + 1}-{digest}"
        doc = {
            "_id": token.id,
            **token.body,
            "_rev": revision,
            "_revisions": {"start": int(generation) + 1, "ids": [digest, hash_]},
            "_attachments": {
                name: {"content_type": "text/plain", "data": data} for name, data in attachments.items()
            },
        }
        assert ask(self.url, "POST", "/_bulk_docs", {"docs": [doc], "new_edits": False})[0] == 201
        return next(leaf for leaf in self.leaves(token.id) if leaf.rev == revision)

    def mend(self, lock_seconds: float = RUN_OUT, ids: tuple[str, ...] = ("token_0",)) -> conflicts.Mended:
        return conflicts.mend(self.server, self.name, ids, self.pool.store.now(), lock_seconds)

    def count(self) -> int:
        return conflicts.count(self.server, self.name)

    def text(self, name: str) -> str:
        return b"".join(self.pool.read_attachment("token_0", name)).decode()


@pytest.fixture
def base(database: str) -> Iterator[Database]:
    """A pool of one token."""
    with open_pool(database) as pool:
        pool.push(["work"])
        server, name, login = split_url(database)
        yield Database(database, pool, Server(server, login), name)


def claimed(token: Token, at: float | None = None) -> Token:
    return transitions.claim(token, WORK, time.time() if at is None else at)


def success() -> Outcome:
    return Outcome(0, time.time() - 2, time.time() - 1)


def log(text: str = "mine") -> tuple[Payload, ...]:
    return (Payload("logs_token_0.out", "text/plain", (text.encode(),)),)


def finished(token: Token) -> Token:
    return transitions.finish(claimed(token, time.time() - 9), success(), ["logs_token_0.out"])


HIGH, LOW = "f" * 32, "0" * 32
"""Of leaves of the same length the one with the higher digest is shown."""


# --- Finding ---


def test_conflicts_and_claims_given_up_are_counted_by_the_view_and_by_looking_through(base: Database) -> None:
    base.pool.push(["second", "third"])
    free = base.pool.get("token_0")
    base.pool.claim_many(1)
    assert base.count() == 0
    base.fork(free, claimed(free))
    assert base.count() == 1
    assert list(conflicts.scan(base.server, base.name)) == ["token_0"]
    assert list(conflicts.find(base.server, base.name)) == ["token_0"]
    second = base.pool.get("token_1")
    base.pool.store.replace([Change(leaves.void(claimed(second)))])
    assert base.count() == 2
    assert {state: n for state, n in base.pool.counts().items() if n} == {State.LOCKED: 2, State.TODO: 1}


def test_where_the_view_is_missing_all_is_looked_through(base: Database) -> None:
    free = base.pool.get("token_0")
    base.pool.claim()
    base.fork(free, claimed(free))
    revision = ask(base.url, "GET", "/_design/picas")[1]["_rev"]
    ask(base.url, "DELETE", f"/_design/picas?rev={revision}")
    assert base.count() == 1
    conflicts.mend_all(base.server, base.name, base.pool.store.now(), RUN_OUT)
    assert base.count() == 0


def test_more_than_a_page_of_them_is_found(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    base.pool.push([f"work {n}" for n in range(1, 8)])
    for free in list(base.pool.tokens()):
        base.pool.store.replace([Change(claimed(free))])
        base.fork(free, claimed(free))
    monkeypatch.setattr(conflicts, "PAGE", 3)
    ids = sorted(f"token_{n}" for n in range(8))
    assert sorted(conflicts.find(base.server, base.name)) == ids
    assert sorted(conflicts.scan(base.server, base.name)) == ids


def test_picas_check_counts_them_and_mends_what_it_can(base: Database) -> None:
    base.pool.push(["second"])
    free, second = base.pool.get("token_0"), base.pool.get("token_1")
    base.pool.store.replace([Change(leaves.void(claimed(second)))])
    base.pool.finish(base.pool.store.replace([Change(claimed(free))])[0], success())
    old = claimed(free, time.time() - 2 * conflicts.LOCK_SECONDS)
    base.fork(free, old)

    def check(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "picas", "check", "--json", *options]
        environ = {**os.environ, "PICAS_POOL": base.url}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
        (found,) = [each for each in json.loads(done.stdout)["checks"] if each["name"] == "conflicts"]
        return dict(found)

    first = check()
    assert (first["level"], first["conflicts"]) == ("warning", 2)
    assert "--mend" in first["advice"]
    mended = check("--mend")
    assert (mended["level"], mended["conflicts"]) == ("ok", 0)
    assert (mended["mended"], mended["freed"]) == (["token_0"], ["token_1"])
    assert [token.state for token in base.pool.tokens()] == [State.DONE, State.TODO]


# --- Finishing with another version beside one's own ---


@pytest.mark.parametrize("digest", [HIGH, LOW], ids=["the other is shown", "mine is shown"])
def test_the_holder_finishes_on_its_own_version(base: Database, digest: str) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    base.fork(free, claimed(free), digest)
    assert base.pool.finish(mine, success(), logs=log()) is Verdict.DONE
    assert base.pool.get("token_0").state is State.DONE
    assert base.text("logs_token_0.out") == "mine"


def test_a_changed_version_is_followed_though_another_one_is_shown(base: Database) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    other = base.fork(free, claimed(free), HIGH)
    longer = base.fork(other, Token(other.id, {**other.body, "note": 1}), HIGH)
    base.fork(longer, Token(other.id, {**other.body, "note": 2}), HIGH)
    assert base.pool.store.replace([Change(Token(mine.id, {**mine.body, "note": 3}, mine.rev))])[0]
    assert base.pool.get("token_0")["note"] == 2
    assert base.pool.finish(mine, success(), logs=log()) is Verdict.DONE
    done = leaves.with_claim(base.leaves(), mine.claim_id)
    assert done is not None
    assert (done.state, done["note"]) == (State.DONE, 3)


def test_a_result_whose_answer_was_lost_is_known_again_though_another_one_is_shown(base: Database) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    other = base.fork(free, claimed(free), HIGH)
    for _ in range(3):
        other = base.fork(other, other, HIGH)
    assert base.pool.finish(mine, success(), logs=log()) is Verdict.DONE
    before = [leaf.rev for leaf in base.leaves()]
    assert base.pool.finish(mine, success(), logs=log()) is Verdict.DONE
    assert [leaf.rev for leaf in base.leaves()] == before


def test_what_is_given_back_is_given_back_on_its_own_version(base: Database) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    base.fork(free, claimed(free), HIGH)
    edited = base.pool.store.replace([Change(Token(mine.id, {**mine.body, "note": 1}, mine.rev))])[0]
    assert edited is not None
    assert base.pool.release([mine]) == 1
    assert base.pool.get("token_0").state is State.TODO


def test_a_deleted_token_does_not_come_back_as_another_version(base: Database) -> None:
    free = base.pool.get("token_0")
    base.pool.claim()
    base.fork(free, claimed(free))
    base.fork(free, claimed(free))
    assert base.pool.delete([base.pool.get("token_0")]) == 1
    assert base.leaves() == []
    assert not list(base.pool.tokens())


# --- Mending ---


@pytest.mark.parametrize("size", [10, 100_000], ids=["small logs", "streamed logs"])
def test_one_version_is_left_with_the_logs_of_both(base: Database, size: int) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    late = base.fork(free, finished(free), **{"logs_token_0.out": "eHh4" * size})
    base.pool.finish(mine, success(), logs=log())
    base.fork(late, late, **{"logs_token_0.out": "eHh4" * size})
    assert base.mend().merged == ["token_0"]
    (left,) = base.leaves()
    assert (left.state, base.count()) == (State.DONE, 0)
    names = {token_run["claim"]: token_run["logs"] for token_run in (left.run, *left.history)}
    assert {base.text(name) for (name,) in names.values()} == {"mine", "xxx" * size}
    assert set(names) == {mine.claim_id, late.claim_id}
    assert len(left.attachments) == 2


def test_claims_that_may_be_running_stay_until_their_time_is_over(base: Database) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    base.fork(free, claimed(free), HIGH)
    assert base.mend(3600.0) == conflicts.Mended([], [])
    assert len(base.leaves()) == 2
    assert base.mend().merged == ["token_0"]
    (left,) = base.leaves()
    assert left.claim_id != mine.claim_id
    assert base.pool.finish(mine, success(), logs=log()) is Verdict.DONE
    assert base.pool.get("token_0").claim_id == mine.claim_id


def test_a_write_between_look_and_repair_wins(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    free = base.pool.get("token_0")
    mine = base.pool.claim()
    assert mine is not None
    base.fork(free, claimed(free), LOW)
    decide = conflicts.decide

    def later(*args: Any) -> Any:
        decided = decide(*args)
        assert base.pool.finish(mine, success(), logs=log()) is Verdict.DONE
        return decided

    monkeypatch.setattr(conflicts, "decide", later)
    assert base.mend() == conflicts.Mended([], [])
    assert len(base.leaves()) == 2
    monkeypatch.undo()
    base.mend()
    assert [leaf.claim_id for leaf in base.leaves()] == [mine.claim_id]


def test_any_number_of_menders_at_once_do_no_harm(base: Database) -> None:
    base.pool.push([f"work {n}" for n in range(1, 12)])
    ids = tuple(f"token_{n}" for n in range(12))
    for n, free in enumerate(base.pool.store.fetch(ids)):
        assert free is not None
        base.fork(free, finished(free))
        base.fork(free, finished(free) if n % 3 == 1 else claimed(free))
        base.fork(free, leaves.void(claimed(free)))
        if n % 3 == 2:  # only claims that were given up
            for leaf in base.leaves(free.id):
                ask(base.url, "DELETE", f"/{free.id}?rev={leaf.rev}")
            base.fork(free, leaves.void(claimed(free)))
            base.fork(free, leaves.void(claimed(free)))
    start = threading.Barrier(4)

    def mend() -> None:
        start.wait()
        base.mend(ids=ids)

    threads = [threading.Thread(target=mend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    base.mend(ids=ids)
    states = [[leaf.state for leaf in base.leaves(token_id)] for token_id in ids]
    assert states == [[State.TODO] if n % 3 == 2 else [State.DONE] for n in range(12)]


def test_a_token_that_only_claims_hold_which_were_given_up_is_free_and_uncharged(base: Database) -> None:
    free = base.pool.get("token_0")
    base.fork(free, leaves.void(claimed(free)))
    base.fork(free, leaves.void(claimed(free)))
    assert base.mend().freed == ["token_0"]
    (left,) = base.leaves()
    assert (left.state, left.attempt, left.run) == (State.TODO, 0, {})
    token = base.pool.claim()
    assert token is not None
    assert token.attempt == 1


def test_a_token_whose_mender_died_over_it_is_free_after_a_while(base: Database) -> None:
    free = base.pool.get("token_0")
    now = base.pool.store.now()
    for seconds in (10.0, conflicts.MENDING_SECONDS + 60.0):
        run = {"claim": secrets.token_hex(12), "claimed": now - seconds, "mends": True}
        left = Token(free.id, {**claimed(free).body, "picas": {"run": run}})
        base.fork(free, left)
        assert base.count() == 1
        assert base.mend(3600.0).freed == ([] if seconds == 10.0 else ["token_0"])
        if seconds == 10.0:
            assert base.mend(RUN_OUT).freed == []  # however short the time is that pilots are given
            (leaf,) = base.leaves()
            ask(base.url, "DELETE", f"/token_0?rev={leaf.rev}")
    assert base.pool.get("token_0").state is State.TODO


def test_who_finds_nothing_to_do_frees_what_nobody_holds(base: Database) -> None:
    free = base.pool.get("token_0")
    base.fork(free, leaves.void(claimed(free)))
    with open_pool(base.url) as other:
        token = other.claim()
    assert token is not None
    assert token.attempt == 1


def test_what_is_no_token_is_left_alone(base: Database) -> None:
    ask(base.url, "PUT", "/notes", {"text": 0})
    notes = Token("notes", {}, ask(base.url, "GET", "/notes")[1]["_rev"])
    for text in ("one", "two"):
        base.fork(notes, Token("notes", {"text": text}))
    assert base.mend(ids=("notes",)) == conflicts.Mended([], [])
    assert len(base.leaves("notes")) == 2


def test_numbers_go_on_after_those_of_every_version(base: Database) -> None:
    store = base.pool.store
    first = store.reserve_numbers("job_", 10)
    numbers = base.leaves("picas_numbers")[0]
    base.fork(numbers, Token(numbers.id, {**numbers.body, "given": {"job_": 500, "other_": 7}}), LOW)
    base.fork(numbers, Token(numbers.id, {**numbers.body, "given": {"job_": 40}}), HIGH)
    assert (first, store.reserve_numbers("job_", 10)) == (0, 501)
    assert store.reserve_numbers("other_", 1) == 8
    assert len(base.leaves("picas_numbers")) == 1


# --- Any order of things ---

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "finish", "fail", "release", "reset", "stray", "void", "mend", "again"]),
        st.integers(0, 3),
    ),
    min_size=3,
    max_size=14,
)


@given(steps=STEPS)
@example(steps=[("claim", 0), ("reset", 0), ("stray", 0), ("finish", 0)])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_in_whatever_order_every_result_is_kept(
    base: Database, steps: list[tuple[str, int]]
) -> None:
    token_id = f"case_{secrets.token_hex(8)}"
    base.pool.push([{"_id": token_id, "input": "work"}])
    history = _Case(base, token_id)
    for step, which in steps:
        getattr(history, step)(which)
    history.check()


class _Case:
    """Pilots, a person, strays of a cluster and menders at one token."""

    def __init__(self, base: Database, token_id: str) -> None:
        self.base = base
        self.id = token_id
        self.free = [self.shown()]  # versions that were todo once
        self.held: list[Token] = []
        self.reported: list[tuple[Token, Outcome]] = []

    def shown(self) -> Token:
        return self.base.pool.get(self.id)

    def claim(self, _: int) -> None:
        free = self.shown()
        if free.state is State.TODO:
            self.free.append(free)
            written = self.base.pool.store.replace([Change(claimed(free))])[0]
            assert written is not None
            self.held.append(written)

    def _end(self, which: int, outcome: Outcome) -> None:
        if self.held:
            token = self.held.pop(which % len(self.held))
            self.report(token, outcome)

    def report(self, token: Token, outcome: Outcome) -> None:
        verdict = self.base.pool.finish_many([Result(token, outcome)], max_scrub=2)[0]
        assert verdict is not Verdict.GONE
        self.reported.append((token, outcome))

    def finish(self, which: int) -> None:
        self._end(which, success())

    def fail(self, which: int) -> None:
        self._end(which, Outcome(1, time.time() - 2, time.time() - 1, Failure.APPLICATION))

    def again(self, which: int) -> None:
        """The answer to a result was lost."""
        if self.reported:
            self.report(*self.reported[which % len(self.reported)])

    def release(self, which: int) -> None:
        if self.held:
            self.base.pool.release([self.held.pop(which % len(self.held))])

    def reset(self, _: int) -> None:
        self.base.pool.reset([self.shown()])

    def stray(self, which: int) -> None:
        free = self.free[which % len(self.free)]
        self.base.fork(free, claimed(free))

    def void(self, which: int) -> None:
        free = self.free[which % len(self.free)]
        self.base.fork(free, leaves.void(claimed(free)))

    def mend(self, which: int) -> None:
        self.base.mend(3600.0 if which % 2 else RUN_OUT, (self.id,))

    def check(self) -> None:
        for _ in range(2):
            self.base.mend(ids=(self.id,))
        (left,) = self.base.leaves(self.id)
        kept = [entry["claim"] for entry in (left.run, *left.history) if "started" in entry]
        assert len(kept) == len(set(kept))
        assert {token.claim_id for token, _ in self.reported} == set(kept)
        if left.state in (State.DONE, State.ERROR):
            assert left.claim_id in kept
