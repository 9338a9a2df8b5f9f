"""Tokens per second of the shell command ``true``, two at a time, standard output kept.

Every row starts one `bash` per token and keeps what each printed apart from the others.
Filling a queue and starting servers isn't counted; `picas run`, `xargs` and `parallel` are
counted from the start of their process to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _rivals
from ._harness import (
    BenchmarkError,
    Contender,
    Report,
    Verdict,
    drive,
    expect_done,
    picas,
    play,
    pool_env,
    push_lines,
    scratch,
    timed,
)

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 2


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    tokens, rounds = (200, 1) if quick else (2000, 5)
    redis = _rivals.program_missing("redis-server")
    contenders = [
        Contender("picas run", lambda: with_picas(tokens)),
        Contender("xargs", lambda: with_xargs(tokens), _rivals.program_missing("xargs")),
        Contender("GNU parallel", lambda: with_parallel(tokens), _rivals.program_missing("parallel")),
        Contender(
            "HyperQueue",
            lambda: with_driver("hyperqueue_commands.py", tokens),
            _rivals.package_missing("hyperqueue"),
        ),
        Contender(
            "Celery + Redis",
            lambda: with_driver("celery_commands.py", tokens),
            redis or _rivals.package_missing("celery"),
        ),
    ]
    samples = play(contenders, rounds)
    report = Report("commands", "Commands: tokens per second of `true`", notes=[_NOTE])
    ours, xargs = samples["picas run"].median, samples["xargs"].median
    others = {n: s.median for n, s in samples.items() if s.values and n not in _NOT_OTHERS}
    best = max(others, key=others.__getitem__, default="")
    report.notes.append(f"{rounds} rounds of {tokens:,} tokens, each row in turn.")
    report.table(
        ["", "tokens/s (median)", "lowest to highest", "picas ÷ this row"],
        [[*s.cells(), f"{ours / s.median:.2f}" if s.values else ""] for s in samples.values()],
    )
    report.verdicts = [
        Verdict("picas ÷ xargs", ours / xargs, 0.5),
        Verdict(
            f"picas ÷ best of the other three ({best or 'none installed'})",
            ours / others.get(best, float("nan")),
            1.5,
        ),
    ]
    packages = _rivals.package_versions()
    report.versions = {
        "xargs": _rivals.program_version("xargs", "--version"),
        "GNU parallel": _rivals.program_version("parallel", "--version"),
        "Redis": _rivals.program_version("redis-server", "--version"),
        "HyperQueue": packages.get("hyperqueue", "not installed"),
        "Celery": packages.get("celery", "not installed"),
    }
    return report


_NOT_OTHERS = ("picas run", "xargs")
_NOTE = (
    "Two at a time, one `bash` per token, standard output kept: PiCaS as attachments in the "
    "pool (standard error too, and a scratch directory per token), xargs by a redirection in "
    "that bash, parallel by `--results`, HyperQueue in its default files, Celery in its result "
    "backend (Redis in memory, nothing written to disk). A PiCaS token is durable; one of "
    "xargs or parallel is a line of a pipe."
)


def with_picas(tokens: int) -> float:
    """Tokens per second of `picas run`, from its start to its exit."""
    with scratch() as folder:
        pool = push_lines(folder, ["true"] * tokens)
        usage = timed([picas(), "run", "--workers", str(WORKERS)], folder, pool_env(pool))
        expect_done(pool, tokens)
    return tokens / usage.seconds


def with_xargs(tokens: int) -> float:
    """Tokens per second of xargs; each bash redirects its own output to a file."""
    with scratch() as folder:
        names = _numbered(folder, tokens)
        (folder / "out").mkdir()
        argv = ["xargs", f"-P{WORKERS}", "-n1", "bash", "-c", 'true >"out/$0"']
        usage = timed(argv, folder, stdin=names)
        _expect_files(folder / "out", "*", tokens)
    return tokens / usage.seconds


def with_parallel(tokens: int) -> float:
    """Tokens per second of GNU parallel, whose own shell per job is the bash."""
    with scratch() as folder:
        names = _numbered(folder, tokens)
        argv = ["parallel", "--will-cite", f"-j{WORKERS}", "-N0", "--results", "out/{#}", "true"]
        env = {**pool_env(folder / "unused"), "PARALLEL_SHELL": "/bin/bash"}
        usage = timed(argv, folder, env, stdin=names)
        _expect_files(folder / "out", "*.err", tokens)
    return tokens / usage.seconds


def with_driver(driver: str, tokens: int) -> float:
    """Tokens per second of a rival that a program of ``_drivers`` sets up and times."""
    with scratch() as folder:
        answer = drive(_rivals.PYTHON, driver, tokens, WORKERS, cwd=folder)
    return tokens / answer["seconds"]


def _numbered(folder: Path, tokens: int) -> Path:
    path = folder / "numbers.txt"
    path.write_text("".join(f"{n}\n" for n in range(tokens)), encoding="utf-8")
    return path


def _expect_files(folder: Path, pattern: str, number: int) -> None:
    found = sum(1 for _ in folder.glob(pattern))
    if found != number:
        raise BenchmarkError(f"expected {number} output files, found {found}")
