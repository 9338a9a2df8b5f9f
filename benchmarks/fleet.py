"""One pilot process and eight on the same pool: total rate, errors, tokens run twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from ._harness import (
    DRIVERS,
    PROCESS_LIMIT_S,
    BenchmarkError,
    Contender,
    Report,
    Verdict,
    counts,
    picas,
    play,
    pool_env,
    push_lines,
    scratch,
)

if TYPE_CHECKING:
    from pathlib import Path

MANY = 8


class Tally:
    """Errors and double runs, added up over all rounds."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()

    def check(self, pool: Path, runs: Path, tokens: int) -> None:
        """Count what went wrong in one round; `runs` has one line per run of a token."""
        seen = Counter(runs.read_text(encoding="utf-8").split())
        done = counts(pool)["done"]
        self.failures["token errors"] += counts(pool)["error"]
        self.failures["double runs"] += sum(seen.values()) - len(seen)
        self.failures["tokens not run"] += tokens - len(seen)
        self.failures["tokens not done"] += tokens - done


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    functions, commands, rounds = (400, 100, 1) if quick else (16_000, 2_000, 4)
    tally = Tally()
    report = Report("fleet", f"Fleet: {MANY} pilot processes on one pool, beside one")
    report.notes = [_NOTE, f"{rounds} rounds, each row in turn."]
    for what, tokens, play_round in (
        ("functions", functions, function_round),
        ("commands", commands, command_round),
    ):
        samples = play(
            [
                Contender(
                    f"{pilots} pilot{'s' * (pilots > 1)}",
                    partial(play_round, tokens, pilots, tally),
                )
                for pilots in (1, MANY)
            ],
            rounds,
        )
        one, many = samples.values()
        report.table(
            [f"{tokens:,} {what}", "tokens/s, all together", "lowest to highest"],
            [one.cells(), many.cells()],
        )
        report.verdicts.append(Verdict(f"{what}: {MANY} pilots ÷ 1", many.median / one.median, 1.0))
    report.verdicts += [Verdict(what, number, 0, at_least=False) for what, number in tally.failures.items()]
    return report


_NOTE = (
    "Every run of a token appends the token's id to a file, which is how a token that ran "
    "twice shows. Functions: the clock starts when all pilots are up and ends with the last. "
    "Commands: whole processes of `picas run --workers 2`, their start counted."
)


def function_round(tokens: int, pilots: int, tally: Tally) -> float:
    """Tokens per second of `pilots` processes whose work is a Python function."""
    with scratch() as folder:
        pool, runs = push_lines(folder, ["x"] * tokens), folder / "runs.txt"
        runs.touch()
        argv = [sys.executable, str(DRIVERS / "picas_fleet.py"), str(pool), str(runs)]
        fleet = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(pilots)]
        for process in fleet:
            assert process.stdout is not None
            process.stdout.readline()
        start = time.perf_counter()
        for process in fleet:
            assert process.stdin is not None
            process.stdin.close()
        _finish(fleet)
        seconds = time.perf_counter() - start
        tally.check(pool, runs, tokens)
    return tokens / seconds


def command_round(tokens: int, pilots: int, tally: Tally) -> float:
    """Tokens per second of `pilots` processes of `picas run`."""
    with scratch() as folder:
        runs = folder / "runs.txt"
        runs.touch()
        pool = push_lines(folder, [f"echo $PICAS_TOKEN_ID >>{runs}"] * tokens)
        argv = [picas(), "run", "--workers", "2"]
        start = time.perf_counter()
        fleet = [
            subprocess.Popen(argv, env=pool_env(pool), cwd=folder, stdout=subprocess.DEVNULL)
            for _ in range(pilots)
        ]
        _finish(fleet)
        seconds = time.perf_counter() - start
        tally.check(pool, runs, tokens)
    return tokens / seconds


def _finish(fleet: list[subprocess.Popen[bytes]]) -> None:
    codes = [process.wait(PROCESS_LIMIT_S) for process in fleet]
    if any(codes):
        raise BenchmarkError(f"pilots ended with {codes}")
