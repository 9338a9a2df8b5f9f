"""Tokens that do nothing: PiCaS, what the wire allows, and picasclient 1.x, on the same server and tokens."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.couchdb import classic as one_x

from benchmarks._harness import Contender, Report, Sample, Verdict, play, say, scratch, timed
from benchmarks._harness import picas as program

from ._fleet import DRIVERS, fly
from ._server import VIEW, Database, couchdb, filled, version

if TYPE_CHECKING:
    from ._server import AnyServer

MANY = 32

LOG_BYTES = 375
"""What each token prints."""

WIRE_SHARE = 0.6
FASTER = {1: 20.0, MANY: 10.0}
MOST_LOST = 5.0

_NOTE = (
    f"Each token prints {LOG_BYTES} bytes. *The wire* is a bare asyncio script that reads 100 free tokens with "
    "their documents from its own last key, locks them and finishes them with the log inline, and does nothing "
    "else; it walks PiCaS's own view of the same database. Pilots are processes; the clock starts when all "
    "of them are up and stops when the last token is finished in the database."
)


class Tally:
    """The claims of one fleet size, over all rounds."""

    def __init__(self) -> None:
        self.tried = self.lost = 0

    def add(self, answers: list[dict[str, Any]]) -> None:
        """Take in what the pilots of one round counted."""
        self.tried += sum(answer["tried"] for answer in answers)
        self.lost += sum(answer["lost"] for answer in answers)

    @property
    def percent_lost(self) -> float:
        """How many of a hundred claims somebody else was faster with."""
        return 100 * self.lost / self.tried if self.tried else float("nan")


def run(*, quick: bool = False, rows: str = "") -> Report:
    """Measure and report; of the rows only those whose name contains `rows`."""
    tokens, rounds, seconds = (2_000, 1, 5) if quick else (20_000, 3, 30)
    missing = "" if one_x.python() else "not installed (scripts/classic.sh)"
    tallies = {1: Tally(), MANY: Tally()}
    with couchdb() as server:
        contenders = []
        for fleet, tally in tallies.items():
            contenders += [
                Contender(f"the wire, {fleet}", partial(wire, server, tokens, fleet)),
                Contender(f"PiCaS, {fleet}", partial(ours, server, tokens, fleet, tally)),
                Contender(f"1.x, {fleet}", partial(classic, server, tokens, fleet, seconds), missing),
            ]
        samples = play([c for c in contenders if rows in c.name], rounds)
        report = Report("couchdb-noop", "No-op tokens in a CouchDB pool: PiCaS, the wire, picasclient 1.x")
        report.versions["CouchDB"] = version(server)
    report.notes = [
        _NOTE,
        f"{rounds} rounds of {tokens:,} tokens, each row in turn; 1.x for {seconds} s of them.",
    ]
    report.table(["pilots", "tokens/s", "lowest to highest"], [sample.cells() for sample in samples.values()])
    nothing = Sample("", ())
    for fleet, tally in tallies.items():
        ours_, wire_, classic_ = (
            samples.get(f"{who}, {fleet}", nothing).median for who in ("PiCaS", "the wire", "1.x")
        )
        report.verdicts += [
            Verdict(f"{fleet}: PiCaS ÷ the wire", ours_ / wire_, WIRE_SHARE),
            Verdict(f"{fleet}: PiCaS ÷ 1.x", ours_ / classic_, FASTER[fleet]),
            Verdict(
                f"{fleet}: claims that were too late",
                tally.percent_lost,
                MOST_LOST,
                at_least=False,
                unit=" %",
            ),
        ]
    return report


def wire(server: AnyServer, tokens: int, clients: int) -> float:
    """Tokens per second of the bare script."""
    command = [sys.executable, DRIVERS / "wire.py"]
    with filled(server, tokens) as database, scratch() as folder:
        start, answers = fly([[*command, database.url, VIEW, clients, tokens, LOG_BYTES]], folder)
        database.expect_done(tokens)
    return tokens / (answers[0]["last"] - start)


def ours(server: AnyServer, tokens: int, pilots: int, tally: Tally) -> float:
    """Tokens per second of so many pilots, together."""
    command = [sys.executable, DRIVERS / "ours.py"]
    with filled(server, tokens) as database, scratch() as folder:
        fleet = [[*command, database.url, LOG_BYTES, folder / f"spool-{i}"] for i in range(pilots)]
        start, answers = fly(fleet, folder)
        database.expect_done(tokens)
    tally.add(answers)
    return tokens / (max(answer["last"] for answer in answers) - start)


def classic(server: AnyServer, tokens: int, pilots: int, seconds: int, *, under_ours: bool = False) -> float:
    """Tokens per second of so many pilots of 1.x in their first seconds; their pool has no views of ours.

    Args:
        under_ours: the same program runs under PiCaS, and its views have been taken over as our how-to says.
    """
    command = [sys.executable if under_ours else one_x.python(), "-I", one_x.PILOT]
    with Database(server) as database, scratch() as folder:
        database.ask("PUT", "/_design/Monitor", one_x.monitor())
        for first in range(0, tokens, 1000):
            docs = [one_x.token(n, input="x") for n in range(first, min(first + 1000, tokens))]
            database.ask("POST", "/_bulk_docs", {"docs": docs})
        database.ask("GET", "/_design/Monitor/_view/todo?limit=1")
        if under_ours:
            environ = {**os.environ, "PICAS_POOL": database.url}
            timed([program(), "views", "create", "--force"], folder, environ)
        start, answers = fly([[*command, database.url, LOG_BYTES, seconds]] * pilots, folder)
        for answer in answers:
            if answer["died"]:
                say(f"  a pilot of 1.x died: {answer['died'][:200]}")
        done = database.ask("GET", "/_design/Monitor/_view/done?limit=0")["total_rows"]
    return float(done / (max(answer["last"] for answer in answers) - start))
