"""Three hundred pilots at once on one pool: none dies, the work is spread, and none hoards while another idles."""

from __future__ import annotations

import statistics
import sys
from typing import Any

from benchmarks._harness import Report, Verdict, say, scratch

from ._fleet import DRIVERS, fly
from ._server import couchdb, filled, version

PILOTS = 300
TOKENS_EACH = 100
TOKEN_SECONDS = 1.0

UNEVEN = 1.5
MOST_HELD_SECONDS = 2.0

_NOTE = (
    "The pilots are threads of one process, each with connections and a claiming thread of its own; the work of a "
    "token is a pause. *Held* are tokens that a pilot has claimed and not begun, in seconds of work; *while "
    "another idled*: while some pilot that had looked for work and found none was doing nothing."
)


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    pilots, each = (30, 10) if quick else (PILOTS, TOKENS_EACH)
    tokens = pilots * each
    with couchdb() as server, filled(server, tokens) as database, scratch() as folder:
        command = [
            sys.executable,
            DRIVERS / "crowd.py",
            database.url,
            pilots,
            TOKEN_SECONDS,
            folder / "spool",
        ]
        start, answers = fly([command], folder)
        database.expect_done(tokens)
        report = Report("couchdb-crowd", f"{pilots} pilots at once on a pool in CouchDB")
        report.versions["CouchDB"] = version(server)
    answer: dict[str, Any] = answers[0]
    for death in answer["deaths"]:
        say(f"  a pilot died: {death[:200]}")
    done = answer["done"]
    mean = statistics.mean(done)
    seconds = answer["last"] - start
    report.notes = [_NOTE]
    report.table(
        ["", f"{tokens:,} tokens of {TOKEN_SECONDS:g} s"],
        [
            ["seconds", f"{seconds:,.1f}"],
            ["share of the time that pilots worked", f"{tokens * TOKEN_SECONDS / (seconds * pilots):.0%}"],
            ["tokens of the laziest, the mean and the busiest", f"{min(done)}, {mean:.1f}, {max(done)}"],
            ["most that one pilot held", f"{answer['most_held']:.1f} s"],
        ],
    )
    report.verdicts = [
        Verdict("pilots that died", len(answer["deaths"]), 0, at_least=False),
        Verdict("busiest ÷ mean", max(done) / mean, UNEVEN, at_least=False),
        Verdict(
            "held while another idled",
            answer["held_while_idle"],
            MOST_HELD_SECONDS,
            at_least=False,
            unit=" s",
        ),
    ]
    return report
