"""What starting costs: ``picas --version`` beside ``python -c pass``, and a pilot's memory."""

from __future__ import annotations

import sys
from functools import partial

from ._harness import (
    Contender,
    Report,
    Verdict,
    expect_done,
    picas,
    play,
    pool_env,
    push_lines,
    scratch,
    timed,
)

MB = 1_000_000
LOG_SIZES_MB = (0, 1, 200)
BARE = "python -c pass"
OURS = "picas --version"


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    start_rounds, memory_rounds = (3, 1) if quick else (25, 3)
    report = Report("startup", "Start-up time, and the memory of a pilot")
    starts = play(
        [
            Contender(BARE, lambda: start_ms([sys.executable, "-c", "pass"])),
            Contender(OURS, lambda: start_ms([picas(), "--version"])),
        ],
        start_rounds,
    )
    report.notes = [f"{start_rounds} rounds of starting, {memory_rounds} of memory, in turn."]
    report.table(["", "ms (median)", "lowest to highest"], [s.cells("{:,.1f}") for s in starts.values()])
    peaks = play(
        [Contender(f"log of {size} MB", partial(pilot_peak_mb, size)) for size in LOG_SIZES_MB],
        memory_rounds,
    )
    report.table(
        ["pilot (`picas run`)", "peak memory, MB", "lowest to highest"],
        [s.cells("{:,.1f}") for s in peaks.values()],
    )
    report.verdicts = [
        Verdict(
            f"{OURS} minus {BARE}",
            starts[OURS].median - starts[BARE].median,
            80,
            at_least=False,
            unit=" ms",
        ),
        Verdict(
            "highest peak memory of a pilot",
            max(max(s.values) for s in peaks.values()),
            60,
            at_least=False,
            unit=" MB",
        ),
    ]
    return report


def start_ms(argv: list[str]) -> float:
    """Wall time of a whole process, in milliseconds."""
    with scratch() as folder:
        return timed(argv, folder).seconds * 1000


def pilot_peak_mb(log_mb: int) -> float:
    """Peak memory, in MB, of a pilot that runs two tokens which print `log_mb` MB each."""
    with scratch() as folder:
        command = f"yes 'a line of a log that goes on and on' | head -c {log_mb * MB}"
        pool = push_lines(folder, [command] * 2)
        usage = timed([picas(), "run"], folder, pool_env(pool))
        expect_done(pool, 2)
    return usage.peak_bytes / MB
