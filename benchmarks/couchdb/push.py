"""Tokens per second of ``picas push`` into a CouchDB, beside bare ``_bulk_docs``; status of a large pool."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import picas
from benchmarks._harness import Contender, Report, Verdict, play, scratch, timed
from benchmarks._harness import picas as program
from benchmarks.push import write_lines

from ._fleet import DRIVERS
from ._server import Database, couchdb, version

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._harness import Usage

    from ._server import AnyServer

OURS, BARE = "picas push", "bare _bulk_docs"

BARE_SHARE = 0.8
STATUS_SECONDS = 0.2
MEMORY_MB = 100

HOURS = 2 * 3600.0
"""A million tokens may take some of them on a slow machine."""

_NOTE = (
    "Both are whole processes, from start to exit, that put the same documents into an empty database with "
    "PiCaS's views in it. The bare script makes 1,000 documents at a time and sends them, and checks and numbers "
    "nothing. *status* is the whole process of `picas status` once the views are built; what it asks of the "
    "server is the time of the same call in a program that runs already."
)


class Pushes:
    """The rounds of one run, with what is to be known of them beside their rate."""

    def __init__(self, server: AnyServer, tokens: int) -> None:
        self._server = server
        self._tokens = tokens
        self.peaks: list[int] = []
        self.status_seconds: list[float] = []
        self.counting_seconds: list[float] = []
        self.index_seconds: list[float] = []

    def ours(self) -> float:
        """Tokens per second of the command line."""
        with Database(self._server) as database, scratch() as folder:
            lines = self._prepare(database, folder)
            environ = {**os.environ, "PICAS_POOL": database.url, "PICAS_SPOOL": str(folder)}
            usage = timed([program(), "push", str(lines)], folder, environ, limit=HOURS)
            self.peaks.append(usage.peak_bytes)
            self._look(database, environ, folder)
        return self._tokens / usage.seconds

    def bare(self) -> float:
        """Tokens per second of the bare script."""
        with Database(self._server) as database, scratch() as folder:
            lines = self._prepare(database, folder)
            command = [sys.executable, str(DRIVERS / "bulk_insert.py"), database.url, str(lines)]
            usage: Usage = timed(command, folder, limit=HOURS)
        return self._tokens / usage.seconds

    def _prepare(self, database: Database, folder: Path) -> Path:
        """The views, and the file of lines."""
        with picas.open_pool(database.url) as pool:
            pool.push(["x"])
            pool.delete(pool.tokens())
        return write_lines(folder / "tokens.txt", self._tokens)

    def _look(self, database: Database, environ: dict[str, str], folder: Path) -> None:
        start = time.perf_counter()
        while True:  # of a large pool the first answers may not come in time
            try:
                database.expect({"todo": self._tokens})
                break
            except TimeoutError:
                continue
        self.index_seconds.append(time.perf_counter() - start)
        self.status_seconds.append(
            min(timed([program(), "status"], folder, environ).seconds for _ in range(3))
        )
        with picas.open_pool(database.url) as pool:
            pool.counts()
            start = time.perf_counter()
            pool.counts()
            self.counting_seconds.append(time.perf_counter() - start)


def run(*, quick: bool = False, full: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out, `full` for a million tokens."""
    tokens, rounds = (2_000, 1) if quick else (1_000_000, 1) if full else (100_000, 3)
    with couchdb() as server:
        pushes = Pushes(server, tokens)
        samples = play([Contender(OURS, pushes.ours), Contender(BARE, pushes.bare)], rounds)
        report = Report("couchdb-push", f"Push of {tokens:,} tokens into a pool in CouchDB")
        report.versions["CouchDB"] = version(server)
    report.notes = [_NOTE, f"{rounds} round{'s' * (rounds > 1)}, each row in turn."]
    report.table(["", "tokens/s", "lowest to highest"], [s.cells() for s in samples.values()])
    peak = max(pushes.peaks) / 1e6
    report.table(
        ["", f"of {tokens:,} tokens"],
        [
            ["peak memory of the push", f"{peak:,.1f} MB"],
            ["the views built, after the push", f"{max(pushes.index_seconds):,.1f} s"],
            ["status, the whole command", f"{max(pushes.status_seconds) * 1000:,.0f} ms"],
            ["status, what it asks of the server", f"{max(pushes.counting_seconds) * 1000:,.1f} ms"],
        ],
    )
    report.verdicts = [
        Verdict(f"{OURS} ÷ {BARE}", samples[OURS].median / samples[BARE].median, BARE_SHARE),
        Verdict("status", max(pushes.status_seconds), STATUS_SECONDS, at_least=False, unit=" s"),
        Verdict("peak memory of the push", peak, MEMORY_MB, at_least=False, unit=" MB"),
    ]
    return report
