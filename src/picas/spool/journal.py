"""A journal: the results that one pilot has finished and no pool has confirmed yet, in one file on local disk.

The file is a series of records (see `picas.spool.records`), one per group of results: a group costs one write and one sync.
Large files lie in a folder beside it, linked where the file system allows that, else copied. The file is locked for
as long as its pilot lives: whatever else comes across it knows whose it is. Once the pool has confirmed all that is in
it, it is emptied. Sending a result twice does no harm, since the pool knows a claim that has ended; so nothing here is
undone in a hurry.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from picas.payload import Payload, Stretch
from picas.spool.records import FILES, SUFFIX, record_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from picas.budgets import Budgets
    from picas.finishing import Result

RECORD_BYTES = 8 << 20
"""A record gets no more results once it has so many bytes: it is put together in memory."""

INLINE_BYTES = 1 << 16
"""Up to so many bytes of a file are in the record itself."""

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class _Unreadable(Exception):
    """What is to be attached cannot be read: no fault of the disk that the journal is on."""


class Journal:
    """The journal of one pilot; for any of its threads.

    Args:
        directory: where it is; made when first needed.
        name: of the file without its ending; nobody else's.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / (name + SUFFIX)
        self._name = name
        self._files = directory / (name + FILES)
        self._handle: int | None = None
        self._end = 0
        self._number = 0  # of the next large file
        self._aside = 0  # how many journals of what the pool does not take have been made
        self._waiting: set[str] = set()
        self._lock = threading.Lock()

    def holds(self, result: Result) -> bool:
        """Whether it is on the disk, and has not been dropped."""
        return _key(result) in self._waiting

    def keep(self, results: Iterable[Result], budgets: Budgets) -> None:
        """Write those through to the disk that are not there yet.

        One that JSON cannot say, or whose files cannot be read, is passed over: no pool takes it either, and the
        pool's answer says why.

        Raises:
            OSError: they cannot be written; then none of these is kept.
        """
        with self._lock:
            self._look_for_file()
            new = [result for result in results if _key(result) not in self._waiting]
            if not new:
                return
            self._open()
            number = self._number
            try:
                end, keys = self._write(new, budgets)
            except OSError:
                self._undo(number)
                raise
            self._end = end
            self._waiting.update(keys)

    def drop(self, results: Iterable[Result]) -> None:
        """Forget results that the pool has confirmed."""
        with self._lock:
            self._waiting.difference_update(map(_key, results))
            if not self._waiting and self._end and self._handle is not None:
                with suppress(OSError):
                    os.ftruncate(self._handle, 0)
                self._end = 0
                if self._number:
                    shutil.rmtree(self._files, ignore_errors=True)
                    self._number = 0

    def set_aside(self, results: Sequence[Result], budgets: Budgets) -> None:
        """Move results that the pool does not take to a journal of their own, for people to see to.

        Raises:
            OSError: it cannot be written; they stay where they are.
        """
        self._aside += 1
        aside = Journal(self.path.parent, f"{self._name}-{self._aside}")
        try:
            aside.keep(results, budgets)
        finally:
            aside.close()
        self.drop(results)

    def close(self) -> None:
        """Leave to others what is still in it; if that is nothing, there is no file any more."""
        with self._lock:
            if self._handle is None:
                return
            if not self._waiting:
                remove(self.path)
            os.close(self._handle)
            self._handle = None

    # --- Writing ---

    def _look_for_file(self) -> None:
        """Notice that somebody has removed the file: what was in it is to be written again."""
        if self._handle is not None and os.fstat(self._handle).st_nlink == 0:
            os.close(self._handle)
            self._handle = None
            self._end = 0
            self._waiting.clear()

    def _open(self) -> None:
        if self._handle is not None:
            return
        make_directory(self.path.parent)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # on a file system without locks others may send it too, which does no harm
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._handle = handle
        _open_ones.add(self)
        sync_directory(self.path.parent)

    def _write(self, results: Iterable[Result], budgets: Budgets) -> tuple[int, list[str]]:
        """Write records; where they end, and what is in them."""
        assert self._handle is not None
        end, number = self._end, self._number
        written = budgets.as_dict()
        keys: list[str] = []
        described: list[str] = []
        blob: list[bytes] = []
        size = 0
        for result in results:
            mine: list[bytes] = []
            try:
                files = [self._described(payload, mine) for payload in result.logs + result.files]
                described.append(text_of(result, written, files))
            except (_Unreadable, TypeError, ValueError, RecursionError):
                continue
            blob += mine
            keys.append(_key(result))
            size += sum(map(len, mine))
            if size >= RECORD_BYTES:
                end = _write_at(self._handle, record_of(described, blob), end)
                described, blob, size = [], [], 0
        if described:
            end = _write_at(self._handle, record_of(described, blob), end)
        if self._number > number:
            sync_directory(self._files)
        _sync_data(self._handle)
        return end, keys

    def _described(self, payload: Payload, blob: list[bytes]) -> dict[str, Any]:
        """A file and where its bytes are: so many next ones of the blob, or a stretch of a file in the folder."""
        parts: list[Any] = []
        for each in payload.parts:
            if isinstance(each, bytes) and len(each) <= INLINE_BYTES:  # nearly always
                blob.append(each)
                parts.append(len(each))
                continue
            with _reading():
                single = Payload(payload.name, payload.content_type, (each,)).as_it_is_now()
            part = single.parts[0]
            if single.length <= INLINE_BYTES:
                with _reading():
                    data = single.read()
                blob.append(data)
                parts.append(len(data))
                continue
            file = self._files / str(self._number)
            make_directory(self._files)
            self._number += 1
            if isinstance(part, Stretch) and _linked(part.path, file):
                parts.append([file.name, part.offset, part.length])
            else:
                parts.append([file.name, 0, _copied(single, file)])
        return {"name": payload.name, "content_type": payload.content_type, "parts": parts}

    def _undo(self, number: int) -> None:
        """Take back what was written in vain: the space is needed."""
        assert self._handle is not None
        with suppress(OSError):
            os.ftruncate(self._handle, self._end)
        for left in range(number, self._number):
            with suppress(OSError):
                (self._files / str(left)).unlink()
        self._number = number

    def leave_to_parent(self) -> None:
        """A forked child has the pilot's open file, and with it the lock: it would outlive the pilot."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_open_ones: weakref.WeakSet[Journal] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for journal in _open_ones:
        journal.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


# --- Reading ---


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether this journal is nobody's: its pilot is gone and nobody else sends it, nor will while the block lasts."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # no locks on this file system: sending what another sends too does no harm
            pass
        yield os.fstat(handle).st_nlink > 0
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a journal and what lies beside it."""
    with suppress(OSError):
        path.unlink()
    shutil.rmtree(path.with_name(path.name[: -len(SUFFIX)] + FILES), ignore_errors=True)


def make_directory(directory: Path) -> None:
    """Make a directory for its owner alone, and those above it, so that they survive a power cut.

    Raises:
        OSError: it cannot be made.
    """
    if directory.is_dir():
        return
    if not directory.parent.is_dir():
        make_directory(directory.parent)
    with suppress(FileExistsError):  # another pilot was faster
        directory.mkdir(mode=0o700)
    if not directory.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(directory))
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Write through to the disk which files are in a directory.

    Raises:
        OSError: that is not possible.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Unreadable from error


def _key(result: Result) -> str:
    return result.token.claim_id or f"id {result.token.id}"


def _write_at(handle: int, data: bytes, offset: int) -> int:
    """Write it all; where it ends."""
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view = view[written:]
        offset += written
    return offset


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name, if both are on one file system, and write it through to the disk."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        return False
    _sync_file(target)
    return True


def _copied(payload: Payload, target: Path) -> int:
    """Write a file; its length."""
    length = 0
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", 0) as file:
        chunks = payload.chunks()
        while True:
            with _reading():
                chunk = next(chunks, b"")
            if not chunk:
                break
            length = _write_at(file.fileno(), chunk, length)
        os.fsync(file.fileno())
    return length


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
