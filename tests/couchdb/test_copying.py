"""Copies between embedded pools and CouchDB, each way: whole, never over what is there, resumed after a cut."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, Callable

import pytest
from tests.couchdb.faults import Drop
from tests.couchdb.processes import ask

from picas.errors import InvalidInput, PoolError, PoolRefused
from picas.moving.copying import BATCH, Left
from picas.payload import CHUNK_BYTES, Payload
from picas.pool import Pool, open_pool
from picas.selection import Selection
from picas.stores.base import Change
from picas.tokens import Failure, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.couchdb.conftest import Proxied

    New = Callable[[str], Pool]

BIG = random.Random(5).randbytes(3 * CHUNK_BYTES + 5)


@pytest.fixture
def new(new_database: Callable[[], str], tmp_path: Path) -> Iterator[New]:
    """Makes an empty pool of a kind."""
    pools: list[Pool] = []

    def make(kind: str) -> Pool:
        url = f"sqlite:///{tmp_path}/{len(pools)}.db" if kind == "sqlite" else new_database()
        pools.append(open_pool(url))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture(params=["sqlite-sqlite", "sqlite-couchdb", "couchdb-sqlite", "couchdb-couchdb"])
def pair(request: pytest.FixtureRequest, new: New) -> tuple[Pool, Pool]:
    source, target = request.param.split("-")
    return new(source), new(target)


def run(pool: Pool, exit_code: int = 0, *, max_scrub: int = 0, **files: bytes) -> Token:
    """One token, claimed and finished with a log and these files."""
    token = pool.claim(order="oldest")
    assert token is not None
    failure = Failure.APPLICATION if exit_code else None
    outcome = Outcome(exit_code, 1.0, 2.0, failure, f"exit {exit_code}", output={"n": exit_code})
    log = Payload(f"logs_{token.id}.out", "text/plain", (b"out of " + token.id.encode(),))
    kept = tuple(Payload(name, "image/png", (data,) if data else ()) for name, data in files.items())
    pool.finish(token, outcome, logs=(log,), files=kept, max_scrub=max_scrub)
    return token


def content(pool: Pool) -> dict[str, Any]:
    """All that a pool holds."""
    return {
        token.id: (
            token.body,
            {
                info.name: (info.content_type, b"".join(pool.read_attachment(token.id, info.name)))
                for info in token.attachments.values()
            },
        )
        for token in pool.tokens()
    }


def test_everything_goes_and_the_same_again_finds_it_there(pair: tuple[Pool, Pool]) -> None:
    source, target = pair
    source.push([{"input": f"work {n}", "größe": [1.5, {"x": None}]} for n in range(5)])
    run(source, big=BIG, empty=b"")
    run(source, 3, max_scrub=1)
    run(source, 4, max_scrub=0)
    source.store.insert([Token("odd/id ?", {"type": "token", "lock": "?", "done": 0})])
    found = source.copy_to(target, verify=True)
    assert (found.copied, found.there, found.left) == (6, 0, {})
    assert (found.files, found.size) == (5, len(BIG) + 3 * len(b"out of token_0"))
    assert content(target) == content(source)
    assert target.counts() == source.counts()
    again = source.copy_to(target, verify=True)
    assert (again.copied, again.there, again.left) == (0, 6, {})


def test_pushing_goes_on_in_the_copy(pair: tuple[Pool, Pool]) -> None:
    source, target = pair
    lines = [f"work {n}" for n in range(12)]
    source.push(lines)
    source.copy_to(target)
    pushed = target.push([*lines, "something new"])
    assert (pushed.pushed, pushed.skipped, pushed.first) == (1, 12, "token_12")


def test_pilots_work_on_a_copy_as_on_the_first(pair: tuple[Pool, Pool]) -> None:
    source, target = pair
    source.push(["a", "b"])
    run(source, 1, max_scrub=1)
    source.copy_to(target)
    run(target)
    token = run(target)
    assert token.attempt == (2 if token.id == "token_0" else 1)
    first = target.get("token_0")
    assert sorted(first.attachments) == ["logs_token_0.attempt-1.out", "logs_token_0.out"]
    assert target.counts()[State.DONE] == 2


def test_what_is_there_is_never_changed(pair: tuple[Pool, Pool]) -> None:
    source, target = pair
    source.push(["a", "b", "c", "d"])
    source.copy_to(target)
    run(target)  # token_0 moves on there
    run(source, 7)  # and here
    run(source)  # token_1 only here
    assert target.store.delete([target.get("token_3")]) == [True]
    before = content(target)
    found = source.copy_to(target)
    assert (found.copied, found.there, found.left) == (1, 1, {Left.DIFFERS: 2})
    assert found.examples == {Left.DIFFERS: ["token_0", "token_1"]}
    after = content(target)
    assert after.pop("token_3") == content(source)["token_3"]
    assert after == before


def test_what_was_pushed_there_too_is_not_there_twice(pair: tuple[Pool, Pool]) -> None:
    source, target = pair
    source.push(["a", "b"])
    target.push(["b"], prefix="other_")
    found = source.copy_to(target)
    assert (found.copied, found.left, found.examples) == (1, {Left.PUSHED: 1}, {Left.PUSHED: ["token_1"]})
    assert sorted(content(target)) == ["other_0", "token_0"]


def test_a_part_can_be_chosen(pair: tuple[Pool, Pool]) -> None:
    source, target = pair
    source.push([{"input": n, "cores": n % 2 + 1} for n in range(6)])
    run(source)
    run(source, 1)
    assert source.copy_to(target, ["done", "error"]).copied == 2
    assert source.copy_to(target, where=Selection.parse("cores == 2")).copied == 2
    assert sorted(content(target)) == ["token_0", "token_1", "token_3", "token_5"]


def test_locked_tokens_stop_it_unless_it_is_said_what_to_do(new: New) -> None:
    source = new("sqlite")
    source.push(["a", "b"])
    claimed = source.claim(order="oldest")
    assert claimed is not None
    with pytest.raises(PoolRefused, match="locked, such as token_0"):
        source.copy_to(target := new("sqlite"))
    assert content(target) == {}
    assert source.copy_to(target, "todo").copied == 1
    with pytest.raises(InvalidInput, match="refuse, free, as-is"):
        source.copy_to(target, locked="maybe")
    kept, freed = new("couchdb"), new("couchdb")
    source.copy_to(kept, locked="as-is")
    assert content(kept) == content(source)
    for copied, there in ((2, 0), (0, 2)):
        found = source.copy_to(freed, locked="free")
        assert (found.copied, found.there, found.left) == (copied, there, {})
    token = freed.get("token_0")
    assert token.state is State.TODO
    assert token.history[-1]["claim"] == claimed.claim_id
    assert freed.claim(order="oldest").attempt == 2  # type: ignore[union-attr]


def test_a_pool_is_not_copied_to_itself(new_database: Callable[[], str]) -> None:
    url = new_database()
    with pytest.raises(InvalidInput, match="to itself"):
        open_pool(url).copy_to(open_pool(url))


def test_documents_that_are_no_tokens_are_told(new: New, new_database: Callable[[], str]) -> None:
    url = new_database()
    source, target = open_pool(url), new("sqlite")
    source.push(["a"])
    for name in ("notes", "_design/mine"):
        assert ask(url, "PUT", f"/{name}", {"text": "hello"})[0] == 201
    found = source.copy_to(target)
    assert (found.copied, found.other_documents) == (1, 1)
    assert list(content(target)) == ["token_0"]


def test_a_copy_that_is_cut_goes_on_where_it_was(new: New, proxied: Proxied) -> None:
    source = new("sqlite")
    source.push([f"work {n}" for n in range(3 * BATCH)])
    target = open_pool(proxied.url)
    # and again should it be tried again
    cut = proxied.proxy.fault(Drop(), where=lambda request: b"work 2" in request.body, skip=1, count=None)
    with pytest.raises(PoolError):
        source.copy_to(target)
    assert cut.hits
    proxied.proxy.clear()
    found = source.copy_to(target)
    assert (found.copied, found.there, found.left) == (2 * BATCH, BATCH, {})
    assert content(target) == content(source)


@pytest.mark.parametrize("kind", ["sqlite", "couchdb"])
def test_no_token_is_ever_seen_without_its_files(new: New, kind: str) -> None:
    source, target = new("sqlite"), new(kind)
    source.push([str(n) for n in range(20)])
    for _ in range(20):
        run(source, big=BIG[: CHUNK_BYTES + 1])
    over = threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not over.is_set():
            seen.extend(len(token.attachments) for token in target.tokens())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        source.copy_to(target)
    finally:
        over.set()
        watcher.join(30)
    assert set(seen) == {2}


def test_what_changes_while_it_is_copied_is_left_for_the_next_time(
    new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = new("sqlite"), new("couchdb")
    source.push(["a", "b"])
    run(source)
    run(source, big=BIG)
    whole = source.store.read_attachment

    def meddling(token_id: str, name: str) -> Iterator[bytes]:
        monkeypatch.undo()
        replace(source, "token_0", f"logs_{token_id}.out", b"something else")
        return whole(token_id, name)

    monkeypatch.setattr(source.store, "read_attachment", meddling)
    found = source.copy_to(target)
    assert (found.copied, found.left) == (1, {Left.CHANGED: 1})
    assert list(content(target)) == ["token_1"]
    assert source.copy_to(target).copied == 1
    assert content(target) == content(source)


@pytest.mark.parametrize("size", [10, len(BIG)])
def test_a_file_that_is_not_as_the_source_says_is_not_written(
    new: New, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    source, target = new("sqlite"), new("couchdb")
    source.push(["a"])
    run(source, file=BIG[:size])
    whole = source.store.read_attachment

    def garbled(token_id: str, name: str) -> Iterator[bytes]:
        return (bytes(len(piece)) for piece in whole(token_id, name))

    monkeypatch.setattr(source.store, "read_attachment", garbled)
    found = source.copy_to(target)
    assert (found.copied, found.left) == (0, {Left.CHANGED: 1})
    assert content(target) == {}


def test_other_bytes_of_equal_length_are_found_when_they_are_looked_for(new: New) -> None:
    source, target = new("sqlite"), new("couchdb")
    source.push(["a"])
    run(source)
    source.copy_to(target)
    replace(target, "token_0", "logs_token_0.out", b"OUT of token_0")
    assert source.copy_to(target).there == 1
    found = source.copy_to(target, verify=True)
    assert (found.there, found.left) == (0, {Left.DAMAGED: 1})


def test_what_the_target_does_not_take_is_told_and_the_rest_goes(new: New) -> None:
    source, target = new("couchdb"), new("sqlite")
    deep: Any = 1
    for _ in range(600):  # more than an embedded pool takes
        deep = [deep]
    source.store.insert(
        [
            Token(name, {"type": "token", "lock": 0, "done": 0, "x": deep if name == "b" else 1})
            for name in "abc"
        ]
    )
    found = source.copy_to(target)
    assert (found.copied, found.left) == (2, {Left.REFUSED: 1})
    assert "token b" in found.refusals[0]
    assert sorted(content(target)) == ["a", "c"]


@pytest.mark.couchdb
def test_what_the_rules_of_the_target_forbid_is_told_and_the_rest_goes(
    new: New, new_database: Callable[[], str]
) -> None:
    rule = "function (doc) { if (doc.input === 'work 3' || doc.input === 'work 5') throw {forbidden: 'no odd ones'}; }"
    url = new_database()
    assert ask(url, "PUT", "/_design/rules", {"validate_doc_update": rule})[0] == 201
    source, target = new("sqlite"), open_pool(url)
    source.push([f"work {n}" for n in range(7)])
    run(source)
    found = source.copy_to(target)
    assert (found.copied, found.left) == (5, {Left.REFUSED: 2})
    assert found.examples == {Left.REFUSED: ["token_3", "token_5"]}
    assert "no odd ones" in found.refusals[0]
    assert sorted(content(target)) == ["token_0", "token_1", "token_2", "token_4", "token_6"]
    assert source.copy_to(target).there == 5


def replace(pool: Pool, token_id: str, name: str, data: bytes) -> None:
    """Other bytes under the name of a token's file."""
    payload = Payload(name, "text/plain", (data,))
    assert pool.store.replace([Change(pool.get(token_id), (payload,))]) != [None]
