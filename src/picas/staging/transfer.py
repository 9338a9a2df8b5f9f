"""One file brought from or to a place: tried again with pauses, checked, and noted."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Protocol

from picas.backoff import Backoff
from picas.staging import places, sums

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from picas.staging.places import Place
    from picas.staging.plan import Item

LONGEST_ASKED = 300.0
"""A server that asks to be left alone for longer is asked again after so many seconds all the same."""

CHUNK_BYTES = 1 << 18
"""How much of a file is read at a time."""

PROGRESS_BYTES = 1 << 16
"""A try that broke off after bringing so much on is none of those that are counted."""

_LOCAL_FINAL = frozenset(
    getattr(errno, name)
    for name in "ENOENT ENOTDIR EISDIR EACCES EPERM EROFS ENOSPC EDQUOT ENAMETOOLONG ELOOP".split()
)
"""Errors of a file system that no waiting mends."""


class TransferError(Exception):
    """A file did not come through, or not whole.

    Args:
        message: what happened, without any secret.
        advice: what people can do.
        again: it may pass.
        after: seconds for which the other side asks to be left alone.
    """

    def __init__(self, message: str, advice: str = "", *, again: bool = False, after: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.again = again
        self.after = after


@dataclass
class Partial:
    """A file that is being fetched, as far as it is there.

    Attributes:
        path: where it grows.
        mark: by which the other side tells whether the rest is still of the same file: an entity tag or a date.
        wanted: its checksum, if it is known beforehand.
        told: checksums that the other side told, by their algorithms.
    """

    path: Path
    mark: str = ""
    wanted: str = ""
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def drop(self) -> None:
        """Begin from nothing the next time."""
        self.path.unlink(missing_ok=True)
        self.mark = ""


class Carrier(Protocol):
    """Knows how to speak to one kind of place. Each call is one try."""

    def get(self, place: Place, item: Item, partial: Partial) -> None:
        """Fetch the rest of a file.

        Raises:
            TransferError: it is not whole.
            OSError: something is wrong on this machine.
        """

    def put(self, place: Place, item: Item, source: Path) -> Mapping[str, str]:
        """Bring a file to a place, over one that may be there; checksums that the other side tells of it.

        Raises:
            TransferError: it is not whole there.
            OSError: something is wrong on this machine.
        """


@dataclass
class Means:
    """How files are carried.

    Attributes:
        choose: the carrier for a place.
        tries: how often one file is tried.
        say: told of each try that failed and is made again.
        pauses: shortest and longest pause between two tries, seconds.
    """

    choose: Callable[[Place], Carrier]
    tries: int
    say: Callable[[str], None]
    pauses: tuple[float, float]
    foreign: bool = False

    def fetch(self, item: Item, part: Path) -> None:
        """Fetch a file to ``part``, whole and right.

        Raises:
            TransferError: it could not be had.
        """
        place = places.parse(item.url, foreign=self.foreign)
        partial = Partial(part, wanted=item.checksum)
        carrier = self.choose(place)

        def once() -> None:
            carrier.get(place, item, partial)
            if not is_plain(part):
                raise TransferError("nothing came of it")
            for right in [item.checksum] if item.checksum else list(partial.told.values())[:1]:
                found = sums.of_file(part, right.partition(":")[0])
                if found != right:
                    partial.drop()
                    raise TransferError(f"its checksum is {found}, not {right}", again=True)

        self._try(f"fetching {places.shown(item.url)}", once, lambda: partial.size)

    def deliver(self, item: Item, url: str, source: Path) -> dict[str, object]:
        """Bring a file to a URL; what is to be noted of it.

        Raises:
            TransferError: it could not be brought there.
        """
        place = places.parse(url, foreign=self.foreign)
        carrier = self.choose(place)
        algorithm = item.checksum.partition(":")[0] or sums.USUAL
        noted: dict[str, object] = {}

        def once() -> None:
            size = source.stat().st_size
            checksum = sums.of_file(source, algorithm)
            if ":" in item.checksum and checksum != item.checksum:
                raise TransferError(f"the file's checksum is {checksum}, not {item.checksum}")
            told = carrier.put(place, item, source)
            for name, there in told.items():
                here = checksum if name == algorithm else sums.of_file(source, name)
                if there != here:
                    raise TransferError(f"its checksum there is {there}, not {here}", again=True)
            noted.update(url=places.shown(url), size=size, checksum=checksum)

        self._try(f"bringing {source.name} to {places.shown(url)}", once, lambda: 0)
        return noted

    def _try(self, what: str, once: Callable[[], None], size: Callable[[], int]) -> None:
        """Do it until it is done, or cannot be, or was tried often enough.

        Args:
            size: how many bytes have come through so far.
        """
        failed = 0
        best = size()
        pause = Backoff(*self.pauses)
        while True:
            try:
                once()
            except OSError as error:
                problem = of_machine(error)
            except TransferError as error:
                problem = error
            else:
                return
            if size() >= best + PROGRESS_BYTES:
                best, failed = size(), 0
                pause.over()
            failed += 1
            if not problem.again or failed >= self.tries:
                often = f" {failed} times, at last" if problem.again and failed > 1 else ""
                raise TransferError(f"{what} failed{often}: {problem.message}", problem.advice)
            seconds = max(pause.seconds(), min(problem.after, LONGEST_ASKED))
            self.say(f"{what}: {problem.message}; again in {seconds:.1f} s")
            time.sleep(seconds)


def of_machine(error: OSError) -> TransferError:
    """Our error for one of a file system here."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    advice = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free some space there, or give the pilot another place to work in: --scratch DIR."
    return TransferError(what, advice, again=error.errno not in _LOCAL_FINAL)


def check_room(folder: Path, size: int) -> None:
    """See to it that so many bytes more will fit where a folder is.

    Raises:
        TransferError: they do not.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if size > free:
        raise TransferError(
            f"it needs {size:,} bytes, and the disk of {folder} has {free:,} left",
            "Free some space there, or give the pilot another place to work in: --scratch DIR.",
        )


def is_plain(path: Path) -> bool:
    """Whether this is a file and no link."""
    return path.is_file() and not path.is_symlink()
