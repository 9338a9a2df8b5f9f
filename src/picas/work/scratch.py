"""The directories that attempts run in.

Making and removing files and directories is a good part of what a short token costs: ext4, for one, walks
past every inode that was freed in the last seconds before it takes a new one. So a directory that an attempt
left with nothing of its own in it serves the next, under a new name, with its files emptied. A file that
anybody might still write to, or has another name for, is not used again: something that escaped from an attempt
must not write into another's log.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from picas.errors import InfrastructureError
from picas.tokens import encode_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from picas.payload import Payload
    from picas.tokens import Token

OWN_FILES = frozenset(("stdout", "stderr", "token.json"))
"""What a pilot itself writes into an attempt's directory."""

FULL_BYTES = 1 << 16
"""A disk with less room than that is full: nothing that makes files goes on there."""

WORK, OUTPUT, ATTACHED, RAISED = "work", "output.json", "attached", "raised.json"

FETCHED = "checkpoints"
"""The directory in a pilot's scratch directory that what attempts are to begin with is fetched to."""

PREFIX = "picas-"
"""What the name of a pilot's scratch directory begins with."""

_CLAIM = re.compile(r"[0-9a-f]{24}")


class Scratch:
    """The scratch directory of one pilot.

    Args:
        parent: where to make it; the system's temporary directory if None.

    Attributes:
        furnish: puts into an attempt's new working directory what it is to begin with; None for nothing.

    Raises:
        InfrastructureError: it cannot be made.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        place = os.path.abspath(parent) if parent is not None else _temporary()
        try:
            self.path = tempfile.mkdtemp(prefix=PREFIX, dir=place)
        except OSError as error:
            raise scratch_error(place, error) from error
        self._empty: list[str] = []
        self.furnish: Callable[[Token, str], None] | None = None

    def make(self, directory: str) -> None:
        """Make an attempt's directory with an empty working directory in it.

        Raises:
            InfrastructureError: it cannot be made.
        """
        try:
            if self._empty:
                os.rename(self._empty.pop(), directory)
            else:
                os.mkdir(directory, 0o700)
                os.mkdir(f"{directory}/{WORK}", 0o700)
        except OSError as error:
            raise scratch_error(directory, error) from error

    def recycle(self, directory: str, names: Collection[str]) -> bool:
        """Keep an attempt's directory for another, if nothing is in it but what the pilot itself wrote.

        Args:
            names: what is in it.
        """
        work = f"{directory}/{WORK}"
        own = OWN_FILES.intersection(names)
        try:
            if len(own) + 1 != len(names) or os.lstat(work).st_mode != stat.S_IFDIR | 0o700:
                return False
            if os.listdir(work):
                return False
            for name in own:
                if not _emptied(f"{directory}/{name}"):
                    os.unlink(f"{directory}/{name}")
        except OSError:
            return False
        self._empty.append(directory)
        return True

    def close(self) -> None:
        """Remove it, unless something in it is to be kept."""
        for directory in self._empty:
            shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(self.path)


@dataclass
class Attempt:
    """One attempt at a token: where its files are, and what it wants attached.

    The directory holds ``stdout``, ``stderr``, ``token.json``, ``output.json`` and ``work``, which is the
    working directory of the command.
    """

    token: Token
    scratch: Scratch
    files: list[Payload] = field(default_factory=list)
    made: bool = False
    _logs: LogFiles | None = None

    @property
    def directory(self) -> str:
        """The attempt's directory, as the token itself says since it was claimed."""
        return str(self.token.run["scratch"])

    @property
    def work(self) -> str:
        """The working directory."""
        return f"{self.directory}/{WORK}"

    @property
    def stdout(self) -> str:
        """The file of the standard output."""
        return f"{self.directory}/stdout"

    @property
    def stderr(self) -> str:
        """The file of the error output."""
        return f"{self.directory}/stderr"

    @property
    def token_file(self) -> str:
        """The file with the token's document."""
        return f"{self.directory}/token.json"

    @property
    def output_file(self) -> str:
        """The file that the work may write JSON to."""
        return f"{self.directory}/{OUTPUT}"

    @property
    def attached(self) -> str:
        """The directory of what a function in a child process attached by itself, numbered, with an ``index.json``."""
        return f"{self.directory}/{ATTACHED}"

    @property
    def raised(self) -> str:
        """The file that tells what a function in a child process raised."""
        return f"{self.directory}/{RAISED}"

    def make(self) -> None:
        """Make the directories.

        Raises:
            InfrastructureError: they cannot be made.
        """
        self.scratch.make(self.directory)
        self.made = True
        if self.scratch.furnish is not None:
            self.scratch.furnish(self.token, self.work)

    def names(self) -> list[str]:
        """What is in the directory; nothing if it is gone."""
        try:
            return os.listdir(self.directory)
        except OSError:
            return []

    def prepare(self) -> LogFiles:
        """Make all that the work finds when it starts, unless that is done; the open log files.

        Raises:
            InfrastructureError: something cannot be made.
        """
        if self._logs is None:
            if not self.made:
                self.make()
            self._write_token()
            self._logs = LogFiles(self)
        return self._logs

    def discard(self) -> None:
        """Undo `prepare`: the work is not going to start here."""
        if self._logs is not None:
            with self._logs:
                self._logs = None
        if self.made and not self.scratch.recycle(self.directory, self.names()):
            remove(self.directory)

    def _write_token(self) -> None:
        """Write the token's document where the work can read it."""
        data = encode_json(self.token.document()).encode("ascii")
        try:
            # Without the layers of open(), which cost more than the writing.
            handle = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
        except OSError as error:
            raise scratch_error(self.directory, error) from error


class LogFiles:
    """The attempt's two log files, open for writing while a child starts: a context that gives their numbers.

    Raises:
        InfrastructureError: they cannot be made.
    """

    def __init__(self, attempt: Attempt) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        try:
            self._out = os.open(attempt.stdout, flags, 0o600)
            try:
                self._err = os.open(attempt.stderr, flags, 0o600)
            except OSError:
                os.close(self._out)
                raise
        except OSError as error:
            raise scratch_error(attempt.directory, error) from error

    def __enter__(self) -> tuple[int, int]:
        return self._out, self._err

    def __exit__(self, *exc: object) -> None:
        os.close(self._out)
        os.close(self._err)


def _emptied(path: str) -> bool:
    """Empty a file of ours that nobody else has open or linked; whether it is such a one.

    A write lease is only given on a file that nobody else has open (fcntl(2), F_SETLEASE; Linux).
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    info = os.lstat(path)
    if info.st_mode != stat.S_IFREG | 0o600 or info.st_nlink != 1:
        return False
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        # Whoever opens it at this very moment has us told, by default with a signal that kills; this one does nothing.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        if info.st_size:
            os.ftruncate(handle, 0)
    except OSError:  # somebody has it open, or the file system knows no leases
        return False
    finally:
        os.close(handle)  # and with it the lease
    return True


def is_own_file(path: str) -> bool:
    """Whether this is a file, of this user, and no link: what a token or another program names may be anything."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()


def is_left_over(directory: str) -> bool:
    """Whether this looks like what a pilot of this user has left: whoever writes to the pool can name any directory."""
    try:
        info = os.lstat(directory)
        if info.st_mode != stat.S_IFDIR | 0o700 or info.st_uid != os.geteuid():
            return False
        names = os.listdir(directory)
    except (OSError, ValueError):
        return False
    path = Path(directory)
    is_ours = path.is_absolute() and path.name.startswith(PREFIX)
    return is_ours and all(name == FETCHED or _CLAIM.fullmatch(name) for name in names)


def remove(directory: str) -> None:
    """Remove an attempt's directory and all that is in it, if it is there."""
    if not os.path.lexists(directory):
        return
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.lexists(directory):  # the work took its own rights away
        for place, names, _ in os.walk(directory):
            for inner in (Path(place, name) for name in names):
                if not inner.is_symlink():
                    with suppress(OSError):
                        inner.chmod(0o700)
        shutil.rmtree(directory, ignore_errors=True)


def is_full(directory: str) -> bool:
    """Whether the disk that a directory is on has no room for anything more."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    # File systems that make room for files as they come tell of no number of files at all.
    return disk.f_bavail * disk.f_frsize < FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def _temporary() -> str:
    """The system's directory for temporary files."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"this machine has no room for temporary files: {error.strerror}",
            "Free some space there, set TMPDIR, or give another place: --scratch DIR. No token was touched.",
            of_machine=True,
        ) from None


def scratch_error(directory: str, error: OSError) -> InfrastructureError:
    """Our error for one that says that the scratch directory cannot be used."""
    advice = "Check the permissions there, or give another place: --scratch DIR."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = (
            "The disk is full or the quota used up; free some space, or give another place: --scratch DIR."
        )
    return InfrastructureError(
        f"the scratch directory {directory} cannot be used: {error.strerror}", advice, of_machine=True
    )
