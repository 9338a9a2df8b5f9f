"""Pilots that wait for work in a CouchDB database: soon told, few of them listening, none of them busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.faults import Answer, Drop, Hang, error_page
from tests.couchdb.processes import ask

from picas import open_pool
from picas.errors import PicasError
from picas.pilot.loop import Pilot
from picas.stores.couch import board, feed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.couchdb.conftest import Proxied

    from picas.pool import Pool
    from picas.stores.base import Watch

SOON = 60.0
"""Seconds within which who listens has begun; on an idle machine it takes a tenth of a second (see the benchmark)."""

LATER = 60.0
"""Seconds within which who polls has news; on an idle machine it takes a second or two."""


class Idler:
    """A watch that waits on a thread of its own.

    Attributes:
        news: when it had news, by the monotonic clock.
    """

    def __init__(self, pool: Pool) -> None:
        self.watch: Watch = pool.store.watch()
        self.news = threading.Event()
        self.error: PicasError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.watch.begin()
        while not self._ended.is_set():
            try:
                if self.watch.wait(self._ended):
                    self.news.set()
                    return
            except PicasError as error:
                self.error = error
                return

    def leave(self) -> None:
        self._ended.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.watch.close()


@contextmanager
def idle(*pools: Pool) -> Iterator[list[Idler]]:
    """As many idlers, that wait."""
    idlers = [Idler(pool) for pool in pools]
    try:
        time.sleep(0.5)
        assert not any(idler.news.is_set() for idler in idlers)
        yield idlers
    finally:
        for idler in idlers:
            idler.leave()


@pytest.fixture
def pool(database: str) -> Pool:
    """A pool whose index is built."""
    found = open_pool(database, patience=0)
    found.push(["true"])
    found.delete(found.tokens())
    assert found.claim() is None
    return found


def wait_for_seats(database: str, count: int) -> None:
    """Those who sit down at the same moment may take each other's seat, and notice soon."""
    until = time.monotonic() + 60
    while len(seats(database)) != count:
        assert time.monotonic() < until
        time.sleep(0.05)


def seats(database: str) -> dict[str, float]:
    answer: Any = ask(database, "GET", "/" + board.DOCUMENT)[1]
    return dict(answer.get("seats", {}))


# --- How soon ---


def test_three_waiting_pilots_begin_what_is_pushed(
    pool: Pool, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LOOK_SECONDS", (60.0, 60.0))  # those who listen are told of it
    begun: list[float] = []

    def note(event: Any) -> None:
        if event.kind == "started":
            begun.append(time.monotonic())

    pilots = [
        Pilot(open_pool(database), ["sleep", "1"], wait=True, spool=tmp_path / str(n), on_event=note)
        for n in range(3)
    ]
    threads = [threading.Thread(target=pilot.run) for pilot in pilots]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1.0)
        pool.push(["a", "b", "c"])
        pushed = time.monotonic()
        while len(begun) < 3 and time.monotonic() < pushed + 60:
            time.sleep(0.01)
        assert len(begun) == 3
    finally:
        for pilot in pilots:
            pilot.stop()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_who_does_not_listen_is_told_by_those_who_do(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "SEATS", 1)
    pools = [open_pool(database) for _ in range(4)]
    with idle(*pools) as idlers:
        wait_for_seats(database, 1)
        pool.push(["a", "b"])
        until = time.monotonic() + SOON
        while not any(idler.news.is_set() for idler in idlers) and time.monotonic() < until:
            time.sleep(0.01)
        (listener,) = [idler for idler in idlers if idler.news.is_set()]
        assert pool.claim() is not None
        listener.leave()  # it has found what it wanted, and there is more
        for idler in idlers:
            assert idler.news.wait(LATER)


# --- At what cost ---


def test_an_idle_pilot_asks_little(pool: Pool, proxied: Proxied) -> None:
    with idle(open_pool(proxied.url)):
        proxied.proxy.forget()
        time.sleep(2)
        assert proxied.proxy.count() < 15


def test_only_a_few_listen_and_the_others_ask_for_one_document(pool: Pool, proxied: Proxied) -> None:
    with idle(*(open_pool(proxied.url) for _ in range(8))):
        wait_for_seats(proxied.direct, board.SEATS)
        proxied.proxy.forget()
        time.sleep(2)
        listening = proxied.proxy.count("GET", "/_changes")
        assert listening <= board.SEATS * 2 / feed.LISTEN_SECONDS + board.SEATS
        assert proxied.proxy.count("GET", "/_local/") <= 5 * (2 / feed.POLL_SECONDS[0] + 1) + board.SEATS
        assert proxied.proxy.count("GET", "/_view/") < 15


@pytest.mark.slow
def test_one_who_listens_is_not_busy_while_others_write(pool: Pool, proxied: Proxied) -> None:
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            ask(proxied.direct, "POST", "", {"type": "note"})

    writer = threading.Thread(target=write)
    with idle(open_pool(proxied.url)) as (idler,):
        writer.start()
        try:
            time.sleep(1.0)
            proxied.proxy.forget()
            time.sleep(2)
            assert proxied.proxy.count() < 20
            pool.push(["true"])
            assert idler.news.wait(LATER)
        finally:
            ended.set()
            writer.join()


# --- When it does not work ---


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Answer(403),
        error_page(200),
        Drop(),
        Answer(200, {"results": [], "last_seq": 0}),
        Hang(),
    ],
    ids=lambda fault: f"{type(fault).__name__}{getattr(fault, 'status', '')}",
)
def test_without_a_feed_it_is_looked_now_and_then(pool: Pool, proxied: Proxied, fault: Any) -> None:
    rule = proxied.proxy.fault(fault, path="/_changes", count=None)
    with idle(open_pool(proxied.url)) as (idler,):
        proxied.proxy.forget()
        time.sleep(0.5)
        assert proxied.proxy.count() < 15
        pool.push(["true"])
        assert idler.news.wait(LATER), idler.error
    assert rule.hits


def test_without_a_board_it_is_looked_now_and_then(pool: Pool, proxied: Proxied) -> None:
    rule = proxied.proxy.fault(Answer(403), path="/_local/", count=None)
    with idle(open_pool(proxied.url)) as (idler,):
        pool.push(["true"])
        assert idler.news.wait(LATER), idler.error
        assert proxied.proxy.count() < 20
    assert rule.hits == 1


def test_a_feed_that_was_cut_is_tried_again(
    pool: Pool, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "OFF_SECONDS", (0.1, 0.2))
    proxied.proxy.fault(Drop(), path="/_changes", count=2)
    with idle(open_pool(proxied.url)):
        until = time.monotonic() + 60
        while proxied.proxy.count("GET", "/_changes") < 4:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_server_that_is_away_is_told_once_and_waited_for(
    pool: Pool, proxied: Proxied, tmp_path: Path
) -> None:
    events: list[Any] = []

    def kinds(kind: str) -> int:
        return sum(event.kind == kind for event in events)

    pilot = Pilot(
        open_pool(proxied.url, patience=0), ["true"], wait=True, spool=tmp_path, on_event=events.append
    )
    thread = threading.Thread(target=pilot.run)
    thread.start()
    try:
        time.sleep(1.0)
        proxied.proxy.refuse()
        proxied.proxy.cut()
        time.sleep(1.5)
        proxied.proxy.listen()
        pool.push(["true"])
        until = time.monotonic() + 60
        while not kinds("finished"):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert kinds("problem") == 1
    finally:
        pilot.stop()
        thread.join(60)
    assert not thread.is_alive()


def test_it_is_tried_to_claim_now_and_then_without_any_news(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Mending a cluster and claims in doubt hang on it.
    monkeypatch.setattr(feed, "CLAIM_SECONDS", (1.0, 1.2))
    with idle(open_pool(database)) as (idler,):
        assert idler.news.wait(LATER)


# --- Seats ---


def test_a_seat_is_given_back(pool: Pool, database: str) -> None:
    with idle(*(open_pool(database) for _ in range(2))) as idlers:
        wait_for_seats(database, 2)
        idlers[0].leave()
        wait_for_seats(database, 1)
    assert not seats(database)


_WAIT = """
import sys, threading
from picas import open_pool
from picas.errors import PicasError
from picas.stores.couch import board
board.SEATS, board.SEAT_SECONDS, board.RENEW_SECONDS = 1, 4.0, 0.5
watch = open_pool(sys.argv[1]).store.watch()
watch.begin()
while True:
    watch.wait(threading.Event())
"""


@pytest.mark.slow
def test_the_seat_of_one_that_was_killed_is_taken_over(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "SEATS", 1)
    monkeypatch.setattr(board, "SEAT_SECONDS", 4.0)
    killed = subprocess.Popen([sys.executable, "-c", _WAIT, database])
    try:
        while not (taken := set(seats(database))):
            assert killed.poll() is None
            time.sleep(0.05)
        with idle(open_pool(database)):
            time.sleep(2.0)
            assert set(seats(database)) == taken, "it was renewed, and is not free"
            os.kill(killed.pid, signal.SIGKILL)
            until = time.monotonic() + 60
            while not seats(database).keys() - taken:
                assert time.monotonic() < until
                time.sleep(0.1)
    finally:
        killed.kill()
        killed.wait()
