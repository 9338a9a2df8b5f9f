"""Answers that are cut off: what was written is read back, and neither lost nor done a second time."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.faults import Drop, LoseAnswer, Reset, Truncate, Twice
from tests.couchdb.fleet import Fleet
from tests.couchdb.servers import CouchServer, couchdb_home

from picas.errors import PoolUnavailable
from picas.finishing import Result, Verdict
from picas.payload import Payload
from picas.pool import Pool, open_pool
from picas.tokens import Failure, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.couchdb.conftest import Proxied
    from tests.couchdb.faults import Fault

    from picas.tokens import Token

STORED = [LoseAnswer(), LoseAnswer(reset=True), Truncate(0), Truncate(25), Twice()]
"""The server has done what it was asked for."""

LOST = [Reset(), Drop()]
"""It has not."""

SOME = [LoseAnswer(reset=True), Truncate(25), Drop()]

BULK = r"/_bulk_docs"


@pytest.fixture
def pool(proxied: Proxied) -> Iterator[Pool]:
    with open_pool(proxied.url, patience=0) as pool:
        yield pool


@pytest.fixture
def direct(proxied: Proxied) -> Iterator[Pool]:
    """The same pool, not by way of the proxy."""
    with open_pool(proxied.direct) as pool:
        yield pool


def _name(fault: Fault) -> str:
    return type(fault).__name__ + "".join(f"-{value}" for value in vars(fault).values())


every_fault = pytest.mark.parametrize("fault", [*STORED, *LOST], ids=_name)
some_faults = pytest.mark.parametrize("fault", SOME, ids=_name)


def until_it_works(call: Callable[[], Any]) -> Any:
    """As everybody does: try again."""
    for _ in range(10):
        try:
            return call()
        except PoolUnavailable:
            continue
    raise AssertionError("it never works")


def success() -> Outcome:
    now = time.time()
    return Outcome(0, now - 1, now)


def failure() -> Outcome:
    now = time.time()
    return Outcome(1, now - 1, now, Failure.APPLICATION)


def log(token: Token, size: int = 10) -> tuple[Payload, ...]:
    return (Payload(f"logs_{token.id}.out", "text/plain", (b"x" * size,)),)


@every_fault
def test_claims_are_recognised(pool: Pool, direct: Pool, proxied: Proxied, fault: Fault) -> None:
    direct.push(range_of(12))
    proxied.proxy.fault(fault, "POST", BULK)
    claimed: list[Token] = []
    while some := until_it_works(lambda: pool.claim_many(5)):
        claimed += some
    assert sorted(token.id for token in claimed) == sorted(f"token_{n}" for n in range(12))
    held = {token.id: token.claim_id for token in direct.tokens()}
    assert {token.id: token.claim_id for token in claimed} == held


def test_claims_are_recognised_when_the_server_is_back(pool: Pool, direct: Pool, proxied: Proxied) -> None:
    direct.push(range_of(3))
    proxied.proxy.fault(LoseAnswer(), "POST", BULK)
    proxied.proxy.fault(Drop(), "POST", "_bulk_get", count=None)
    with pytest.raises(PoolUnavailable):
        pool.claim_many(3)
    assert {token.state for token in direct.tokens()} == {State.LOCKED}
    proxied.proxy.clear()
    claimed = until_it_works(lambda: pool.claim_many(3))
    assert {token.id: token.claim_id for token in claimed} == {
        token.id: token.claim_id for token in direct.tokens()
    }


def test_a_claim_asked_for_alone_is_not_given_with_others(pool: Pool, direct: Pool, proxied: Proxied) -> None:
    direct.push(range_of(4))
    proxied.proxy.fault(LoseAnswer(), "POST", BULK)
    proxied.proxy.fault(Drop(), "POST", "_bulk_get", count=None)
    with pytest.raises(PoolUnavailable):
        pool.claim_many(4)
    proxied.proxy.clear()
    assert len({until_it_works(pool.claim).claim_id for _ in range(4)}) == 4
    assert until_it_works(pool.claim) is None


def test_what_was_claimed_in_doubt_and_never_asked_for_is_given_back(proxied: Proxied, direct: Pool) -> None:
    direct.push(range_of(4))
    with open_pool(proxied.url, patience=0) as pool:
        proxied.proxy.fault(LoseAnswer(), "POST", BULK)
        proxied.proxy.fault(Drop(), "POST", "_bulk_get", count=None)
        with pytest.raises(PoolUnavailable):
            pool.claim_many(4)
        proxied.proxy.clear()
    assert {(token.state, token.attempt) for token in direct.tokens()} == {(State.TODO, 0)}


@some_faults
@pytest.mark.parametrize("size", [10, 200_000], ids=["small log", "streamed log"])
def test_results_are_saved_once(pool: Pool, direct: Pool, proxied: Proxied, fault: Fault, size: int) -> None:
    direct.push(range_of(3))
    results = [Result(token, success(), log(token, size)) for token in pool.claim_many(3)]
    proxied.proxy.fault(fault, "PUT" if size > 100_000 else "POST", r"/token_1|/_bulk_docs")
    assert until_it_works(lambda: pool.finish_many(results)) == [Verdict.DONE] * 3
    for token in direct.tokens():
        assert (token.state, token.attempt, token.history) == (State.DONE, 1, [])
        assert sum(map(len, direct.read_attachment(token.id, f"logs_{token.id}.out"))) == size


@some_faults
def test_a_failed_attempt_is_charged_once(pool: Pool, direct: Pool, proxied: Proxied, fault: Fault) -> None:
    direct.push(range_of(2))
    results = [Result(token, failure(), log(token)) for token in pool.claim_many(2)]
    proxied.proxy.fault(fault, "POST", BULK)
    assert until_it_works(lambda: pool.finish_many(results, max_scrub=1)) == [Verdict.RETRY] * 2
    for token in direct.tokens():
        assert (token.state, token.scrub_count, len(token.history)) == (State.TODO, 1, 1)


def test_a_result_saved_and_claimed_again_meanwhile_is_not_superseded(
    pool: Pool, direct: Pool, proxied: Proxied
) -> None:
    direct.push(range_of(1))
    result = Result(pool.claim_many(1)[0], failure())
    proxied.proxy.fault(LoseAnswer(), "POST", BULK)
    with pytest.raises(PoolUnavailable):
        pool.finish_many([result], max_scrub=1)
    second = direct.claim()
    assert second is not None
    pool.finish_many([result], max_scrub=1)
    found = direct.get("token_0")
    assert found.claim_id == second.claim_id
    assert [entry.get("superseded") for entry in found.history] == [None]


@some_faults
def test_what_is_given_back_is_free_and_uncharged(
    pool: Pool, direct: Pool, proxied: Proxied, fault: Fault
) -> None:
    direct.push(range_of(3))
    claimed = pool.claim_many(3)
    proxied.proxy.fault(fault, "POST", BULK)
    until_it_works(lambda: pool.release(claimed))
    assert {(token.state, token.attempt) for token in direct.tokens()} == {(State.TODO, 0)}


@some_faults
def test_a_push_that_was_cut_is_completed_by_pushing_again(
    pool: Pool, direct: Pool, proxied: Proxied, fault: Fault
) -> None:
    for skip in range(3):  # the document with the numbers, and the tokens
        proxied.proxy.fault(fault, "POST", BULK, skip=skip)
        until_it_works(lambda: pool.push(range_of(8)))
        proxied.proxy.clear()
    found = [token.input for token in direct.tokens()]
    assert sorted(found) == sorted(range_of(8))


@some_faults
def test_numbers_are_never_given_twice(pool: Pool, direct: Pool, proxied: Proxied, fault: Fault) -> None:
    proxied.proxy.fault(fault, "POST", BULK)
    mine = until_it_works(lambda: pool.store.reserve_numbers("job", 10))
    theirs = direct.store.reserve_numbers("job", 10)
    assert abs(theirs - mine) >= 10


def test_pilots_on_a_bad_line_run_every_token_once(direct: Pool, proxied: Proxied, tmp_path: Path) -> None:
    direct.push(range_of(120))
    dice = random.Random(7)
    for fault in [*STORED, *LOST]:
        proxied.proxy.fault(fault, where=lambda _: dice.random() < 0.02, count=None)
    journal = tmp_path / "journal"
    with Fleet([proxied.url] * 3, journal) as fleet:
        fleet.wait(lambda: direct.counts()[State.DONE] == 120, 60)
        proxied.proxy.clear()
    assert sorted(journal.read_text().split()) == sorted(f"token_{n}" for n in range(120))


def range_of(count: int) -> list[str]:
    return [f"work {n}" for n in range(count)]


@pytest.mark.couchdb
@pytest.mark.skipif(couchdb_home() is None, reason="needs an Apache CouchDB, installed here")
def test_a_server_that_is_killed_and_started_again_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def ran() -> int:
        return len(journal.read_text().split()) if journal.exists() else 0

    with CouchServer() as server:
        assert server.ask("PUT", "/pool")[0] == 201
        url = server.url + "/pool"
        with open_pool(url) as pool, Fleet([url] * 3, journal, 0.005) as fleet:
            pool.push(range_of(200))
            for share in (40, 110):
                fleet.wait(lambda share=share: ran() >= share, 180)
                server.kill()
                server.start()
            fleet.wait(lambda: pool.counts()[State.DONE] == 200, 180)
            assert not any(token.history for token in pool.tokens())
    assert sorted(journal.read_text().split()) == sorted(f"token_{n}" for n in range(200))
