"""A pilot from a bundle: how soon it is there, and how soon its first token runs, under each Python of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import picas as picas_package

from ._harness import BenchmarkError, Contender, Report, Verdict, picas, play, scratch
from .couchdb._server import Database, couchdb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_S = 0.5
CLAIM_S = 1.0
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
LIMIT_S = 120

_NOTE = (
    "Pilots are started as on a worker node: with `python3 -I -S`, an empty home, and no environment but `PATH`. Time to start: the "
    "whole of `picas run` on an empty pool, from fork to exit. Time to the first claim: from the fork to the moment that the claim of "
    "the only token says. *unknown to the bundle*: without compiled code for this Python, the first time and when it has kept "
    "what it compiled. *installed*: the program `picas` of the environment that runs the benchmark."
)


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    rounds = 2 if quick else 15
    report = Report("bundle", "A pilot from a bundle")
    report.notes = [f"{_NOTE} {rounds} rounds in turn."]
    with scratch() as folder, contextlib.ExitStack() as stack:
        pythons = found()
        bundle = make(folder, pythons)
        pools = {"SQLite": f"sqlite:///{folder}/pool.db"}
        with contextlib.suppress(BenchmarkError):
            server = stack.enter_context(couchdb())
            pools["CouchDB"] = stack.enter_context(Database(server)).url
        ways = {f"Python {version}": (python, bundle) for version, python in pythons.items()}
        starts = play(
            [
                Contender("installed", lambda: whole([picas(), "run"], folder, pools["SQLite"])),
                *(
                    Contender(name, partial(whole, node(python, file), folder, pools["SQLite"]))
                    for name, (python, file) in ways.items()
                ),
                *unknown(folder, bundle, pools["SQLite"]),
            ],
            rounds,
        )
        report.table(
            ["start and end", "s (median)", "lowest to highest"],
            [each.cells("{:.3f}") for each in starts.values()],
        )
        for kind, url in pools.items():
            claims = play(
                [
                    Contender("installed", partial(first_claim, [picas(), "run"], folder, url)),
                    *(
                        Contender(name, partial(first_claim, node(python, file), folder, url))
                        for name, (python, file) in ways.items()
                    ),
                ],
                rounds,
            )
            report.table(
                [f"first claim, {kind}", "s (median)", "lowest to highest"],
                [each.cells("{:.3f}") for each in claims.values()],
            )
            slowest = max(each.median for name, each in claims.items() if name in ways)
            report.verdicts.append(
                Verdict(
                    f"slowest Python: start to first claim, {kind}",
                    slowest,
                    CLAIM_S,
                    at_least=False,
                    unit=" s",
                )
            )
        slowest = max(each.median for name, each in starts.items() if name in ways)
        report.verdicts.insert(
            0, Verdict("slowest Python: start and end", slowest, START_S, at_least=False, unit=" s")
        )
        size = bundle.stat().st_size / 1e6
        report.notes.append(
            f"The bundle has {size:.1f} MB, with the code for {', '.join(compiled_for(bundle))}."
        )
    return report


def found() -> dict[str, str]:
    """The Pythons here that can run picas, by their versions: on the PATH, and where pyenv has them."""
    roots = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    roots += sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin"))
    pythons = {}
    for version in VERSIONS:
        for root in roots:
            path = root / f"python{version}"
            if version not in pythons and path.exists() and answers(path, version):
                pythons[version] = str(path)
    return pythons


def answers(python: Path, version: str) -> bool:
    """Whether it is that Python: a shim may be there without what it stands for."""
    check = f"import sqlite3, sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def make(folder: Path, pythons: dict[str, str]) -> Path:
    """A bundle for all of these Pythons; for those that it can run on, where no package index is reached."""
    path = os.pathsep.join([*(str(Path(python).parent) for python in pythons.values()), os.environ["PATH"]])
    target = folder / "pilot.pyz"
    for options in (["--python", "3.9"], []):
        argv = [picas(), "bundle", "-o", str(target), "--json", *options]
        made = subprocess.run(
            argv, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            oldest = tuple(map(int, json.loads(made.stdout)["oldest"].split(".")))
            for version in [each for each in pythons if tuple(map(int, each.split("."))) < oldest]:
                del pythons[version]
            return target
    raise BenchmarkError(made.stderr)


def compiled_for(bundle: Path) -> list[str]:
    """The kinds of Python that a bundle has code for."""
    with zipfile.ZipFile(bundle) as opened:
        return [name.rpartition("/")[2] for name in opened.namelist() if name.startswith("bundle/code/")]


def node(python: str, bundle: Path) -> list[str]:
    """The command line of a pilot on a bare node."""
    return [python, "-I", "-S", str(bundle), "run"]


def unknown(folder: Path, bundle: Path, pool: str) -> Iterator[Contender]:
    """Starts of a Python that the bundle has no code for: the one that runs this."""
    bare = folder / "bare.pyz"
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(bare, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if not entry.filename.startswith("bundle/code/"):
                target.writestr(entry, source.read(entry))
    argv = node(sys.executable, bare)

    def first() -> float:
        shutil.rmtree(folder / "home", ignore_errors=True)
        return whole(argv, folder, pool)

    yield Contender("unknown to the bundle, first", first)
    yield Contender("unknown to the bundle, then", partial(whole, argv, folder, pool))


def whole(argv: Sequence[str], folder: Path, pool: str) -> float:
    """Seconds of a pilot that finds nothing to do."""
    picas_package.open_pool(pool).close()  # it is there, and empty
    begun = time.monotonic()
    start(argv, folder, pool)
    return time.monotonic() - begun


def first_claim(argv: Sequence[str], folder: Path, pool: str) -> float:
    """Seconds until a pilot has claimed the only token."""
    with picas_package.open_pool(pool) as opened:
        name = f"token_{time.time_ns()}"
        opened.push([{"_id": name, "input": "true"}])
        begun = time.time()
        start(argv, folder, pool)
        claimed: float = opened.get(name).run["claimed"]
        opened.delete([opened.get(name)])
    return claimed - begun


def start(argv: Sequence[str], folder: Path, pool: str) -> None:
    """Run a pilot to its end on a machine that has nothing."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PICAS_POOL": pool}
    ended = subprocess.run(
        argv, env=bare, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if ended.returncode != 0:
        raise BenchmarkError(f"{' '.join(argv)} ended with {ended.returncode}:\n{ended.stderr}")
