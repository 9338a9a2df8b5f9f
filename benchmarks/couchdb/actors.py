"""The same actor, written against picasclient 1.x, under 1.x and under ours, on the same server and tokens."""

from __future__ import annotations

from functools import partial

from tests.couchdb import classic as one_x

from benchmarks._harness import Contender, Report, Sample, Verdict, play

from ._server import couchdb, version
from .noop import LOG_BYTES, classic

MANY = 8

_NOTE = (
    f"The program is one subclass of `RunActor`, unchanged, that attaches {LOG_BYTES} bytes to each token and calls "
    "`done()`. The tokens are those of 1.x. Under 1.x the database has its design document `Monitor`; for PiCaS that has "
    "been taken over by `picas views create --force`. The rate is that of the first seconds, without the pilots' start."
)


def run(*, quick: bool = False) -> Report:
    """Measure and report."""
    tokens, rounds, seconds = (1_000, 1, 3) if quick else (20_000, 3, 10)
    missing = "" if one_x.python() else "not installed (scripts/classic.sh)"
    with couchdb() as server:
        contenders = []
        for pilots in (1, MANY):
            rate = partial(classic, server, tokens, pilots, seconds)
            contenders += [
                Contender(f"under PiCaS, {pilots}", partial(rate, under_ours=True)),
                Contender(f"under 1.x, {pilots}", rate, missing),
            ]
        samples = play(contenders, rounds)
        report = Report("couchdb-actors", "One actor of 1.x, under PiCaS and under picasclient 1.x")
        report.versions["CouchDB"] = version(server)
    report.notes = [_NOTE, f"{rounds} rounds of at most {seconds} s and {tokens:,} tokens, each row in turn."]
    report.table(["pilots", "tokens/s", "lowest to highest"], [sample.cells() for sample in samples.values()])
    nothing = Sample("", ())
    for pilots in (1, MANY):
        ours, theirs = (samples.get(f"under {who}, {pilots}", nothing).median for who in ("PiCaS", "1.x"))
        report.verdicts.append(Verdict(f"{pilots}: under PiCaS ÷ under 1.x", ours / theirs, 1.0))
    return report
