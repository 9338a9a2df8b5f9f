"""What is done while the power is cut, and what has to be there afterwards.

A scenario works below one directory. It says after each step that the step is over; whoever cuts the power knows by
that what had been promised.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.budgets import Budgets
from picas.finishing import Result
from picas.payload import Payload, Stretch
from picas.pilot import courier, supply
from picas.pilot import loop as pilot
from picas.pilot.loop import Pilot
from picas.pool import Pool, open_pool
from picas.spool.spool import Spool
from picas.stores.sqlite.store import SqliteStore
from picas.tokens import Claimer, Failure, Outcome, Token, fresh_body
from picas.transitions import claim

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[Any], None]

AT_ONCE = Budgets(1, pause=(0.0, 0.0))
"""A failed attempt is tried again once, without a pause."""

SERVER = "https://couchdb.example.org/pool"
LARGE = os.urandom(150_000)


def outcome(exit_code: int = 0) -> Outcome:
    return Outcome(exit_code, 1.0, 2.0, Failure.APPLICATION if exit_code else None)


def log(token: Token, text: bytes = b"log") -> Payload:
    return Payload(f"logs_{token.id}.out", "text/plain", (text,))


# --- A pool ---


def use_pool(directory: Path, say: Say) -> None:
    """Everything that a store is asked for; each step is one write, or none at all."""
    pool = Pool(SqliteStore(directory / "pool.db"))
    say("opened")
    pool.push([f"echo {n}" for n in range(4)])
    say("pushed")
    one, two, three = pool.claim_many(3)
    say("claimed")
    large = Payload("large", "image/png", (LARGE,))
    results = [
        Result(one, outcome(), (log(one),), (large,)),
        Result(two, outcome(3), (log(two, b"failed"),)),
    ]
    pool.finish_many(results, budgets=AT_ONCE)
    say("finished")
    pool.release([three])
    say("released")
    again = pool.claim(order="newest")
    assert again is not None
    say("claimed again")
    smaller = Payload("large", "image/png", (LARGE[:70_000],))
    pool.finish_many([Result(again, outcome(5), (log(again),), (smaller,))])
    say("in error")
    pool.reset([pool.get(again.id)])
    say("reset")
    pool.delete([pool.get(one.id)])
    say("deleted")
    pool.push([{"input": "x" * 100_000, "_id": "own"}])
    say("pushed more")


def look_at_pool(directory: Path) -> Any:
    """All that a pool's users see of it, but for times and random ids."""
    if not (directory / "pool.db").exists():
        return {}
    pool = Pool(SqliteStore(directory / "pool.db"))
    found = {}
    for token in pool.tokens():
        files = {}
        for name, info in token.attachments.items():
            data = b"".join(pool.read_attachment(token.id, name))
            assert info.digest == "sha256-" + sha256(data).hexdigest(), f"{name} of {token.id} is damaged"
            files[name] = (info.content_type, info.digest)
        ours = token.picas
        assert token.state is not None, f"{token.id} is in no state"
        found[token.id] = (
            token.state.value, token["input"], token.attempt, token.scrub_count, files,
            [entry.get("exit_code") for entry in token.history], sorted(ours),
        )  # fmt: skip
    pool.close()
    return found


def check_pool(directory: Path, said: list[Any], wanted: list[Any]) -> None:
    """The pool is as it was after the last step that was over, or after the one under way; and is as good as new.

    Args:
        wanted: how it looks before the first step and after each.
    """
    found = look_at_pool(directory)
    steps = len(said)
    assert found in wanted[steps : steps + 2], f"after {said}: {found}"
    pool = Pool(SqliteStore(directory / "pool.db"))
    with sqlite3.connect(directory / "pool.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        odd = "SELECT count(*) FROM piece WHERE attachment NOT IN (SELECT id FROM attachment)"
        assert db.execute(odd).fetchone() == (0,)
    db.close()
    pool.push(["echo afterwards"])
    pool.reset(pool.tokens(["locked", "error"]))
    count = sum(pool.counts().values())
    while claimed := pool.claim_many(10):
        pool.finish_many([Result(token, outcome(), (log(token),)) for token in claimed])
    assert sum(state.value == "done" for token in pool.tokens() if (state := token.state)) == count
    pool.close()


# --- A spool ---


def results(directory: Path) -> dict[str, list[Result]]:
    """Groups of results of a pilot, with small files and large ones; the same each time but for the claim ids."""
    scratch = directory.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    large = scratch / "large"
    if not large.exists():
        large.write_bytes(LARGE)
    claimer = Claimer("pilot", "host")
    groups: dict[str, list[Result]] = {}
    for name, number in (("a", 2), ("b", 3), ("c", 1), ("d", 2)):
        groups[name] = []
        for n in range(number):
            token = claim(Token(f"{name}{n}", fresh_body({"input": "x"}), "1-1"), claimer, 1.0)
            token = replaced_claim(token, f"{name}{n}")
            files: tuple[Payload, ...] = (Payload("inline", "text/plain", (LARGE[:5000],)),)
            if name == "b":
                files += (Payload("linked", "image/png", (Stretch(large, 100, 100_000),)),)
                files += (Payload("copied", "image/png", (LARGE[:100_000],)),)
            groups[name].append(Result(token, outcome(), (log(token, b"of " + token.id.encode()),), files))
    return groups


def replaced_claim(token: Token, claim_id: str) -> Token:
    """The token under a claim of this id."""
    ours = {**token.picas, "run": {**token.run, "claim": claim_id}}
    return Token(token.id, {**token.body, "picas": ours}, token.rev)


def use_spool(directory: Path, say: Say) -> None:
    """A pilot's life on a spool: what is kept is said after it is, what is dropped before."""
    groups = results(directory)
    journal = Spool(directory, SERVER).journal()
    say(["kept", []])
    for name in ("a", "b"):
        journal.keep(groups[name], AT_ONCE)
        say(["kept", [result.token.id for result in groups[name]]])
    say(["dropped", ["a0", "a1", "b0", "b1"]])
    journal.drop(groups["a"] + groups["b"][:2])
    journal.keep(groups["c"], AT_ONCE)
    say(["kept", ["c0"]])
    journal.set_aside(groups["b"][2:], AT_ONCE)
    say(["dropped", ["c0"]])
    journal.drop(groups["c"])
    journal.keep(groups["d"], AT_ONCE)
    say(["kept", ["d0", "d1"]])
    say(["dropped", ["d1"]])
    journal.drop(groups["d"][1:])
    journal.close()
    say(["kept", []])


class Recorder:
    """A pool that takes everything, and says what that was."""

    def __init__(self) -> None:
        self.taken: dict[str, Result] = {}

    def finish_many(self, results: list[Result], *, budgets: Budgets) -> None:
        """Take them, and read all that is to be attached."""
        assert budgets == AT_ONCE
        for result in results:
            whole = [replace(each, parts=(each.read(),)) for each in result.logs + result.files]
            self.taken[result.token.id] = replace(result, logs=(), files=tuple(whole))


def check_spool(directory: Path, said: list[Any], wanted: list[Any]) -> None:
    """What was kept and not dropped is there, whole; of the rest only what is whole."""
    spool = Spool(directory, SERVER)
    recorder = Recorder()
    number = spool.waiting()
    assert spool.flush(recorder) == (number, 0)  # type: ignore[arg-type]
    assert spool.flush(recorder) == (0, 0)  # type: ignore[arg-type]
    promised = {each for word, ids in said if word == "kept" for each in ids}
    promised -= {each for word, ids in said if word == "dropped" for each in ids}
    assert promised <= set(recorder.taken), f"{promised} were kept, and only {set(recorder.taken)} were there"
    whole = {each.token.id: each for group in results(directory).values() for each in group}
    for token_id, found in recorder.taken.items():
        meant = whole[token_id]
        assert found.token.body["picas"]["run"]["claim"] == token_id
        assert [(each.name, each.content_type, each.read()) for each in found.files] == [
            (each.name, each.content_type, each.read()) for each in meant.logs + meant.files
        ], token_id
    if spool.directory.exists():
        left = [path.name for path in spool.directory.iterdir()]
        assert all(name.endswith(".files") for name in left), left


# --- Sending what is in a spool ---


def prepare_sending(directory: Path) -> None:
    """A pool, and a spool with what two pilots left."""
    pool = Pool(SqliteStore(directory / "pool.db"))
    pool.push([f"echo {n}" for n in range(5)])
    large = Payload("large", "image/png", (LARGE,))
    for limit in (3, 2):
        journal = Spool(directory / "spool", pool.url).journal()
        claimed = pool.claim_many(limit)
        journal.keep([Result(token, outcome(), (log(token),), (large,)) for token in claimed], AT_ONCE)
        journal.close()
    pool.close()


def send(directory: Path, say: Say) -> None:
    """What ``picas flush`` does."""
    pool = Pool(SqliteStore(directory / "pool.db"))
    say(Spool(directory / "spool", pool.url).flush(pool))


def check_sent(directory: Path, said: list[Any], wanted: list[Any]) -> None:
    """Sending again brings the rest, and nothing twice."""
    pool = Pool(SqliteStore(directory / "pool.db"))
    spool = Spool(directory / "spool", pool.url)
    assert spool.flush(pool)[1] == 0
    assert (spool.flush(pool), spool.waiting()) == ((0, 0), 0)
    found = look_at_pool(directory)
    assert len(found) == 5
    for token_id, (state, _, attempt, _, files, history, _) in found.items():
        assert (state, attempt, history) == ("done", 1, []), f"{token_id}: {found[token_id]}"
        assert set(files) == {f"logs_{token_id}.out", "large"}
    pool.close()


# --- A pilot ---


class Remote:
    """A store that a pilot takes for one on a server: its results go to the spool first."""

    url = SERVER

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def pool_of(directory: Path) -> Pool:
    """A pool whose pilots write to the spool first."""
    return Pool(Remote(SqliteStore(directory / "pool.db")))  # type: ignore[arg-type]


def prepare_pilot(directory: Path) -> None:
    """Tokens, some of which fail at the first try."""
    (directory / "scratch").mkdir()
    with open_pool(f"sqlite:///{directory}/pool.db") as pool:
        pool.push([{"input": n, "fails": n == 2} for n in range(5)])


def work(token: Token, job: Any) -> Any:
    """Say that this token was run, attach something, and fail if it is to fail at first."""
    print("ran", token.id)
    job.attach("large", LARGE)
    if token["fails"] and not any(entry.get("exit_code") == 7 for entry in token.history):
        sys.exit(7)
    return {"n": token["input"]}


def run_pilot(directory: Path, say: Say) -> None:
    """One pilot, until the pool is empty."""
    courier.PAUSE_SECONDS = supply.PAUSE_SECONDS = (0.0, 0.001)
    supply.RETRY_SECONDS = 0.001
    pilot.PATIENCE_SECONDS = 0.1
    summary = Pilot(
        pool_of(directory),
        work,
        budgets=AT_ONCE,
        scratch=directory / "scratch",
        spool=directory / "spool",
        on_event=lambda event: say(event.kind),
    ).run()
    say([summary.done, summary.unsent])


def check_piloted(directory: Path, said: list[Any], wanted: list[Any]) -> None:
    """Whatever was lost is run again; what is done has all that belongs to it, once."""
    pool = pool_of(directory)
    kept = Spool(directory / "spool", SERVER).waiting()
    sent, left = Spool(directory / "spool", SERVER).flush(pool)
    assert (sent, left) == (kept, 0)
    before = {token.id for token in pool.tokens("done")}
    pool.reset(pool.tokens("locked"))
    pool.close()
    said = []
    run_pilot(directory, said.append)
    assert said[-1] == [5 - len(before), 0], f"{said}, {before}"
    found = look_at_pool(directory)
    for token_id, (state, n, _, _, files, history, _) in found.items():
        assert state == "done", f"{token_id}: {found[token_id]}"
        assert {f"logs_{token_id}.out", "large"} <= set(files)
        assert history.count(7) == (n == 2), f"{token_id}: {history}"
    assert len(found) == 5


# --- Which there are ---


def snapshots(directory: Path) -> list[Any]:
    """How the pool looks before the first step and after each."""
    found = [{}]
    use_pool(directory, lambda _: found.append(look_at_pool(directory)))
    return found


def nothing(directory: Path) -> None:
    """Nothing has to be there."""


def no_snapshots(directory: Path) -> list[Any]:
    """Nothing to compare with."""
    return []


SCENARIOS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Say], None], Callable[..., None], Any]] = {
    "pool": (nothing, use_pool, check_pool, snapshots),
    "spool": (nothing, use_spool, check_spool, no_snapshots),
    "sending": (prepare_sending, send, check_sent, no_snapshots),
    "pilot": (prepare_pilot, run_pilot, check_piloted, no_snapshots),
}
"""By name: what is there before, what is done, what is to be true afterwards, what that is compared with."""


def main() -> None:
    """Run one scenario without any fault, for people."""
    directory = Path(sys.argv[2])
    directory.mkdir()
    prepare, act, check, compare = SCENARIOS[sys.argv[1]]
    (directory / "whole").mkdir()
    wanted = compare(directory / "whole")
    place = directory / "place"
    place.mkdir()
    prepare(place)
    said: list[Any] = []
    begun = time.monotonic()
    act(place, said.append)
    print(json.dumps(said), f"{time.monotonic() - begun:.3f} s")
    check(place, said, wanted)


if __name__ == "__main__":
    main()
