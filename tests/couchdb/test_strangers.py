"""A pilot of picasclient 1.x that locks over our lock in the moment after our claim, as it does without looking."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.couchdb import classic
from tests.couchdb.processes import ask, wait_until

import picas
from picas.stores import design
from picas.stores.couch import strangers

if TYPE_CHECKING:
    from collections.abc import Callable

    from picas.pool import Pool
    from picas.tokens import Token

WEEK = 7 * 86_400


@pytest.fixture
def pool(database: str, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Two tokens to claim."""
    parts = urlsplit(database)
    monkeypatch.setenv("PICAS_USERNAME", parts.username or "")
    monkeypatch.setenv("PICAS_PASSWORD", parts.password or "")
    pool = picas.open_pool(database)
    pool.push([{"_id": "token_1"}, {"_id": "token_2"}])
    return pool


def put(database: str, document: dict[str, Any]) -> None:
    status, answer = ask(database, "PUT", f"/{document['_id']}", document)
    assert status in {201, 202}, answer


def claim_while(pool: Pool, meanwhile: Callable[[], None]) -> list[Token]:
    """What a claim of both tokens gets, with something happening once they are locked."""
    got: list[Token] = []
    thread = threading.Thread(target=lambda: got.extend(pool.claim_many(2)))
    thread.start()
    wait_until(lambda: pool.get("token_1").state is picas.State.LOCKED, 10, lambda: "no claim")
    meanwhile()
    thread.join()
    return got


def steal(database: str) -> None:
    """Lock token_1 as 1.x does."""
    document = ask(database, "GET", "/token_1")[1]
    put(database, {**document, "lock": int(time.time()), "hostname": "elsewhere"})


def test_where_1x_has_made_the_views_only_a_claim_that_lasts_counts(database: str, pool: Pool) -> None:
    put(database, {"_id": "_design/Monitor", **classic.monitor()})

    got = claim_while(pool, lambda: steal(database))

    assert [token.id for token in got] == ["token_2"]


def test_where_another_program_has_locked_a_token_lately_only_a_claim_that_lasts_counts(
    database: str, pool: Pool
) -> None:
    put(database, classic.token(9, lock=int(time.time()) - WEEK // 2))
    pool.counts()  # the index knows it

    got = claim_while(pool, lambda: steal(database))

    assert [token.id for token in got] == ["token_2"]


def test_a_claim_of_which_nothing_lasted_is_followed_by_another(database: str, pool: Pool) -> None:
    put(database, {"_id": "_design/Monitor", **classic.monitor()})
    pool.delete([pool.get("token_2")])

    def steal_and_push() -> None:
        steal(database)
        pool.push([{"_id": "token_3"}])

    got = claim_while(pool, steal_and_push)

    assert [token.id for token in got] == ["token_3"]


@pytest.mark.parametrize("lock", [None, WEEK + 1000])
def test_where_no_other_program_is_about_a_claim_is_not_held_up(
    database: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, lock: int | None
) -> None:
    monkeypatch.setattr(strangers, "OUTLAST_SECONDS", 3600.0)
    put(database, {"_id": "_design/Monitor", **design.classic()})
    if lock is not None:
        put(database, classic.token(9, lock=int(time.time()) - lock))
    pool.counts()

    assert len(pool.claim_many(2)) == 2


def test_claims_of_ours_are_not_taken_for_those_of_another_program(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "OUTLAST_SECONDS", 3600.0)
    monkeypatch.setattr(strangers, "LOOK_SECONDS", 0.0)

    assert pool.claim() is not None
    pool.counts()
    assert pool.claim() is not None
