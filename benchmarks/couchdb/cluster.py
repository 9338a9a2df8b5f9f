"""Pilots on a cluster of three nodes that fight over every token, while nodes die and part: what is doubled or lost."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.couchdb.cluster import CouchCluster
from tests.couchdb.fleet import Fleet
from tests.couchdb.servers import couchdb_home

import picas
from benchmarks._harness import BenchmarkError, Report, Verdict, say, scratch
from picas.errors import PoolUnavailable
from picas.stores.couch import conflicts
from picas.stores.couch.http import Server, split_url
from picas.tokens import State

from ._server import Database, version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.couchdb.cluster import _Node

PILOTS = 8
TOKENS = 2_000
WORK_SECONDS = 0.02
LIMIT_SECONDS = 900.0

_NOTE = (
    "Three nodes with three copies of each document, on one machine; the pilots are processes, shared out among the "
    "nodes. All claim the oldest token first, so all want the same ones; the work of a token is a pause of "
    f"{WORK_SECONDS * 1000:.0f} ms and a line in a journal. *Unconfirmed* are writes that one node alone had taken when "
    "it answered (202), as the nodes themselves count them: claims that met others, and in a node that was cut off "
    "results too. *Doubled* is a token that the journal has twice, *lost* one that is not done or has no log, *in "
    "conflict* one that still has several versions when all are done."
)


@dataclass(frozen=True)
class Run:
    """How it went."""

    seconds: float
    doubled: int
    lost: int
    unconfirmed: int
    in_conflict: int


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    if couchdb_home() is None:
        raise BenchmarkError("a cluster needs an Apache CouchDB, installed here")
    tokens = 200 if quick else TOKENS

    def killed(cluster: CouchCluster, wait: Callable[[float], None]) -> None:
        wait(0.2)
        cluster.kill(1)
        wait(0.6)
        cluster.start(1)

    def cut_off(cluster: CouchCluster, wait: Callable[[float], None]) -> None:
        wait(0.2)
        cluster.isolate(2)
        wait(0.6)
        cluster.heal()

    cases: dict[str, Callable[[CouchCluster, Callable[[float], None]], None]] = {
        "all nodes well": lambda _cluster, _wait: None,
        "a node killed at a fifth, back at three fifths": killed,
        "a node cut off at a fifth, back at three fifths": cut_off,
    }
    with CouchCluster() as cluster:
        report = Report("couchdb-cluster", f"{PILOTS} pilots on a cluster of three CouchDB nodes")
        report.versions["CouchDB"] = version(cluster.nodes[0])
        runs = {name: _run(cluster, tokens, trouble) for name, trouble in cases.items()}
    report.notes = [_NOTE]
    report.table(
        [f"{tokens:,} tokens", "tokens/s", "unconfirmed", "doubled", "lost", "in conflict"],
        [
            [
                name,
                f"{tokens / each.seconds:,.0f}",
                *(f"{n:,}" for n in (each.unconfirmed, each.doubled, each.lost, each.in_conflict)),
            ]
            for name, each in runs.items()
        ],
    )
    report.verdicts = [
        Verdict(f"{what}, {name}", getattr(each, what), 0, at_least=False)
        for name, each in runs.items()
        for what in ("doubled", "lost")
    ]
    return report


def _run(
    cluster: CouchCluster, tokens: int, trouble: Callable[[CouchCluster, Callable[[float], None]], None]
) -> Run:
    cluster.heal()
    with Database(cluster.nodes[0]) as database, scratch() as folder:
        urls = [f"{url}/{database.name}" for url in cluster.urls]
        pool = picas.open_pool(urls[0])
        pool.push(["x"] * tokens)
        journal = folder / "journal"
        before = _unconfirmed(cluster)
        started = time.monotonic()
        with Fleet(
            [urls[i % len(urls)] for i in range(PILOTS)], journal, WORK_SECONDS, order="oldest"
        ) as fleet:
            trouble(cluster, lambda share: fleet.wait(lambda: _ran(journal) >= share * tokens, LIMIT_SECONDS))
            fleet.wait(lambda: _done(pool) == tokens, LIMIT_SECONDS)
            seconds = time.monotonic() - started
        cluster.heal()
        cluster.wait_replicated()
        ran = Counter(journal.read_text().split())
        found = pool.store.fetch([f"token_{n}" for n in range(tokens)])
        whole = sum(token is not None and f"logs_{token.id}.out" in token.attachments for token in found)
        result = Run(
            seconds,
            sum(times > 1 for times in ran.values()),
            tokens - min(whole, len(ran), _done(pool)),
            _unconfirmed(cluster) - before,
            _in_conflict(urls[0]),
        )
        pool.close()
    say(f"  {result}")
    return result


def _ran(journal: Path) -> int:
    return len(journal.read_text().split()) if journal.exists() else 0


def _done(pool: picas.Pool) -> int:
    try:
        return pool.counts()[State.DONE]
    except PoolUnavailable:
        return 0


def _in_conflict(url: str) -> int:
    server, name, login = split_url(url)
    return conflicts.count(Server(server, login), name)


def _unconfirmed(cluster: CouchCluster) -> int:
    """How many writes the nodes answered with 202; a node that was started anew has forgotten its own."""
    return sum(_of(node) for node in cluster.nodes)


def _of(node: _Node) -> int:
    answer = node.ask("GET", "/_node/_local/_stats/fabric/doc_update/write_quorum_errors")[1]
    return int(answer["value"])
