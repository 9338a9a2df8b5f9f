"""Large pushes to one database take turns, so that no line is pushed twice and none waits for an index."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from tests.couchdb.faults import LoseAnswer
from tests.couchdb.processes import ask

from picas import intake
from picas.errors import PicasError
from picas.pool import open_pool
from picas.stores.couch import filling
from picas.stores.couch.filling import TURN

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.couchdb

BATCH = 200
MANY = 2 * BATCH + 10


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(intake, "BATCH", BATCH)


def lines(count: int) -> list[str]:
    return [f"echo {n}" for n in range(count)]


@pytest.fixture
def pool(database):
    with open_pool(database) as opened:
        yield opened


def test_a_large_push_adds_each_line_once_and_in_order(pool):
    result = pool.push(iter(lines(MANY)))
    assert (result.pushed, result.skipped) == (MANY, 0)
    assert [token.input for token in pool.tokens()] == lines(MANY)


def test_what_is_there_is_left_out_of_a_large_push(pool):
    pool.push(lines(BATCH + 7))
    pool.push(["of somebody else"])
    result = pool.push(lines(MANY))
    assert (result.pushed, result.skipped) == (MANY - BATCH - 7, BATCH + 7)
    assert sorted(token.input for token in pool.tokens()) == sorted([*lines(MANY), "of somebody else"])


def test_two_large_pushes_of_the_same_at_once_add_it_once(database):
    waits, results = [], []
    told, begun = threading.Event(), threading.Event()

    def wait_told(what: str) -> None:
        waits.append(what)
        told.set()

    def slowly() -> Iterator[str]:
        *first, last = lines(MANY)
        yield from first
        begun.set()
        assert told.wait(60)
        yield last

    def push(items: Iterator[str]) -> None:
        with open_pool(database) as opened:
            results.append(opened.push(items, on_wait=wait_told))

    threads = [
        threading.Thread(target=push, args=(items,)) for items in (slowly(), *map(iter, [lines(MANY)] * 2))
    ]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.pushed for result in results) == MANY
    with open_pool(database) as opened:
        assert sorted(token.input for token in opened.tokens()) == sorted(lines(MANY))
    assert waits


def test_a_turn_that_was_never_ended_is_waited_for_no_longer_than_it_lasts(database, pool, monkeypatch):
    monkeypatch.setattr(filling, "LEASE_SECONDS", 1.5)
    with open_pool(database) as dead:
        turn = dead.store.filling()
        turn.__enter__()
        # and then its process was killed
        begun = time.monotonic()
        assert pool.push(lines(MANY)).pushed == MANY
        assert time.monotonic() - begun > 0.4


def test_who_lost_the_turn_meanwhile_looks_up_every_line(database, pool, monkeypatch):
    monkeypatch.setattr(filling, "PROLONG_SECONDS", 0.0)

    def slowly():
        for n, line in enumerate(lines(3 * BATCH)):
            if n == 2 * BATCH:
                # As if this process had slept for so long that another had its turn.
                taken = 0
                while taken != 201:
                    document = ask(database, "GET", f"/{TURN}")[1]
                    another = {**document, "holder": "another", "until": 0}
                    taken = ask(database, "PUT", f"/{TURN}", another)[0]
                with open_pool(database) as other:
                    other.push(lines(3 * BATCH)[2 * BATCH :][:100])
            yield line

    pool.push(slowly())
    inputs = [token.input for token in pool.tokens()]
    assert len(inputs) == len(set(inputs)) == 3 * BATCH


@pytest.mark.parametrize("which", [0, 1, 2, 3, 4])
def test_whichever_answer_is_lost(proxied, which):
    proxied.proxy.fault(LoseAnswer(), method="POST", path="/_bulk_docs", skip=which)
    with open_pool(proxied.url) as opened:
        with suppress(PicasError):
            opened.push(iter(lines(MANY)))
        opened.push(lines(MANY))
        assert sorted(token.input for token in opened.tokens()) == sorted(lines(MANY))
