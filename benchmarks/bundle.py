"""A pilot from a bundle: how soon it is there, and how soon its first token runs, under each Python of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import picas as picas_package

from ._harness import BenchmarkError, Contender, Report, Sample, Verdict, picas, play, scratch
from .couchdb._server import Database, couchdb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_S = 0.5
CLAIM_S = 1.0
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
LIMIT_S = 120

UNKNOWN = "unknown to the bundle, first"
KNOWN = "unknown to the bundle, then"

_NOTE = (
    "Pilots are started as on a worker node: with `python3 -I -S`, an empty home, and no environment but `PATH`. Time to start: the "
    "whole of `picas run` on an empty pool, from fork to exit. Time to the first claim: from the fork to the beginning of the "
    "work of the only token, right after its claim. *unknown to the bundle*: without compiled code for this Python, the first time and when it has kept "
    "what it compiled. *installed*: the program `picas` of the environment that runs the benchmark."
)


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    rounds = 2 if quick else 7
    report = Report("bundle", "A pilot from a bundle")
    report.notes = [f"{_NOTE} {rounds} rounds in turn."]
    with scratch() as folder, contextlib.ExitStack() as stack:
        pythons = found()
        bundle = make(folder, pythons)
        size = bundle.stat().st_size / 1e6
        report.notes.append(
            f"The bundle has {size:.1f} MB, with the code for {', '.join(compiled_for(bundle))}."
        )
        pools = {"SQLite": f"sqlite:///{folder}/pool.db"}
        with contextlib.suppress(BenchmarkError):
            server = stack.enter_context(couchdb())
            pools["CouchDB"] = stack.enter_context(Database(server)).url
        ours = {f"Python {version}": node(python, bundle) for version, python in pythons.items()}
        ways = {"installed": [picas(), "run"], **ours}
        bare = node(sys.executable, without_code(folder, bundle))
        for what, measure in (("start and end, s", wall), ("the same, s of CPU", cpu)):
            starts = play(
                [
                    *(
                        Contender(name, partial(measure, argv, folder, pools["SQLite"]))
                        for name, argv in ways.items()
                    ),
                    Contender(UNKNOWN, partial(first_time, measure, bare, folder, pools["SQLite"])),
                    Contender(KNOWN, partial(measure, bare, folder, pools["SQLite"])),
                ],
                rounds,
            )
            report.table(
                [what, "median", "lowest to highest"], [each.cells("{:.3f}") for each in starts.values()]
            )
            if measure is wall:
                report.verdicts.append(_verdict("start and end", [starts[name] for name in ours], START_S))
        for kind, url in pools.items():
            claims = play(
                [Contender(name, partial(first_claim, argv, folder, url)) for name, argv in ways.items()],
                rounds,
            )
            header = [f"start to first claim, {kind}, s", "median", "lowest to highest"]
            report.table(header, [each.cells("{:.3f}") for each in claims.values()])
            report.verdicts.append(_verdict(header[0][:-3], [claims[name] for name in ours], CLAIM_S))
    return report


def _verdict(what: str, samples: Sequence[Sample], target: float) -> Verdict:
    slowest = max(each.median for each in samples)
    return Verdict(f"slowest Python: {what}", slowest, target, at_least=False, unit=" s")


def found() -> dict[str, str]:
    """The Pythons here that can run picas, by their versions: on the PATH, and where pyenv has them."""
    roots = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    roots += sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin"))
    pythons = {}
    for version in VERSIONS:
        for root in roots:
            real = program(root / f"python{version}", version) if version not in pythons else ""
            if real:
                pythons[version] = real
    return pythons


def program(python: Path, version: str) -> str:
    """The program itself of that Python; "" if there is none, or another one. pyenv's shims are scripts, and slower."""
    if not python.exists():
        return ""
    asked = "import os, sqlite3, sys; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.executable))"
    said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False).stdout
    found, _, path = said.strip().partition(" ")
    return path if found == version else ""


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


def without_code(folder: Path, bundle: Path) -> Path:
    """The same bundle, made where no Python was known."""
    bare = folder / "bare.pyz"
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(bare, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if not entry.filename.startswith("bundle/code/"):
                target.writestr(entry, source.read(entry))
    return bare


def first_time(measure: Callable[..., float], argv: Sequence[str], folder: Path, pool: str) -> float:
    """The same on a machine where no pilot has been."""
    shutil.rmtree(folder / "home", ignore_errors=True)
    return measure(argv, folder, pool)


def wall(argv: Sequence[str], folder: Path, pool: str) -> float:
    """Seconds of a pilot that finds nothing to do."""
    picas_package.open_pool(pool).close()  # it is there, and empty
    begun = time.monotonic()
    start(argv, folder, pool)
    return time.monotonic() - begun


def cpu(argv: Sequence[str], folder: Path, pool: str) -> float:
    """Seconds that it keeps a processor busy, which a busy machine does not change much."""
    picas_package.open_pool(pool).close()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start(argv, folder, pool)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_claim(argv: Sequence[str], folder: Path, pool: str) -> float:
    """Seconds until a pilot has claimed the only token and begins with it."""
    with picas_package.open_pool(pool) as opened:
        name = f"token_{time.time_ns()}"
        opened.push([{"_id": name, "input": "true"}])
        begun = time.time()
        start(argv, folder, pool)
        began: float = opened.get(name).run[
            "started"
        ]  # the time of the claim is the server's, in whole seconds
        opened.delete([opened.get(name)])
    return began - begun


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
