"""How long `picas autopilot` takes to decide, on pools of up to a million waiting tokens."""

from __future__ import annotations

import json
import statistics
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from picas.autopilot.loop import Autopilot
from picas.autopilot.planfile import parse
from picas.errors import PoolUnavailable
from picas.launchers.book import Book
from picas.pool import open_pool

from ._harness import BenchmarkError, Contender, Report, Verdict, picas, play, pool_env, say, scratch, timed
from .scale import claim_us

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES = (1_000, 10_000, 100_000, 1_000_000)
LOOKS = 5
CLAIMED = 1_000
TARGET_SECONDS = 1.0
BUILDING_SECONDS = 3600.0

PLAN = """
[profiles.SingleCore]
launcher = "local"
memory = "4GB"
time = "4h"

[profiles.MultiCore]
launcher = "local"
cores = 8
memory = "64GB"
time = "2d"

[profiles.gpu]
launcher = "local"
cores = 8
gpus = 1
where = "gpus > 0 and site != 'far'"
"""

NOTE = (
    "Tokens differ in cores, GPUs, memory, time and site: hundreds of kinds of them, a few of which no profile fits. *first "
    "look*: nobody has counted these tokens before, so the index is made. *look*: a program that runs already decides; "
    f"*after claims*: the same right after {CLAIMED:,} tokens have been claimed. *command*: `picas autopilot --dry-run`, from "
    "start to exit. Medians in seconds, and the lowest to the highest of the looks."
)


def write_tokens(path: Path, count: int) -> Path:
    """A file of so many tokens of many kinds."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            fields: dict[str, object] = {"input": f"./fit run{n}", "cores": (1, 1, 2, 4, 8, 64)[n % 6]}
            fields["memory"] = (f"{1 + n % 4}GB", 10**9 * (n % 8 + 1), "16GB")[n // 6 % 3]
            fields["walltime"] = ("1h30m", 600, "01:00:00")[n // 18 % 3]
            fields["site"] = ("a", "b", "far", "d")[n // 54 % 4]
            if n // 216 % 4 == 3:
                fields["gpus"] = 1
            file.write(json.dumps(fields) + "\n")
    return path


@dataclass
class Looks:
    """What was measured on one pool, in seconds."""

    first: float = 0.0
    looks: list[float] = field(default_factory=list)
    after_claims: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        """As in `HEADER`."""
        others = [f"{statistics.median(each):.3f}" for each in (self.after_claims, self.commands)]
        spread = f"{min(self.looks):.3f} to {max(self.looks):.3f}"
        return [f"{self.first:,.2f}", f"{statistics.median(self.looks):.3f}", spread, *others]


def measure(url: str, tokens: int, folder: Path, environ: Mapping[str, str]) -> Looks:
    """Look at a pool that has so many tokens, all todo."""
    file = folder / "autopilot.toml"
    file.write_text(PLAN, encoding="utf-8")
    found = Looks()
    with closing(open_pool(url)) as pool:
        autopilot = Autopilot(
            pool, parse(file, PLAN), lambda *_: [], Book(pool.url, folder / "jobs"), patience=60.0
        )
        begun = time.perf_counter()
        while True:
            try:
                look = autopilot.look(dry=True)
                break
            except PoolUnavailable as error:  # the index is being built
                if time.perf_counter() - begun > BUILDING_SECONDS:
                    raise BenchmarkError(str(error)) from error
                say(f"  {error.message}")
        found.first = time.perf_counter() - begun
        if look.demand.todo != tokens:
            raise BenchmarkError(f"it counts {look.demand.todo} of {tokens} tokens")
        for _ in range(LOOKS):
            found.looks.append(_timed_look(autopilot, tokens))
            claimed = 0
            while claimed < min(CLAIMED, tokens // 20):
                claimed += len(pool.claim_many(min(CLAIMED, tokens // 20) - claimed))
            found.after_claims.append(_timed_look(autopilot, tokens))
        found.commands += [
            timed([picas(), "autopilot", "--dry-run", str(file)], folder, environ).seconds
            for _ in range(LOOKS)
        ]
    return found


def _timed_look(autopilot: Autopilot, tokens: int) -> float:
    """Seconds of one look, which must see all the tokens."""
    start = time.perf_counter()
    look = autopilot.look(dry=True)
    seconds = time.perf_counter() - start
    if look.demand.todo + look.demand.locked != tokens:
        raise BenchmarkError(f"it counts {look.demand.todo} and {look.demand.locked} of {tokens} tokens")
    return seconds


HEADER = ["tokens", "first look", "look", "lowest to highest", "after claims", "command"]


def verdicts(found: Looks, tokens: int) -> list[Verdict]:
    """The largest of the pools beside the target."""
    looks, commands = statistics.median(found.looks), statistics.median(found.commands)
    return [
        Verdict(f"look at {tokens:,} tokens", looks, TARGET_SECONDS, at_least=False, unit=" s"),
        Verdict(f"whole command at {tokens:,}", commands, TARGET_SECONDS, at_least=False, unit=" s"),
    ]


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    sizes, rounds = ((100, 1_000), 1) if quick else (SIZES, 5)
    report = Report("autopilot", f"Autopilot: {sizes[0]:,} to {sizes[-1]:,} waiting tokens in a file")
    report.notes = [NOTE, f"{LOOKS} looks and commands each, one size after the other."]
    found = {}
    with scratch() as folder:
        for size in sizes:
            say(f"  {size:,} tokens")
            pool = folder / f"{size}.db"
            lines = write_tokens(folder / "tokens.jsonl", size)
            timed([picas(), "push", str(lines)], folder, pool_env(pool), limit=BUILDING_SECONDS)
            before = _copy(pool)
            found[size] = measure(f"sqlite:///{pool}", size, folder, pool_env(pool))
        claims = min(200, sizes[-1] // 50)
        samples = play(
            [
                Contender("without the index", partial(claim_us, before, claims)),
                Contender("with it", partial(claim_us, pool, claims)),
            ],
            rounds,
        )
    report.table(HEADER, [[f"{size:,}", *each.cells()] for size, each in found.items()])
    without, with_it = samples["without the index"], samples["with it"]
    report.table(
        [f"claim of {sizes[-1]:,} tokens, µs", "median", "lowest to highest", "÷ without"],
        [[*each.cells(), f"{each.median / without.median:.2f}"] for each in (without, with_it)],
    )
    report.verdicts = verdicts(found[sizes[-1]], sizes[-1])
    return report


def _copy(pool: Path) -> Path:
    """The pool as it is before the first look."""
    copy = pool.with_name(f"before-{pool.name}")
    copy.write_bytes(pool.read_bytes())
    if (wal := Path(f"{pool}-wal")).exists() and wal.stat().st_size:
        Path(f"{copy}-wal").write_bytes(wal.read_bytes())
    return copy
