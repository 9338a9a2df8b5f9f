"""Pilots on a cluster of three nodes: no token is run twice, none is lost, whatever becomes of the nodes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.couchdb.fleet import Fleet
from tests.couchdb.processes import ask

from picas.errors import PoolUnavailable
from picas.finishing import Verdict
from picas.payload import Payload
from picas.pool import open_pool
from picas.tokens import Failure, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.couchdb.cluster import CouchCluster

    from picas.pool import Pool
    from picas.tokens import Token

TOKENS = int(os.environ.get("PICAS_CLUSTER_TOKENS", "60"))
"""`nox -s cluster` takes more of them."""

FOUGHT_OVER = TOKENS // 2

SECONDS = 300 + TOKENS / 2
"""How long a fleet may take. A view that is read while nodes part may be silent for two minutes."""


def push(url: str, count: int = TOKENS) -> Pool:
    pool = open_pool(url)
    pool.push([f"work {n}" for n in range(count)])
    return pool


def one_of_each(cluster: CouchCluster, pool: Pool, journal: Path, count: int = TOKENS) -> None:
    """Every token has run once, is done, and has its log, when all nodes know all."""
    cluster.heal()
    cluster.wait_replicated()
    ran = Counter(journal.read_text().split())
    assert [token_id for token_id, times in ran.items() if times > 1] == []
    assert len(ran) == count
    for token in pool.store.fetch([f"token_{n}" for n in range(count)]):
        assert token is not None
        assert token.state is State.DONE
        assert f"logs_{token.id}.out" in token.attachments


def all_done(pool: Pool) -> Callable[[], bool]:
    def done() -> bool:
        try:
            return pool.counts()[State.DONE] == TOKENS
        except PoolUnavailable:
            return False

    return done


def ran_some(journal: Path, share: float) -> Callable[[], bool]:
    return lambda: journal.exists() and len(journal.read_text().split()) >= share * TOKENS


def pilots_on(urls: list[str]) -> list[str]:
    return [urls[i % len(urls)] for i in range(8)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_eight_pilots_on_three_nodes_run_every_token_once(
    cluster: CouchCluster, cluster_database: list[str], journal: Path
) -> None:
    pool = push(cluster_database[0])
    with Fleet(pilots_on(cluster_database), journal, order="oldest") as fleet:
        fleet.wait(all_done(pool), SECONDS)
    one_of_each(cluster, pool, journal)


@pytest.mark.slow
def test_a_node_that_is_killed_and_comes_back_costs_nothing(
    cluster: CouchCluster, cluster_database: list[str], journal: Path
) -> None:
    pool = push(cluster_database[0])
    with Fleet(pilots_on(cluster_database), journal, 0.02, order="oldest") as fleet:
        fleet.wait(ran_some(journal, 0.2), SECONDS)
        cluster.kill(1)
        fleet.wait(ran_some(journal, 0.6), SECONDS)
        cluster.start(1)
        fleet.wait(all_done(pool), SECONDS)
    one_of_each(cluster, pool, journal)


@pytest.mark.slow
def test_a_node_cut_off_from_the_others_gives_out_nothing_and_keeps_results(
    cluster: CouchCluster, cluster_database: list[str], journal: Path
) -> None:
    pool = push(cluster_database[0])
    with Fleet(pilots_on(cluster_database), journal, 0.02, order="oldest") as fleet:
        fleet.wait(ran_some(journal, 0.2), SECONDS)
        cluster.isolate(2)
        fleet.wait(ran_some(journal, 0.6), SECONDS)
        cluster.heal()
        fleet.wait(all_done(pool), SECONDS)
    one_of_each(cluster, pool, journal)


def claim_all_at_once(pools: list[Pool], limit: int) -> list[Token]:
    """What all of them got, claiming at the same moment until there is nothing more."""
    start = threading.Barrier(len(pools))
    got: list[Token] = []

    def claim(pool: Pool) -> None:
        start.wait()
        while some := pool.claim_many(limit, order="oldest"):
            got.extend(some)

    threads = [threading.Thread(target=claim, args=(pool,)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_claims_on_all_nodes_at_once_have_one_winner_each(
    cluster: CouchCluster, cluster_database: list[str]
) -> None:
    pool = push(cluster_database[0], FOUGHT_OVER)
    got = claim_all_at_once([open_pool(url) for url in pilots_on(cluster_database)], 10)
    cluster.wait_replicated()
    with open_pool(cluster_database[1]) as late:  # of some nobody was sure
        while some := late.claim_many(10):
            got += some
    assert Counter(token.id for token in got) == {f"token_{n}": 1 for n in range(FOUGHT_OVER)}
    for token in got:
        assert pool.finish(token, Outcome(0, 1.0, 2.0)) is Verdict.DONE


def when_it_is_well(claim: Callable[[], list[Token]]) -> list[Token]:
    """What is claimed by who tries again; nodes that part may take a while to know it."""
    for _ in range(600):
        with contextlib.suppress(PoolUnavailable):
            return claim()
        time.sleep(0.1)
    return claim()


def test_without_a_quorum_a_few_claims_wait_and_hold_when_the_nodes_are_back(
    cluster: CouchCluster, cluster_database: list[str]
) -> None:
    pool = push(cluster_database[0], 30)
    cluster.isolate(0)
    for _ in range(3):
        with pytest.raises(PoolUnavailable, match="too few nodes"):
            pool.claim_many(5)
    assert pool.counts()[State.LOCKED] == 5
    cluster.heal()
    cluster.wait_replicated()
    assert len(when_it_is_well(lambda: pool.claim_many(5))) == 5
    assert pool.counts()[State.LOCKED] == 5


@pytest.mark.slow
def test_claims_without_a_quorum_are_given_up_at_the_end_and_freed_by_others(
    cluster: CouchCluster, cluster_database: list[str]
) -> None:
    with push(cluster_database[0], 6) as pool:
        cluster.isolate(0)
        with pytest.raises(PoolUnavailable):
            pool.claim_many(4)
    cluster.heal()
    cluster.wait_replicated()
    with open_pool(cluster_database[1]) as others:
        got: list[Token] = []
        while some := others.claim_many(10):
            got += some
        assert len({token.id for token in got}) == len(got) == 6
        assert {token.attempt for token in got} == {1}


def test_claims_that_others_were_faster_with_are_given_up_and_leave_no_trace(
    cluster: CouchCluster, cluster_database: list[str]
) -> None:
    alone = push(cluster_database[0], 4)
    majority = open_pool(cluster_database[1])
    cluster.isolate(0)
    with pytest.raises(PoolUnavailable, match="too few nodes"):
        alone.claim_many(4)
    theirs = when_it_is_well(lambda: majority.claim_many(3))
    assert len(theirs) == 3
    cluster.heal()
    cluster.wait_replicated()
    mine = when_it_is_well(lambda: alone.claim_many(4))
    assert {token.id for token in mine} == {f"token_{n}" for n in range(4)} - {token.id for token in theirs}
    for token in [*theirs, *mine]:
        assert alone.finish(token, Outcome(0, 1.0, 2.0)) is Verdict.DONE
    cluster.wait_replicated()
    with open_pool(cluster_database[1]) as idle:
        assert when_it_is_well(lambda: idle.claim_many(1)) == []  # so it mends
    cluster.wait_replicated()
    found = ask(cluster_database[2], "POST", "/_bulk_get", {"docs": [{"id": token.id} for token in theirs]})
    for result in found[1]["results"]:
        left = [each["ok"] for each in result["docs"] if not each["ok"].get("_deleted")]
        assert [doc["exit_code"] for doc in left] == [0]


def test_a_result_is_saved_without_a_quorum_too(cluster: CouchCluster, cluster_database: list[str]) -> None:
    pool = push(cluster_database[0], 3)
    cluster.wait_replicated()  # a view is answered by one node, which may not have heard yet
    done, failed, unused = pool.claim_many(3)
    cluster.isolate(0)
    log = Payload(f"logs_{done.id}.out", "text/plain", (b"text",))
    assert pool.finish(done, Outcome(0, 1.0, 2.0), logs=[log]) is Verdict.DONE
    assert pool.finish(failed, Outcome(1, 1.0, 2.0, Failure.APPLICATION), max_scrub=1) is Verdict.RETRY
    assert pool.release([unused]) == 1
    cluster.heal()
    cluster.wait_replicated()
    with open_pool(cluster_database[1]) as other:
        assert [token.state for token in other.tokens()] == [State.DONE, State.TODO, State.TODO]
        assert b"".join(other.read_attachment(done.id, log.name)) == b"text"
