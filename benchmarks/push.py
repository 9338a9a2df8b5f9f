"""Tokens per second of ``picas push``, beside SQLite's own bulk insert of the same lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._harness import (
    DRIVERS,
    BenchmarkError,
    Contender,
    Report,
    Verdict,
    counts,
    picas,
    play,
    pool_env,
    scratch,
    timed,
)

if TYPE_CHECKING:
    from pathlib import Path

PICAS = "picas push"
BARE = "sqlite3 executemany"


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    tokens, rounds = (2_000, 1) if quick else (100_000, 5)
    samples = play(
        [
            Contender(PICAS, lambda: with_picas(tokens)),
            Contender(BARE, lambda: with_executemany(tokens)),
        ],
        rounds,
    )
    ours = samples[PICAS].median
    report = Report("push", f"Push: {tokens:,} lines into an empty pool")
    report.notes = [_NOTE, f"{rounds} rounds, each row in turn."]
    report.table(
        ["", "tokens/s (median)", "lowest to highest", "picas ÷ this row"],
        [[*s.cells(), f"{ours / s.median:.2f}"] for s in samples.values()],
    )
    report.verdicts = [Verdict("picas push, tokens/s", ours, 50_000)]
    return report


_NOTE = (
    "Both are whole processes, from start to exit. The bare insert makes a table of two "
    "columns, number and line, in one transaction: the least that keeping these lines in "
    "SQLite can cost, without ids, states, indexes or a check of the input."
)


def write_lines(path: Path, tokens: int) -> Path:
    """A token file like those of a parameter study, one different command a line."""
    with path.open("w", encoding="utf-8") as out:
        for number in range(tokens):
            out.write(f"./simulate --seed {number} --steps 1000 --site north\n")
    return path


def with_picas(tokens: int) -> float:
    """Tokens per second of the command line, from its start to its exit."""
    with scratch() as folder:
        lines, pool = write_lines(folder / "tokens.txt", tokens), folder / "pool.db"
        usage = timed([picas(), "push", str(lines)], folder, pool_env(pool))
        if counts(pool)["todo"] != tokens:
            raise BenchmarkError(f"{counts(pool)} after pushing {tokens}")
    return tokens / usage.seconds


def with_executemany(tokens: int) -> float:
    """Tokens per second of a Python program that only inserts the lines."""
    with scratch() as folder:
        lines = write_lines(folder / "tokens.txt", tokens)
        program = [sys.executable, str(DRIVERS / "sqlite_insert.py")]
        usage = timed([*program, str(folder / "bare.db"), str(lines)], folder)
    return tokens / usage.seconds
