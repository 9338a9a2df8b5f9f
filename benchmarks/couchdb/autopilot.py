"""How long `picas autopilot` takes to decide on a pool in CouchDB."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchmarks._harness import Report, picas, say, scratch, timed
from benchmarks.autopilot import HEADER, LOOKS, NOTE, measure, verdicts, write_tokens
from picas.settings.credentials import split_login

from ._server import Database, couchdb, version
from .push import HOURS

if TYPE_CHECKING:
    from benchmarks.autopilot import Looks

    from ._server import AnyServer

SIZES = (10_000, 1_000_000)


def run(*, quick: bool = False) -> Report:
    """Measure and report; `quick` is for trying it out."""
    sizes = (200, 1_000) if quick else SIZES
    report = Report(
        "couchdb-autopilot", f"Autopilot: {sizes[0]:,} to {sizes[-1]:,} waiting tokens in CouchDB"
    )
    report.notes = [NOTE, f"{LOOKS} looks and commands each, one size after the other."]
    with couchdb() as server:
        report.versions["CouchDB"] = version(server)
        found = {size: _looks(server, size) for size in sizes}
    report.table(HEADER, [[f"{size:,}", *each.cells()] for size, each in found.items()])
    report.verdicts = verdicts(found[sizes[-1]], sizes[-1])
    return report


def _looks(server: AnyServer, size: int) -> Looks:
    with Database(server) as database, scratch() as folder:
        say(f"  pushing {size:,} tokens")
        lines = write_tokens(folder / "tokens.jsonl", size)
        # No login in the URL: it would have to stand in job scripts.
        url, username, password = split_login(database.url)
        login = {"PICAS_USERNAME": username or "", "PICAS_PASSWORD": password or ""}
        environ = {**os.environ, **login, "PICAS_POOL": url, "PICAS_SPOOL": str(folder)}
        timed([picas(), "push", str(lines)], folder, environ, limit=HOURS)
        return measure(database.url, size, folder, environ)
