"""Pilots that wait: how soon they begin what is pushed, and what they cost those that are busy."""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING

import picas
from benchmarks._harness import BenchmarkError, Contender, Report, Verdict, play, scratch

from ._fleet import DRIVERS, Member, fly, manned
from ._server import Database, couchdb, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ._server import AnyServer

FEW, MANY = 3, 100
WRITERS = 8

START_MS = {FEW: 200.0, MANY: 2000.0}
KEPT_RATE = 0.9

PAUSE_SECONDS = 1.0
"""Between two pushes, so that all are waiting again."""

PATIENCE_SECONDS = 60.0
"""A token that has not begun after so long is lost."""

_NOTE = (
    "Pilots are processes of `wait=True` that have found the pool empty. The time to start runs from before one "
    "token is pushed until its work begins, so that it has the push itself in it. The writers are "
    f"{WRITERS} connections of one bare script, each of which writes documents one after the other; the pilots "
    "beside them wait in the same database, and are frozen while the writers are alone."
)


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    many, pushes, seconds, rounds = (10, 5, 2, 1) if quick else (MANY, 30, 10, 4)
    report = Report("couchdb-idle", "Idle pilots on a pool in CouchDB")
    with couchdb() as server:
        report.versions["CouchDB"] = version(server)
        rows = []
        for pilots, limit in ((FEW, START_MS[FEW]), (many, START_MS[MANY])):
            waits = starts(server, pilots, pushes)
            rows.append(
                [f"{pilots} idle pilots", *(f"{ms:,.0f}" for ms in (statistics.median(waits), max(waits)))]
            )
            report.verdicts.append(
                Verdict(f"{pilots} idle pilots: slowest start", max(waits), limit, at_least=False, unit=" ms")
            )
        report.table(["", f"ms to start (median of {pushes})", "slowest"], rows)
        alone, beside = "alone", f"with {many} idle pilots"
        with (
            Database(server) as database,
            Database(server) as quiet,
            scratch() as folder,
            idling(database, many, folder) as pilots,
        ):
            picas.open_pool(quiet.url).counts()  # makes the same views as there are in the other one
            samples = play(
                [
                    Contender(alone, lambda: pilots.without(lambda: writes(quiet, seconds))),
                    Contender(beside, lambda: writes(database, seconds)),
                ],
                rounds,
            )
    report.notes = [_NOTE]
    report.table([f"{WRITERS} writers", "PUT/s", "lowest to highest"], [s.cells() for s in samples.values()])
    kept = samples[beside].median / samples[alone].median
    report.verdicts.append(Verdict(f"rate of the writers {beside} ÷ {alone}", kept, KEPT_RATE))
    return report


class Idle:
    """Pilots that wait.

    Attributes:
        journal: where they note when they began a token.
    """

    def __init__(self, fleet: list[Member], journal: Path) -> None:
        self._fleet = fleet
        self.journal = journal

    def without(self, measure: Callable[[], float]) -> float:
        """What is measured while they are frozen: they ask for nothing."""
        for member in self._fleet:
            member.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(PAUSE_SECONDS)
            return measure()
        finally:
            for member in self._fleet:
                member.process.send_signal(signal.SIGCONT)
            time.sleep(PAUSE_SECONDS)


@contextlib.contextmanager
def idling(database: Database, pilots: int, folder: Path) -> Iterator[Idle]:
    """So many pilots that have found the pool empty and wait."""
    journal = folder / "journal"
    journal.touch()
    with picas.open_pool(database.url) as pool:
        pool.counts()  # makes the views, so that not all of them try to
    program = [sys.executable, DRIVERS / "idle.py", database.url, journal]
    with manned([[*program, folder / f"spool-{i}"] for i in range(pilots)], folder) as fleet:
        yield Idle(fleet, journal)
        for member in fleet:
            member.go()
        until = time.monotonic() + PATIENCE_SECONDS
        for member in fleet:
            member.answer(until)


def starts(server: AnyServer, pilots: int, pushes: int) -> list[float]:
    """Milliseconds from each of so many pushes until its token's work began."""
    waits = []
    with Database(server) as database, scratch() as folder, idling(database, pilots, folder) as fleet:
        pool = picas.open_pool(database.url)
        for number in range(pushes):
            time.sleep(PAUSE_SECONDS)
            pushed = time.monotonic()
            pool.push([{"_id": f"one_{number}", "input": "x"}])
            waits.append(1000 * (_began(fleet.journal, f"one_{number}") - pushed))
    return waits


def _began(journal: Path, token_id: str) -> float:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for line in journal.read_text().splitlines():
            token, _, began = line.partition(" ")
            if token == token_id:
                return float(began)
        time.sleep(0.01)
    raise BenchmarkError(f"nobody has begun {token_id} within {PATIENCE_SECONDS:g} s")


def writes(database: Database, seconds: float) -> float:
    """Writes per second of the busy clients."""
    program = [sys.executable, DRIVERS / "writers.py", database.url, WRITERS, seconds]
    with scratch() as folder:
        _, answers = fly([program], folder)
    return float(answers[0]["writes"] / seconds)
