"""Finished work that the pool has not confirmed yet, on local disk until it has.

Each pilot has a journal of its own in ``<spool>/<pool>`` (see `picas.spool.journal`). What a pilot left there when it went is
sent by the next one, or by ``picas flush``; what a living one writes there is that one's to send. Sending a result
twice does no harm, since the pool knows a claim that has ended.

Versions before kept each result in a directory ``<claim id>`` with ``result.json`` and the files to attach, numbered;
such entries are sent as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from picas.budgets import Budgets
from picas.errors import (
    ConfigError,
    InfrastructureError,
    InvalidInput,
    PoolUnavailable,
    TokenRefused,
    TokenTooLarge,
)
from picas.payload import Payload, file_payload
from picas.settings.credentials import check_ours
from picas.settings.places import state_dir
from picas.spool import journal, records
from picas.spool.journal import Journal
from picas.spool.records import FILES, SUFFIX, Kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.pool import Pool

UNFINISHED = ".part-"
"""What the name of an entry of a former version begins with while it is being written or removed."""

LEFTOVER_SECONDS = 86_400.0
"""What a crash left half-written or half-removed this long ago is removed."""


def default_spool() -> Path:
    """Where the spool is: ``$PICAS_SPOOL``, else in the user's state directory."""
    given = os.environ.get("PICAS_SPOOL")
    if given:
        return Path(given)
    return state_dir() / "spool"


class Spool:
    """The spool of one pool.

    Args:
        root: the directory of all spools; made when first needed.
        pool_url: the pool that the results belong to.
    """

    def __init__(self, root: Path, pool_url: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", pool_url).strip("-")[-60:]
        self.directory = root / f"{name}-{hashlib.sha256(pool_url.encode()).hexdigest()[:8]}"

    def journal(self) -> Journal:
        """A new journal, for one pilot.

        Raises:
            InfrastructureError: others can change what is in the spool.
        """
        self._check_ours()
        host = re.sub(r"[^A-Za-z0-9.]+", "-", socket.gethostname())
        return Journal(self.directory, f"{host}-{os.getpid()}-{os.urandom(4).hex()}")

    def waiting(self) -> int:
        """How many results are in the spool, those of living pilots among them.

        Raises:
            InfrastructureError: the spool cannot be read.
        """
        return sum(_count(path) for path in self._journals()) + len(self._entries())

    def flush(self, pool: Pool) -> tuple[int, int]:
        """Send what pilots that are gone have left; how many results were sent and how many are left.

        Those that cannot be read, and those that the pool does not take, stay where they are.

        Raises:
            InfrastructureError: the spool cannot be read.
            PoolRefused: the pool cannot be used.
        """
        self._clear_leftovers()
        sent = left = 0
        ways = [(self._journals(), _send_journal, _count), (self._entries(), _send_entry, lambda _: 1)]
        todo = [(path, send, count) for paths, send, count in ways for path in paths]
        for place, (path, send, _) in enumerate(todo):
            try:
                taken, stays = send(pool, path)
            except PoolUnavailable:
                return sent, left + sum(count(path) for path, _, count in todo[place:])
            sent += taken
            left += stays
        return sent, left

    def _journals(self) -> list[Path]:
        return [path for path in self._content() if path.name.endswith(SUFFIX)]

    def _entries(self) -> list[Path]:
        return [
            path
            for path in self._content()
            if not path.name.endswith((SUFFIX, FILES)) and not path.name.startswith(UNFINISHED)
        ]

    def _check_ours(self) -> None:
        """Make sure that nobody else can put results into the spool: they are sent in our name."""
        try:
            check_ours(self.directory)
        except OSError:  # it is not there; or it cannot be looked at, which whoever uses it is told
            return
        except ConfigError as error:
            raise InfrastructureError(
                f"the spool cannot be used: {error.message}",
                f"{error.advice} Or set PICAS_SPOOL to another directory.",
            ) from error

    def _content(self) -> list[Path]:
        self._check_ours()
        try:
            return sorted(self.directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InfrastructureError(
                f"the spool {self.directory} cannot be read: {error.strerror}",
                "Check the permissions, or set PICAS_SPOOL to another directory.",
            ) from error

    def _clear_leftovers(self) -> None:
        """Remove what belongs to nothing any more, unless it is so young that somebody may be at it."""
        for path in self._content():
            orphan = (
                path.name.endswith(FILES) and not path.with_name(path.name[: -len(FILES)] + SUFFIX).exists()
            )
            with suppress(OSError):
                if (orphan or path.name.startswith(UNFINISHED)) and (
                    time.time() - path.stat().st_mtime > LEFTOVER_SECONDS
                ):
                    shutil.rmtree(path, ignore_errors=True)


def flush(pool: Pool, root: Path | None = None) -> tuple[int, int]:
    """Send what earlier pilots of this machine could not send to this pool; see `Spool.flush`."""
    return Spool(root or default_spool(), pool.url).flush(pool)


def _send_journal(pool: Pool, path: Path) -> tuple[int, int]:
    """Send a journal, unless its pilot lives or another process sends it; how many results it took, and not.

    Raises:
        PoolUnavailable, PoolRefused: the pool cannot be used.
    """
    with journal.taken(path) as ours:
        if not ours:
            return 0, 0
        try:
            found, damaged = records.read(path)
        except OSError:
            return 0, 1
        sent, left = 0, damaged
        for record in found:
            taken = _send(pool, record)
            sent += taken
            left += len(record) - taken
        if not left:
            journal.remove(path)
    return sent, left


def _send_entry(pool: Pool, entry: Path) -> tuple[int, int]:
    """Send an entry of a former version; as `_send_journal`."""
    kept = _loaded(entry)
    if kept is None or not _send(pool, [kept]):
        return 0, int(entry.exists())  # else another pilot has just sent it
    going = entry.with_name(UNFINISHED + entry.name)
    with suppress(OSError):
        entry.rename(going)  # whole or not there, also when we are killed on the way
    shutil.rmtree(going, ignore_errors=True)
    return 1, 0


def _send(pool: Pool, record: Sequence[Kept]) -> int:
    """How many of these results the pool takes, in one step if it can be.

    Raises:
        PoolUnavailable, PoolRefused: the pool cannot be used.
    """
    budgets = record[0].budgets if record else Budgets()
    if all(kept.budgets == budgets for kept in record):
        try:
            pool.finish_many([kept.result for kept in record], budgets=budgets)
        except (InvalidInput, TokenTooLarge, TokenRefused, OSError):
            if len(record) == 1:
                return 0
        else:
            return len(record)
    return sum(_send(pool, [kept]) for kept in record)


def _count(path: Path) -> int:
    """How many results are in a journal; one for each damaged record."""
    try:
        found, damaged = records.read(path)
    except OSError:
        return int(path.exists())
    return sum(map(len, found)) + damaged


def _loaded(entry: Path) -> Kept | None:
    try:
        document = json.loads((entry / "result.json").read_text("ascii"))
        return records.loaded_result(document, tuple(_payloads(entry, document["files"])))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidInput):
        return None


def _payloads(entry: Path, files: list[dict[str, str]]) -> Iterator[Payload]:
    for file in files:
        name, content_type = records.string(file["name"]), records.string(file["content_type"])
        yield file_payload(name, content_type, entry / file["file"])
