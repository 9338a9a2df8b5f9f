"""Tokens that print much into a pool in CouchDB: how long it takes, and the pilot's memory."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import picas
from benchmarks._harness import BenchmarkError, Contender, Report, Verdict, play, scratch, timed
from benchmarks._harness import picas as program

from ._server import Database, couchdb, version

if TYPE_CHECKING:
    from ._server import AnyServer

KB, MB = 1_000, 1_000_000

SIZES = {1 * KB: 200, 100 * KB: 100, 10 * MB: 10, 500 * MB: 2}
"""Bytes that a token prints → how many such tokens."""

CAPS = {"kept whole": "600MB", "the usual cap": None}
"""What is given as ``--log-cap``."""

MEMORY_MB = 80
SECONDS_LIMIT = 1800.0

_NOTE = (
    "One pilot (`picas run`), a whole process, that runs `head` for each token and attaches what it prints; the time "
    "is that of the process, its start included, for each token. By the usual cap "
    "of 16 MB the middle of longer logs is left out. The memory is the peak of the pilot's own process."
)


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    rounds = 1 if quick else 3
    sizes = {1 * KB: 10, 20 * MB: 1} if quick else SIZES
    peaks: dict[str, float] = {}
    with couchdb() as server:
        contenders = [Contender("0 B", partial(ms_each, server, 0, max(sizes.values()), None, peaks, "0 B"))]
        for size, tokens in sizes.items():
            for what, cap in CAPS.items():
                name = f"{_size(size)}, {what}"
                contenders.append(Contender(name, partial(ms_each, server, size, tokens, cap, peaks, name)))
        samples = play(contenders, rounds)
        report = Report("couchdb-logs", "Logs of all sizes in a pool in CouchDB")
        report.versions["CouchDB"] = version(server)
    report.notes = [_NOTE, f"{rounds} rounds, each row in turn."]
    report.table(
        ["a token prints", "ms for each token", "lowest to highest", "peak memory of the pilot"],
        [[*sample.cells("{:,.1f}"), f"{peaks[sample.name]:,.1f} MB"] for sample in samples.values()],
    )
    report.verdicts = [
        Verdict("highest peak memory of a pilot", max(peaks.values()), MEMORY_MB, at_least=False, unit=" MB")
    ]
    return report


def ms_each(
    server: AnyServer, size: int, tokens: int, cap: str | None, peaks: dict[str, float], name: str
) -> float:
    """Milliseconds for each token of a pilot; the highest peak of its memory goes into `peaks`, in MB."""
    with Database(server) as database, scratch() as folder:
        with picas.open_pool(database.url) as pool:
            pool.push([f"yes 'A line of a log like many others.' | head -c {size}"] * tokens)
        environ = {**os.environ, "PICAS_POOL": database.url, "PICAS_SPOOL": str(folder)}
        command = [program(), "run", *(("--log-cap", cap) if cap else ())]
        usage = timed(command, folder, environ, limit=SECONDS_LIMIT)
        database.expect_done(tokens)
        _expect_log(database, min(size, 16 << 20) if cap is None else size)
    peaks[name] = max(peaks.get(name, 0.0), usage.peak_bytes / MB)
    return 1000 * usage.seconds / tokens


def _expect_log(database: Database, size: int) -> None:
    """Raise `BenchmarkError` unless a log of about this length is attached."""
    attached = database.ask("GET", "/token_0").get("_attachments", {})
    length = attached.get("logs_token_0.out", {}).get("length", 0)
    if not 0.9 * size <= length <= 1.1 * size:
        raise BenchmarkError(f"a log of {size:,} bytes was printed, and one of {length:,} is attached")


def _size(size: int) -> str:
    return f"{size // MB} MB" if size >= MB else f"{size // KB} KB"
