"""How a pool behaves as it grows to a million tokens: claim, status, memory of a push."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from ._harness import (
    Contender,
    Report,
    Verdict,
    drive,
    picas,
    play,
    pool_env,
    say,
    scratch,
    timed,
)
from .push import write_lines

if TYPE_CHECKING:
    from pathlib import Path

MB = 1_000_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
CLAIMS = 200


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    sizes, rounds = ((100, 1_000), 1) if quick else (SIZES, 5)
    small, large = sizes[0], sizes[-1]
    report = Report("scale", f"Scale: pools of {small:,} to {large:,} tokens")
    report.notes = [f"{rounds} rounds, {CLAIMS} claims each, each row in turn."]
    with scratch() as folder:
        pools, pushes = {}, []
        for size in sizes:
            say(f"  pushing {size:,} tokens")
            pools[size] = folder / f"{size}.db"
            lines = write_lines(folder / "tokens.txt", size)
            usage = timed([picas(), "push", str(lines)], folder, pool_env(pools[size]))
            pushes.append((size, usage.seconds, usage.peak_bytes / MB))
        claims = play(
            [Contender(f"{n:,}", partial(claim_us, pools[n], min(CLAIMS, n // 10))) for n in sizes],
            rounds,
        )
        status = play(
            [
                Contender("picas status", lambda: status_s(pools[large])),
                Contender("Pool.counts()", lambda: counts_s(pools[large])),
            ],
            rounds,
        )
    first = claims[f"{small:,}"].median
    report.table(
        ["tokens in the pool", "claim, µs (median)", "lowest to highest", f"÷ that of {small:,}"],
        [[*s.cells(), f"{s.median / first:.2f}"] for s in claims.values()],
    )
    report.table(
        [f"{large:,} tokens", "seconds (median)", "lowest to highest"],
        [s.cells("{:.4f}") for s in status.values()],
    )
    report.table(
        ["picas push of", "seconds", "peak memory, MB"],
        [[f"{size:,}", f"{seconds:.2f}", f"{peak:.1f}"] for size, seconds, peak in pushes],
    )
    report.verdicts = [
        Verdict("picas status", status["picas status"].median, 0.3, at_least=False, unit=" s"),
        Verdict(
            f"claim at {large:,} ÷ claim at {small:,}",
            claims[f"{large:,}"].median / first,
            1.5,
            at_least=False,
        ),
        # A push remembers what it has read, up to a limit: from there on its memory does not grow.
        Verdict(f"peak memory of a push of {large:,}", pushes[-1][2], 100, at_least=False, unit=" MB"),
    ]
    return report


def claim_us(pool: Path, claims: int) -> float:
    """Median time of `Pool.claim()`, in microseconds."""
    with scratch() as folder:
        return drive(sys.executable, "picas_claims.py", pool, claims, cwd=folder)["claim_us"]


def counts_s(pool: Path) -> float:
    """Time of `Pool.counts()` in a process that has the pool open, in seconds."""
    with scratch() as folder:
        return drive(sys.executable, "picas_counts.py", pool, cwd=folder)["seconds"]


def status_s(pool: Path) -> float:
    """Wall time of the whole process `picas status`, in seconds."""
    with scratch() as folder:
        return timed([picas(), "status"], folder, pool_env(pool)).seconds
