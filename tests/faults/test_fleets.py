"""Fleets whose pilots, server and network fail while they work: nothing is lost, nothing is accepted twice.

Each is there twice: a short form, and one that is marked slow, which `nox -s faults` runs and reports.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import urlsplit

import pytest
from tests.couchdb.faults import Answer, Delay, Drop, Fault, Hang, LoseAnswer, Reset, Truncate, Twice
from tests.couchdb.processes import ask
from tests.couchdb.servers import CouchServer, couchdb_home
from tests.faults.fleets import LEASE, Fleet, Report

if TYPE_CHECKING:
    from pathlib import Path

    from tests.couchdb.cluster import CouchCluster
    from tests.couchdb.conftest import Proxied


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        limit: seconds after which it counts as never ending: a server that has just been killed may leave a request
            without any answer, which is given up after two minutes.
        work: seconds that a token takes.
    """

    pilots: int
    tokens: int
    work: float
    lease: float
    limit: float
    long: bool

    def fleet(self, path: Path, urls: Any, **options: Any) -> Fleet:
        fleet = Fleet(path, urls, self.pilots, seconds=self.work, lease=self.lease, **options)
        fleet.push(self.tokens)
        return fleet


def sizes(short: Size, long: Size) -> pytest.MarkDecorator:
    cases = [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.slow)]
    return pytest.mark.parametrize("size", cases)


def short(pilots: int = 3, tokens: int = 60) -> Size:
    return Size(pilots, tokens, 0.1, 2.0, 600.0, long=False)


def long(pilots: int = 20, tokens: int = 5000, lease: float = LEASE) -> Size:
    return Size(pilots, tokens, 0.2, lease, 3000.0, long=True)


def finish(fleet: Fleet, size: Size, report: Report, what: str, pool: str) -> None:
    """Look what has become of it all."""
    found = fleet.look()
    if size.long:
        report.add(what, pool, size.pilots, found)
    found.check(size.tokens)


@pytest.fixture
def server() -> Any:
    """A server of the test's own, that it may kill."""
    if couchdb_home() is None:
        pytest.skip("only Apache CouchDB can do this, and there is none here")
    with CouchServer(name="mortal") as server:
        assert server.ask("PUT", "/fleet")[0] == 201
        yield server


@pytest.fixture
def real_pool_url(request: pytest.FixtureRequest, pool_kind: str, tmp_path: Path) -> str:
    """An empty pool of the kind that is asked for, on CouchDB only on a real one."""
    if pool_kind == "couchdb":
        request.getfixturevalue("real_couchdb")
        return str(request.getfixturevalue("database"))
    return f"sqlite:///{tmp_path}/pool.db"


# --- Pilots ---


@pytest.mark.any_pool
@sizes(short(), long())
def test_pilots_that_are_killed_each_second_lose_nothing(
    tmp_path: Path, real_pool_url: str, pool_kind: str, size: Size, report: Report
) -> None:
    fleet = size.fleet(tmp_path, real_pool_url)
    with fleet:
        fleet.wait(fleet.ran(2), size.limit)
        fleet.kill_one()
        fleet.wait_until_ended(size.limit, fleet.kill_one)
    assert fleet.killed
    finish(fleet, size, report, "one pilot is killed (-9) each second", pool_kind)


@pytest.mark.parametrize(
    ("pool_kind", "size"),
    [
        pytest.param("couchdb", short(tokens=40), id="couchdb-short"),
        pytest.param("couchdb", long(tokens=2000), id="couchdb-long", marks=pytest.mark.slow),
        pytest.param("sqlite", long(tokens=2000), id="sqlite-long", marks=pytest.mark.slow),
    ],
)
def test_pilots_that_stand_still_for_longer_than_their_lease_do_no_harm(
    tmp_path: Path, real_pool_url: str, pool_kind: str, size: Size, report: Report
) -> None:
    fleet = size.fleet(tmp_path, real_pool_url)
    count = max(1, size.pilots // 4)
    with fleet:
        for share in (0.2, 0.4, 0.6) if size.long else (0.2,):
            fleet.wait(fleet.ran(int(share * size.tokens)), size.limit)
            frozen = fleet.freeze(count)
            time.sleep(2 * size.lease)  # that is what is tested: nobody hears of them for so long
            for process in frozen:
                process.send_signal(signal.SIGCONT)
        fleet.wait_until_ended(size.limit)
    finish(
        fleet, size, report, f"{count} pilots are stopped (SIGSTOP) for two leases, three times", pool_kind
    )


# --- Server and network ---


@pytest.mark.couchdb
@sizes(short(), long(12, 4000))
def test_a_server_that_is_killed_and_comes_back_loses_nothing(
    tmp_path: Path, server: CouchServer, size: Size, report: Report
) -> None:
    times = 5 if size.long else 1
    fleet = size.fleet(tmp_path, server.url + "/fleet")
    with fleet:
        for n in range(times):
            fleet.wait(fleet.ran((n + 1) * size.tokens // (times + 2)), size.limit)
            server.kill()
            server.start()
        fleet.wait_until_ended(size.limit)
    finish(fleet, size, report, f"the server is killed (-9) and started again, {times} times", "couchdb")


@pytest.mark.couchdb
@pytest.mark.slow
def test_a_server_that_is_away_for_two_minutes_loses_nothing(
    tmp_path: Path, server: CouchServer, report: Report
) -> None:
    size = long(12, 2000)
    fleet = size.fleet(tmp_path, server.url + "/fleet")
    with fleet:
        fleet.wait(fleet.ran(size.tokens // 3), size.limit)
        server.stop()
        time.sleep(120.0)
        server.start()
        fleet.wait_until_ended(size.limit)
    finish(fleet, size, report, "the server is away for two minutes", "couchdb")


FAULTS: list[tuple[Fault, float]] = [
    (Drop(), 0.03),
    (Reset(), 0.03),
    (LoseAnswer(), 0.03),
    (LoseAnswer(reset=True), 0.03),
    (Truncate(20), 0.03),
    (Twice(), 0.03),
    (Delay(1.0), 0.03),
    (Delay(1.0, stored=True), 0.03),
    (Answer(503, {}, stored=True), 0.02),
    (Answer(429, {}, {"Retry-After": "1"}), 0.02),
]
"""What happens to requests, and to which share of them: to a quarter in all."""


def every_fifth(act: Callable[[], None]) -> Callable[[], None]:
    """Does it at each fifth call."""
    calls = itertools.count(1)
    return lambda: act() if next(calls) % 5 == 0 else None


@pytest.mark.couchdb
@sizes(short(), long(8, 2000, 2 * LEASE))  # signs of life get lost, too
def test_a_bad_network_loses_nothing(tmp_path: Path, proxied: Proxied, size: Size, report: Report) -> None:
    dice = random.Random(7)
    fleet = size.fleet(tmp_path, proxied.url, direct=proxied.direct)
    rules = [
        proxied.proxy.fault(fault, count=None, where=lambda _, share=share: dice.random() < share)
        for fault, share in FAULTS
    ]
    if size.long:
        rules.append(proxied.proxy.fault(Hang(), path="_bulk_docs", count=5, skip=50))
    with fleet:
        fleet.wait_until_ended(size.limit, every_fifth(fleet.kill_one) if size.long else None)
        proxied.proxy.clear()
        proxied.proxy.cut()
    assert sum(rule.hits for rule in rules) > 10
    what = "a quarter of all requests is dropped, reset, cut, delayed, refused or answered twice; a kill each 5 s"
    finish(fleet, size, report, what, "couchdb")


# --- A cluster ---


@pytest.mark.couchdb
@sizes(short(), long(9, 1500))
def test_a_cluster_that_parts_and_loses_a_node_loses_nothing(
    tmp_path: Path, cluster: CouchCluster, cluster_database: list[str], size: Size, report: Report
) -> None:
    fleet = size.fleet(tmp_path, cluster_database)
    kill = fleet.kill_one if size.long else None
    with fleet:
        fleet.wait(fleet.ran(size.tokens // 5), size.limit)
        cluster.isolate(2)
        fleet.wait(fleet.ran(2 * size.tokens // 5), size.limit, kill)
        cluster.heal()
        cluster.kill(1)
        fleet.wait(fleet.ran(3 * size.tokens // 5), size.limit, kill)
        cluster.heal()
        fleet.wait_until_ended(size.limit, kill)
    cluster.wait_replicated()
    mend(cluster_database[0])
    cluster.wait_replicated()
    what = "a node is cut off from the others, then another one is killed (-9); and a pilot each second"
    finish(fleet, size, report, what, "cluster of 3")
    assert [leaf for leaf in unseen(cluster_database[0]) if leaf.get("done")] == []


def mend(url: str) -> None:
    """Make one version of those that nodes have made without hearing of each other, as idle pilots do in their time."""
    parts = urlsplit(url)
    login = {"PICAS_USERNAME": parts.username or "", "PICAS_PASSWORD": parts.password or ""}
    pool = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    command = [sys.executable, "-m", "picas", "--json", "check", "--mend"]
    environment = {**os.environ, **login, "PICAS_POOL": pool}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def unseen(url: str) -> list[dict[str, Any]]:
    """Versions of tokens that no reader is shown, and that nobody has deleted."""
    status, answer = ask(url, "GET", "/_all_docs?include_docs=true&conflicts=true")
    assert status == 200
    wanted = [
        {"id": row["id"], "rev": rev} for row in answer["rows"] for rev in row["doc"].get("_conflicts", ())
    ]
    status, answer = ask(url, "POST", "/_bulk_get", {"docs": wanted})
    assert status == 200
    return [each["ok"] for result in answer["results"] for each in result["docs"]]
