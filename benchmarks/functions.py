"""Tokens per second of a Python function that does nothing, in the pilot's own process.

The rival is Huey on its SQLite storage, one worker. Both start with a full pool of the same
size; the clock runs from the start of the pilot (of the consumer) until the last result is
stored. Python's own start isn't counted for either.
"""

from __future__ import annotations

import sys

from . import _rivals
from ._harness import Contender, Report, Verdict, drive, play, scratch

HUEY = "Huey"
HUEY_RELAXED = "Huey, synchronous=NORMAL"
PICAS = "picas.Pilot"


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    tokens, rounds = (500, 1) if quick else (10_000, 5)
    missing = _rivals.package_missing("huey")
    samples = play(
        [
            Contender(PICAS, lambda: with_picas(tokens)),
            Contender(HUEY, lambda: with_huey(tokens, "full"), missing),
            Contender(HUEY_RELAXED, lambda: with_huey(tokens, "normal"), missing),
        ],
        rounds,
    )
    report = Report("functions", "Functions: no-op tokens per second in one process")
    report.notes = [_NOTE, f"{rounds} rounds of {tokens:,} tokens, each row in turn."]
    ours = samples[PICAS].median
    report.table(
        ["", "tokens/s (median)", "lowest to highest", "picas ÷ this row"],
        [[*s.cells(), f"{ours / s.median:.2f}" if s.values else ""] for s in samples.values()],
    )
    report.verdicts = [Verdict(f"picas ÷ {HUEY}, each waiting for the disk", ours / samples[HUEY].median, 3)]
    report.versions = {"Huey": _rivals.package_versions().get("huey", "not installed")}
    return report


_NOTE = (
    "Huey runs one worker thread in its own consumer, without periodic tasks, and stores each "
    "result. As it comes, it waits for the disk at each commit (SQLite's `synchronous=FULL`), as "
    "PiCaS does for finished work; the ratio counts against that. The relaxed row shows what Huey "
    "could do if finished work might be lost in a power cut."
)


def with_picas(tokens: int) -> float:
    """Tokens per second of a pilot whose work is a function that returns an empty output."""
    with scratch() as folder:
        answer = drive(sys.executable, "picas_functions.py", folder / "pool.db", tokens, cwd=folder)
    return tokens / answer["seconds"]


def with_huey(tokens: int, durability: str) -> float:
    """Tokens per second of a Huey consumer with one worker thread."""
    with scratch() as folder:
        answer = drive(_rivals.PYTHON, "huey_functions.py", tokens, durability, cwd=folder)
    return tokens / answer["seconds"]
