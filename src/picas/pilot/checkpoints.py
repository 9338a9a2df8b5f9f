"""What an attempt that had to go left for the next one: files, attached to the token, that it finds where it runs.

They are fetched by the thread that claims, before the token may be begun, so that no other work waits for it.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Callable

from picas.backoff import Backoff
from picas.errors import InfrastructureError, PicasError, PoolUnavailable, TokenNotFound
from picas.work.scratch import FETCHED, scratch_error

if TYPE_CHECKING:
    from picas.pool import Pool
    from picas.tokens import Token

NAMES_NOTHING = frozenset(
    (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
)
"""Errors that say that there can be no file of this name here, whatever the state of the disk."""

PAUSE_SECONDS = (0.2, 30.0)
"""Shortest and longest pause before a pool that did not answer is tried again."""


class Checkpoints:
    """The checkpoints of the tokens that one pilot has claimed.

    Args:
        scratch: the pilot's scratch directory.
        on_problem: called with what goes wrong and is tried again.
    """

    def __init__(self, scratch: str, pool: Pool, on_problem: Callable[[PicasError], None]) -> None:
        self._pool = pool
        self._on_problem = on_problem
        self._place = f"{scratch}/{FETCHED}"
        self._fetched: dict[str, InfrastructureError | None] = {}

    def fetch(self, token: Token, stopped: Callable[[float], bool]) -> None:
        """Fetch the files that a claimed token is to begin with, if there are any.

        Args:
            stopped: waits for so many seconds; true as soon as the pilot goes, and the token is not going to be begun.
        """
        names = token.checkpoint
        if not names or not token.claim_id:
            return
        directory = f"{self._place}/{token.claim_id}"
        pause = Backoff(*PAUSE_SECONDS)
        while True:
            try:
                self._fetch(token, names, directory)
            except PoolUnavailable as error:
                self._on_problem(error)
                if stopped(max(pause.seconds(), error.after)):
                    return
                continue
            except OSError as error:
                self._fetched[token.claim_id] = scratch_error(directory, error)
                return
            except PicasError as error:  # not to the harm of the other tokens that were claimed with this one
                self._fetched[token.claim_id] = InfrastructureError(
                    f"its checkpoint cannot be read: {error.message}", error.advice
                )
                return
            self._fetched[token.claim_id] = None
            return

    def _fetch(self, token: Token, names: tuple[str, ...], directory: str) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        Path(directory).mkdir(0o700, parents=True)
        for name in names:
            parts = PurePosixPath(name).parts
            if not parts or name.startswith("/") or ".." in parts or "\0" in name:
                continue  # whoever wrote that into the token: it is no file of a working directory
            path = Path(directory, *parts)
            with suppress(TokenNotFound):  # somebody removed it: the work begins without
                chunks = self._pool.read_attachment(token.id, name)
                first = next(chunks, b"")
                try:
                    path.parent.mkdir(0o700, parents=True, exist_ok=True)
                    file = path.open("wb")
                except OSError as error:
                    if error.errno not in NAMES_NOTHING:
                        raise
                    continue
                except UnicodeEncodeError:
                    continue
                with file:
                    file.write(first)
                    file.writelines(chunks)

    def place(self, token: Token, work: str) -> None:
        """Let what was fetched be an attempt's working directory, which is empty so far.

        Raises:
            InfrastructureError: there was no room for it, or it could not be read.
        """
        claim = token.claim_id or ""
        if claim not in self._fetched:
            return
        error = self._fetched.pop(claim)
        if error is not None:
            raise error
        try:
            os.rename(f"{self._place}/{claim}", work)
        except OSError as failed:
            raise scratch_error(work, failed) from failed

    def close(self) -> None:
        """Remove what was fetched for tokens that were not begun."""
        shutil.rmtree(self._place, ignore_errors=True)
