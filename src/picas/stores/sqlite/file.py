"""Opening the file of an embedded pool: is it ours, may it be there, which schema has it, how to set it.

The one place that knows SQLite's settings and its error messages.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import PoolError, PoolRefused, PoolUnavailable
from picas.selection import SQL_SIZE, bytes_of
from picas.stores.scripts import script

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = ("001_tokens", "002_attachments", "003_fleet", "004_later", "005_held")
"""The scripts that make the schema, in order."""

APPLICATION_ID = 0x50694361
"""``PiCa`` in the file's header: how we, and ``file(1)``, know a pool from another SQLite database."""

OLDEST_SQLITE = (3, 26, 0)
"""What Enterprise Linux 8 ships: upserts, and JSON functions compiled in."""

BUSY_SECONDS = 30.0
"""How long a write waits for the other processes' writes, which take milliseconds."""

NETWORK_FILE_SYSTEMS = frozenset(
    "nfs nfs4 cifs smb smbfs smb3 lustre gpfs beegfs ceph afs openafs 9p panfs pvfs2 orangefs glusterfs gfs2 "
    "ocfs2 davfs davfs2 webdav ncpfs coda sshfs s3fs weka wekafs quobyte moosefs juicefs rclone virtiofs "
    "ceph-fuse mfs lizardfs saunafs goofys gcsfuse mount-s3 blobfuse2 seaweedfs fhgfs cvfs dcache".split()
)
"""File systems on which SQLite's locks and shared memory do not hold between machines, by their mount type."""

_SETTINGS = (
    # Deleting a token deletes its attachments.
    "PRAGMA foreign_keys = ON",
    # The log of the last burst of writes does not stay on disk for ever.
    "PRAGMA journal_size_limit = 67108864",
    # 8 MB of pages a connection: the inner pages of a million tokens' indexes, little beside a pilot.
    "PRAGMA cache_size = -8000",
)


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to the pool in this file, which is made if it is not there.

    A file that may only be read gives a connection that can only read.

    Raises:
        PoolRefused: the file is not a pool, or of a newer version, or on a network file system, or no
            file can be made there; the message says which and what to do.
        PoolUnavailable: other processes kept it locked for too long.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise PoolRefused(
            f"this Python has SQLite {sqlite3.sqlite_version}; the embedded pool needs {wanted}",
            "Use a newer Python, or a CouchDB pool.",
        )
    kind = network_file_system(path)
    if kind:
        raise PoolRefused(
            f"{path} is on a network file system ({kind}), where SQLite loses data or hangs",
            "Put the pool on a local disk (--pool sqlite:////tmp/picas.db), or, to share it between machines, "
            "use a CouchDB pool (--pool https://host:port/db).",
        )
    if not path.parent.is_dir():
        raise PoolRefused(
            f"there is no directory {path.parent} for the pool", f"Make it: mkdir -p {path.parent}"
        )
    with translated_errors(path):
        if path.exists() and not os.access(path, os.W_OK):
            return _open_read_only(path)
        db = _connect(f"{path.absolute().as_uri()}?mode=rwc")
        try:
            _check_and_migrate(db, path)
            _use_write_ahead_log(db)
            for setting in _SETTINGS:
                db.execute(setting)
        except BaseException:
            db.close()
            raise
        return db


def _connect(uri: str) -> sqlite3.Connection:
    # isolation_level=None: transactions are begun and ended where the code says so, and nowhere else.
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.create_function(SQL_SIZE, 1, bytes_of, deterministic=True)
    return db


def _open_read_only(path: Path) -> sqlite3.Connection:
    # Reading beside writers needs the write-ahead log's shared memory; without a log the file is all there is.
    with_log = path.with_name(path.name + "-wal").exists()
    db = _connect(f"{path.absolute().as_uri()}?mode=ro" + ("" if with_log else "&immutable=1"))
    try:
        found = _version(db, path)
        if found != len(migrations()):
            raise PoolRefused(f"{path} has pool format {found}, and cannot be written to bring it up to date")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The number of migrations that have been applied; 0 for an empty file."""
    alone = not db.in_transaction
    if alone:
        db.execute("BEGIN")  # all three at one moment: another process may be making the pool just now
    try:
        application: int = db.execute("PRAGMA application_id").fetchone()[0]
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        empty = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    finally:
        if alone:
            db.execute("ROLLBACK")
    if application == 0 and version == 0 and empty:
        return 0
    if application != APPLICATION_ID:
        raise PoolRefused(
            f"{path} is an SQLite database, but not a PiCaS pool",
            "Give another file for the pool; nothing was changed.",
        )
    if version > len(migrations()):
        raise PoolRefused(
            f"{path} was made by a newer PiCaS (format {version}; this one knows {len(migrations())})",
            "Upgrade this installation: pip install --upgrade picas",
        )
    return version


def _check_and_migrate(db: sqlite3.Connection, path: Path) -> None:
    steps = migrations()
    if _version(db, path) == len(steps):
        return
    _use_write_ahead_log(db)
    db.execute("BEGIN EXCLUSIVE")
    try:
        done = _version(db, path)  # another process may have been faster
        for script in steps[done:]:
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(steps)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Readers and one writer at a time do not wait for each other, and a commit is one append."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Of processes that make a pool at once one switches; SQLite does not wait by itself here.
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def migrations() -> list[str]:
    """The SQL scripts that make the schema, in order; a pool's format is how many it has had.

    A new pool and an old one take the same way: whatever scripts are missing are run.
    """
    return [script(f"sqlite/schema/{name}.sql") for name in SCHEMA]


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit the transaction we are in.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


_OCTAL = re.compile(r"\\([0-3][0-7]{2})")


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system that a path lies on, None for a local one.

    Args:
        mounts: the text of ``/proc/self/mountinfo`` (proc(5)); read from there when None. Where the system
            has no such file, nothing is known and nothing is refused.
    """
    if mounts is None:
        if not sys.platform.startswith("linux"):
            return None
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
        except OSError:
            return None
    place = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        columns, types = left.split(), right.split()
        if len(columns) < 5 or not types:
            continue
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), columns[4])  # a blank is written \040 there
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last of equals is the one mounted on top
            best, kind = point, types[0]
    plain = kind.removeprefix("fuse.")
    return kind if plain in NETWORK_FILE_SYSTEMS else None


_WORDS = (
    # what SQLite says, the error it becomes, what happened, what to do
    (
        "locked",
        PoolUnavailable,
        "is kept busy by other processes",
        "It is tried again; if it stays so, look for a stuck process.",
    ),
    (
        "disk is full",
        PoolUnavailable,
        "cannot grow: the disk is full",
        "Free some space; nothing that was saved is lost.",
    ),
    (
        "disk i/o error",
        PoolUnavailable,
        "cannot be read or written",
        "Is the disk full, over quota, or failing?",
    ),
    ("readonly", PoolRefused, "cannot be written", "Check the permissions of the file and of its directory."),
    (
        "unable to open",
        PoolRefused,
        "cannot be opened",
        "Check the path and the permissions of file and directory.",
    ),
    (
        "not a database",
        PoolRefused,
        "is not a PiCaS pool",
        "Give another file for the pool; nothing was changed.",
    ),
    ("malformed", PoolRefused, "is damaged", "Restore a copy, or try: sqlite3 FILE .recover"),
)


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file's name and advice."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(path, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PoolUnavailable(f"{path}: the disk is full", "Free some space.") from error
        raise


def translate(path: Path, error: sqlite3.Error) -> PoolError:
    """Our error for one of SQLite's."""
    text = str(error)
    for words, kind, what, advice in _WORDS:
        if words in text.lower():
            return kind(f"the pool {path} {what} ({text})", advice)
    return PoolError(f"the pool {path} answered: {text}")
