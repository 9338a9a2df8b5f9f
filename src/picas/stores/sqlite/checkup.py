"""Looking closely at an embedded pool: the file, the disk it is on, the SQLite that reads it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

from picas.errors import PicasError
from picas.stores.finding import FAILURE, OK, WARNING, Finding
from picas.stores.sqlite.file import OLDEST_SQLITE, network_file_system
from picas.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCARCE_BYTES = 1_000_000_000
"""Less room than this on the disk is worth a warning."""


def sqlite_findings(path: Path) -> Iterator[Finding]:
    """What is found, as it is found; it ends early where there is no going on.

    Args:
        path: the pool's file, absolute. It is not made.
    """
    yield _version()
    if not path.exists():
        yield Finding(
            "file", FAILURE, f"there is no file {path}", "picas push FILE makes it; --pool URL names another."
        )
        return
    size = path.stat().st_size
    yield Finding("file", OK, f"{path}, {size:,} bytes", data={"bytes": size})
    yield _disk(path)
    yield _rights(path)
    try:
        store = SqliteStore(path)
        tokens = sum(store.counts().values())
        store.close()
    except PicasError as error:
        yield Finding("pool", FAILURE, error.message, error.advice)
        return
    yield Finding("pool", OK, f"{tokens:,} tokens", data={"tokens": tokens})


def _version() -> Finding:
    data = {"version": sqlite3.sqlite_version}
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        return Finding(
            "sqlite", FAILURE, f"SQLite {sqlite3.sqlite_version}", f"Use a Python with SQLite {wanted}.", data
        )
    return Finding("sqlite", OK, f"SQLite {sqlite3.sqlite_version}", data=data)


def _disk(path: Path) -> Finding:
    kind = network_file_system(path)
    free = shutil.disk_usage(path.parent).free
    data = {"network": kind, "free": free}
    if kind:
        return Finding(
            "disk",
            FAILURE,
            f"on a network file system ({kind}), where SQLite loses data or hangs",
            "Put the file on a local disk, or use a pool on CouchDB.",
            data,
        )
    text = f"local, {free / 1e9:,.1f} GB free"
    if free < SCARCE_BYTES:
        return Finding("disk", WARNING, text, "Results are kept in the file: make room.", data)
    return Finding("disk", OK, text, data=data)


def _rights(path: Path) -> Finding:
    # SQLite's log is a file beside the pool's.
    may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    data = {"read": os.access(path, os.R_OK), "write": may_write}
    if not may_write:
        return Finding(
            "rights",
            FAILURE,
            "we may not write the file, or not the folder it is in",
            "Looking works; pilots and picas push need to write both.",
            data,
        )
    return Finding("rights", OK, "we may read and write", data=data)
