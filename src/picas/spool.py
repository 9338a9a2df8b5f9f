"""Finished work that the pool could not take yet, on local disk until it is in.

An entry is a directory ``<spool>/<pool>/<claim id>`` with ``result.json`` and the files to attach, numbered.
It is put together under another name, written through to the disk, and then renamed: an entry that is
there is whole, and what a crash left half-written is recognised by its name and never sent. Sending an
entry twice does no harm, since the pool knows a claim that has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.errors import InfrastructureError, InvalidInput, PoolUnavailable, TokenRefused, TokenTooLarge
from picas.payload import Payload, file_payload
from picas.pool import Result
from picas.tokens import Edits, Failure, Outcome, Token, Usage, token_from_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.pool import Pool

UNFINISHED = ".part-"
"""What the name of an entry begins with while it is being written or removed."""

LEFTOVER_SECONDS = 86_400.0
"""What a crash left half-written or half-removed this long ago is removed."""


def default_spool() -> Path:
    """Where the spool is: ``$PICAS_SPOOL``, else in the user's state directory."""
    given = os.environ.get("PICAS_SPOOL")
    if given:
        return Path(given)
    from platformdirs import user_state_path  # noqa: PLC0415 - only asked for when there is something to keep

    return user_state_path("picas", appauthor=False) / "spool"


class Spool:
    """The spool of one pool.

    Args:
        root: the directory of all spools; made when first needed.
        pool_url: the pool that the results belong to.
    """

    def __init__(self, root: Path, pool_url: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", pool_url).strip("-")[-60:]
        self.directory = root / f"{name}-{hashlib.sha256(pool_url.encode()).hexdigest()[:8]}"

    def keep(self, result: Result, max_scrub: int) -> Path:
        """Write a result to the disk; its entry.

        Raises:
            OSError: it cannot be written; then there is no entry.
        """
        claim = result.token.claim_id or "unknown"
        entry = self.directory / claim
        if entry.exists():
            return entry
        part = self.directory / (UNFINISHED + claim)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True, mode=0o700)
        try:
            files: list[dict[str, str]] = []
            for payload in result.logs + result.files:
                name = str(len(files))
                _write(part / name, payload)
                files.append({"file": name, "name": payload.name, "content_type": payload.content_type})
            document = {
                "token": result.token.document(),
                "outcome": asdict(result.outcome),
                "logs": len(result.logs),
                "files": files,
                "max_scrub": max_scrub,
                "edits": None if result.edits is None else asdict(result.edits),
            }
            text = json.dumps(document, indent=1).encode("ascii")
            _write(part / "result.json", Payload("result.json", "application/json", (text,)))
            _sync(part)
            part.rename(entry)
            _sync(self.directory)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return entry

    def entries(self) -> list[Path]:
        """The whole entries, in no order.

        Raises:
            InfrastructureError: the spool cannot be read.
        """
        return [path for path in self._content() if not path.name.startswith(UNFINISHED)]

    def _content(self) -> list[Path]:
        try:
            return list(self.directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InfrastructureError(
                f"the spool {self.directory} cannot be read: {error.strerror}",
                "Check the permissions, or set PICAS_SPOOL to another directory.",
            ) from error

    def drop(self, entry: Path) -> None:
        """Remove an entry that has been sent."""
        going = entry.with_name(UNFINISHED + entry.name)
        with suppress(OSError):
            entry.rename(going)  # whole or not there, also when we are killed on the way
        shutil.rmtree(going, ignore_errors=True)

    def flush(self, pool: Pool) -> tuple[int, int]:
        """Send what is in the spool; how many entries were sent and how many are left.

        Entries that cannot be read, and those that the pool does not take, are left where they are.

        Raises:
            InfrastructureError: the spool cannot be read.
            PoolRefused: the pool cannot be used.
        """
        self._clear_leftovers()
        sent = left = 0
        for entry in self.entries():
            loaded = _load(entry)
            if loaded is None:
                left += entry.exists()  # else another pilot has just sent it
                continue
            try:
                pool.finish_many([loaded[0]], loaded[1])
            except PoolUnavailable:
                return sent, len(self.entries())
            except (InvalidInput, TokenTooLarge, TokenRefused, OSError):
                left += entry.exists()
                continue
            self.drop(entry)
            sent += 1
        return sent, left

    def _clear_leftovers(self) -> None:
        for path in self._content():
            with suppress(OSError):
                if path.name.startswith(UNFINISHED) and time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)


def flush(pool: Pool, root: Path | None = None) -> tuple[int, int]:
    """Send what earlier pilots of this machine could not send to this pool; see `Spool.flush`."""
    return Spool(root or default_spool(), pool.url).flush(pool)


def _load(entry: Path) -> tuple[Result, int] | None:
    try:
        document = json.loads((entry / "result.json").read_text("ascii"))
        payloads = tuple(_payloads(entry, document["files"]))
        logs = document["logs"]
        result = Result(
            _token(document["token"]),
            _outcome(document["outcome"]),
            payloads[:logs],
            payloads[logs:],
            edits=_edits(document.get("edits")),  # one of an earlier version has none
        )
        return result, int(document["max_scrub"])
    except (OSError, ValueError, KeyError, TypeError, InvalidInput):
        return None


def _payloads(entry: Path, files: list[dict[str, str]]) -> Iterator[Payload]:
    for file in files:
        yield file_payload(file["name"], file["content_type"], entry / file["file"])


def _token(document: dict[str, Any]) -> Token:
    return token_from_document(document)


def _outcome(fields: dict[str, Any]) -> Outcome:
    failure = Failure(fields.pop("failure")) if fields.get("failure") else None
    usage = Usage(**fields.pop("usage")) if fields.get("usage") else None
    notes = tuple(fields.get("notes") or ())  # one of an earlier version has none
    return Outcome(**{**fields, "failure": failure, "usage": usage, "notes": notes})


def _edits(fields: dict[str, Any] | None) -> Edits | None:
    if fields is None:
        return None
    return Edits(fields["changed"], tuple(fields["removed"]), tuple(fields["detached"]))


def _write(path: Path, payload: Payload) -> None:
    with open(path, "xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(payload.chunks())
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
