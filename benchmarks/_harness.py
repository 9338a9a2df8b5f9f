"""What every benchmark shares: interleaved rounds, processes that are timed, tables, the machine.

A benchmark is a list of `Contender`s, measured by `play` in turn (A, B, C, A, B, C, …), so
that a slow minute of a busy machine hits all of them. It returns a `Report`: tables, and
`Verdict`s that compare two medians of that same run. Nothing is ever compared with a number
from another run.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DRIVERS = HERE / "_drivers"

PROCESS_LIMIT_S = 300
"""Seconds after which a process of a benchmark counts as hanging and is killed."""


class BenchmarkError(Exception):
    """A run that gives no number worth keeping: a process failed or lost work."""


# ---------------------------------------------------------------- rounds


@dataclass(frozen=True)
class Contender:
    """One row of a comparison.

    `run` does one round and returns what was measured (a rate, seconds, bytes, …).
    `missing` says, instead, why this row can't be measured here.
    """

    name: str
    run: Callable[[], float]
    missing: str = ""


@dataclass(frozen=True)
class Sample:
    """What one contender gave, round by round; empty when it is missing."""

    name: str
    values: tuple[float, ...]
    missing: str = ""

    @property
    def median(self) -> float:
        """The middle of the rounds; NaN when there was none."""
        return statistics.median(self.values) if self.values else float("nan")

    def cells(self, unit: str = "{:,.0f}") -> list[str]:
        """Name, median, lowest to highest: the cells of a table row."""
        if not self.values:
            return [self.name, self.missing, ""]
        low, high = unit.format(min(self.values)), unit.format(max(self.values))
        return [self.name, unit.format(self.median), f"{low} to {high}"]


def play(contenders: Sequence[Contender], rounds: int) -> dict[str, Sample]:
    """Run all contenders in turn, `rounds` times, and return their samples by name."""
    values: dict[str, list[float]] = {c.name: [] for c in contenders}
    for number in range(1, rounds + 1):
        for contender in contenders:
            if contender.missing:
                continue
            value = contender.run()
            values[contender.name].append(value)
            say(f"  round {number}/{rounds}  {contender.name}: {value:,.4g}")
    return {c.name: Sample(c.name, tuple(values[c.name]), c.missing) for c in contenders}


def say(line: str) -> None:
    """Progress, on standard error: the tables alone go to standard output."""
    print(line, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- reports


@dataclass(frozen=True)
class Verdict:
    """A measured number beside its target, as a sentence can say it."""

    what: str
    value: float
    target: float
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached; a NaN never is."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    def cells(self) -> list[str]:
        """What, value, target, met or MISSED."""
        bound = "at least" if self.at_least else "at most"
        if self.value != self.value:
            return [self.what, "not measured", f"{bound} {self.target:,g}{self.unit}", "unknown"]
        outcome = "met" if self.met else "MISSED"
        return [
            self.what,
            f"{self.value:,.4g}{self.unit}",
            f"{bound} {self.target:,g}{self.unit}",
            outcome,
        ]


@dataclass
class Report:
    """The outcome of one benchmark, printed and written as Markdown."""

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        self.tables.append(markdown_table(header, rows))

    def text(self) -> str:
        """The whole report as Markdown."""
        parts = [f"# {self.title}", *self.notes, *self.tables]
        if self.verdicts:
            header = ["in this run", "measured", "target", ""]
            parts.append(markdown_table(header, [v.cells() for v in self.verdicts]))
        machine = [f"- {key}: {value}" for key, value in {**environment(), **self.versions}.items()]
        parts.append("\n".join(machine))
        return "\n\n".join(parts) + "\n"

    def write(self) -> Path:
        """Write the report to ``results/<name>.md`` and return that path."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.md"
        path.write_text(self.text(), encoding="utf-8")
        return path


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up when read as plain text."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths)) + " |"

    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def environment() -> dict[str, str]:
    """Machine, date and versions; no host name and no path, since reports are published."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "load average (1 min) at the end": f"{os.getloadavg()[0]:.1f}",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system of the pools": _file_system(Path(tempfile.gettempdir())),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "PiCaS": _picas_version(),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`: the longest mount point above it wins."""
    best, kind = "", "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            mount, name = line.split()[1:3]
            inside = str(path).startswith(mount.rstrip("/") + "/") or str(path) == mount
            if inside and len(mount) >= len(best):
                best, kind = mount, name
    return kind


def _picas_version() -> str:
    done = subprocess.run([picas(), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not installed"


# ---------------------------------------------------------------- processes


def picas() -> str:
    """The `picas` program of the Python that runs the benchmarks.

    Raises `BenchmarkError` when it isn't installed there.
    """
    beside = Path(sys.executable).with_name("picas")
    found = str(beside) if beside.exists() else shutil.which("picas")
    if found is None:
        raise BenchmarkError("picas is not installed for this Python: pip install .")
    return found


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one round, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="picas-bench-") as name:
        yield Path(name)


def pool_env(pool: Path) -> dict[str, str]:
    """The environment in which `picas` works on the pool file `pool`."""
    return {**os.environ, "PICAS_POOL": f"sqlite:///{pool}"}


@dataclass(frozen=True)
class Usage:
    """What one process cost: wall time in seconds, peak resident memory in bytes."""

    seconds: float
    peak_bytes: int


def timed(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: Path | None = None,
    limit: float = PROCESS_LIMIT_S,
) -> Usage:
    """Run `argv` from start to exit and return what it cost; its output goes to a file.

    It is started by a small launcher, because Linux counts the memory of the process that
    forks into the peak of the one that is started. Raises `BenchmarkError` if it fails.
    """
    report, output, errors = (cwd / f".usage.{kind}" for kind in ("json", "out", "err"))
    launcher = [sys.executable, "-I", "-S", str(DRIVERS / "launch.py"), str(report), *argv]
    with open(stdin or os.devnull, "rb") as source, output.open("wb") as out, errors.open("wb") as err:
        code = _wait(
            subprocess.Popen(
                launcher, cwd=cwd, env=env, stdin=source, stdout=out, stderr=err, start_new_session=True
            ),
            limit,
        )
    if code != 0:
        tail = errors.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise BenchmarkError(f"{' '.join(argv)} ended with {code}:\n{tail}")
    data = json.loads(report.read_text(encoding="utf-8"))
    return Usage(data["seconds"], data["peak_bytes"])


def drive(python: str | Path, driver: str, *args: object, cwd: Path) -> dict[str, float]:
    """Run a program of ``_drivers`` with `python` and return the JSON object it printed last.

    Raises `BenchmarkError` if the program fails.
    """
    argv = [str(python), str(DRIVERS / driver), *map(str, args)]
    output, errors = cwd / ".driver.out", cwd / ".driver.err"
    with output.open("wb") as out, errors.open("wb") as err:
        code = _wait(subprocess.Popen(argv, cwd=cwd, stdout=out, stderr=err, start_new_session=True))
    if code != 0:
        tail = errors.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise BenchmarkError(f"{driver} ended with {code}:\n{tail}")
    answer: dict[str, float] = json.loads(output.read_text(encoding="utf-8").splitlines()[-1])
    return answer


def _wait(process: subprocess.Popen[bytes], limit: float = PROCESS_LIMIT_S) -> int:
    """The exit code of a process that leads its own session.

    If it hangs, or the benchmark is interrupted, nothing of it keeps running.
    """
    try:
        return process.wait(limit)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def push_lines(folder: Path, lines: Sequence[str]) -> Path:
    """Make a pool of `lines`, one token a line, with `picas push`; return the pool file."""
    tokens, pool = folder / "tokens.txt", folder / "pool.db"
    tokens.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    timed([picas(), "push", str(tokens)], folder, pool_env(pool))
    return pool


def counts(pool: Path) -> dict[str, int]:
    """The four counts of `picas status --json`."""
    done = subprocess.run(
        [picas(), "status", "--json"],
        env=pool_env(pool),
        capture_output=True,
        text=True,
        check=True,
        timeout=PROCESS_LIMIT_S,
    )
    status = json.loads(done.stdout)
    return {state: status[state] for state in ("todo", "locked", "done", "error")}


def expect_done(pool: Path, tokens: int) -> None:
    """Raise `BenchmarkError` unless every one of `tokens` in the pool is done."""
    seen = counts(pool)
    if seen != {"todo": 0, "locked": 0, "done": tokens, "error": 0}:
        raise BenchmarkError(f"expected {tokens} done, the pool says {seen}")
