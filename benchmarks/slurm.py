"""What a Slurm between people and their pilots costs: to submit two hundred, and for each token afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.slurm.cluster import ARRAY, NODE, SlurmCluster, missing

from ._harness import (
    PROCESS_LIMIT_S,
    BenchmarkError,
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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PILOTS = 200
WORKERS = 2
OURS = f"picas submit slurm --pilots {PILOTS}"
SBATCH = f"sbatch --array=0-{PILOTS - 1}"
LOOP = f"{PILOTS} times sbatch"
HERE = "picas run, here"
THERE = "picas run, in a job"


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    if lacking := missing():
        raise BenchmarkError(f"no Slurm here: it lacks {', '.join(lacking)}")
    submit_rounds, run_rounds, tokens = (1, 1, 200) if quick else (7, 7, 2000)
    assert ARRAY >= PILOTS
    with SlurmCluster() as cluster:
        version = cluster.ask("sbatch", "--version").split()[-1]
        report = Report("slurm", "Slurm: submitting pilots, and tokens per second in a job")
        report.versions = {"Slurm": f"{version}, one node on this machine"}
        submits = play(
            [
                Contender(OURS, partial(_submitting, cluster, _with_picas)),
                Contender(SBATCH, partial(_submitting, cluster, _with_sbatch)),
                Contender(LOOP, partial(_submitting, cluster, _with_a_loop)),
            ],
            submit_rounds,
        )
        runs = play(
            [
                Contender(HERE, partial(_run_here, tokens)),
                Contender(THERE, partial(_run_in_a_job, cluster, tokens)),
            ],
            run_rounds,
        )
    report.notes = [
        f"{submit_rounds} rounds of submitting, {run_rounds} of running {tokens:,} tokens of `true`, {WORKERS} at a time, "
        "in turn. The node takes no jobs while pilots are submitted. A run is timed by the pilot itself, from its start to its "
        "end: how long the job waits in the queue is not its doing."
    ]
    report.table(
        ["", "seconds (median)", "lowest to highest"], [s.cells("{:,.3f}") for s in submits.values()]
    )
    report.table(
        ["", "ms per token (median)", "lowest to highest"], [s.cells("{:,.3f}") for s in runs.values()]
    )
    ratio = runs[THERE].median / runs[HERE].median
    report.verdicts = [
        Verdict(OURS, submits[OURS].median, 1, at_least=False, unit=" s"),
        Verdict(f"time per token, {THERE} ÷ {HERE}", ratio, 1.1, at_least=False),
    ]
    return report


# ---------------------------------------------------------------- submitting


def _submitting(cluster: SlurmCluster, submit: Callable[[SlurmCluster, Path], None]) -> float:
    """Seconds that this takes, on a Slurm whose node starts nothing meanwhile."""
    with scratch() as folder:
        push_lines(folder, ["true"])
        cluster.ask("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=benchmark")
        began = time.perf_counter()
        submit(cluster, folder)
        seconds = time.perf_counter() - began
        waiting = len(cluster.waiting())
        cluster.clear()
    if waiting != PILOTS:
        raise BenchmarkError(f"{PILOTS} jobs should wait, {waiting} do")
    return seconds


def _with_picas(cluster: SlurmCluster, folder: Path) -> None:
    _call(cluster, folder, folder / "pool.db", "submit", "slurm", "--pilots", str(PILOTS))


def _with_sbatch(cluster: SlurmCluster, folder: Path) -> None:
    cluster.ask("sbatch", f"--array=0-{PILOTS - 1}", "--wrap", "true", cwd=folder)


def _with_a_loop(cluster: SlurmCluster, folder: Path) -> None:
    for _ in range(PILOTS):
        cluster.ask("sbatch", "--wrap", "true", cwd=folder)


def _call(cluster: SlurmCluster, folder: Path, pool: Path, *args: str) -> None:
    state = {"XDG_STATE_HOME": str(folder / "state"), "PICAS_SPOOL": str(folder / "spool")}
    subprocess.run(
        [picas(), *args],
        cwd=folder,
        env={**pool_env(pool), **cluster.environment, **state},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PROCESS_LIMIT_S,
    )


# ---------------------------------------------------------------- running


def _run_here(tokens: int) -> float:
    """Milliseconds for each token."""
    with scratch() as folder:
        pool = push_lines(folder, ["true"] * tokens)
        argv = [picas(), "run", "--json", "--workers", str(WORKERS)]
        timed(argv, folder, {**pool_env(pool), "PICAS_SPOOL": str(folder / "spool")})
        expect_done(pool, tokens)
        return _ms_per_token((folder / ".usage.out").read_text("utf-8"), tokens)


def _run_in_a_job(cluster: SlurmCluster, tokens: int) -> float:
    """The same."""
    with scratch() as folder:
        pool = push_lines(folder, ["true"] * tokens)
        _call(cluster, folder, pool, "submit", "slurm", "--cores", str(WORKERS), "--", "--json")
        deadline = time.monotonic() + PROCESS_LIMIT_S
        while cluster.waiting():
            if time.monotonic() > deadline:
                raise BenchmarkError("the job does not end")
            time.sleep(0.2)
        expect_done(pool, tokens)
        [printed] = folder.glob("picas-*.out")
        return _ms_per_token(printed.read_text("utf-8"), tokens)


def _ms_per_token(printed: str, tokens: int) -> float:
    summary = json.loads(printed)
    return float(summary["seconds"]) / tokens * 1000
