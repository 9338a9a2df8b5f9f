"""Writing tokens out of a pool, with their files, while others work on it.

A token is written as it was at one moment: one that changes while its files are read is read again. The file gets its
name only once it is whole, on the disk, and has been read back.
"""

from __future__ import annotations

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

from picas.errors import InvalidInput, PicasError, PoolUnavailable, TokenNotFound
from picas.moving import copying
from picas.moving.exportfile import GZIP_SUFFIX, Content, Reader, Writer, opened
from picas.moving.likeness import Changed, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from picas.selection import Selection
    from picas.stores.base import Store
    from picas.tokens import AttachmentInfo, State, Token

TRIES = 20
"""A token that changes so often while it is read is given up."""

MOST_INLINE_BYTES = 4 << 20
"""Small files of one token are in its line up to so many bytes of them; further ones are written as large ones are."""

GZIP_LEVEL = 6


@dataclass
class Exported:
    """What an export wrote so far.

    Attributes:
        content: how much.
        other_documents: documents that are no tokens; they are not written.
        restless: ids of tokens that never held still; they are not there.
    """

    content: Content = field(default_factory=Content)
    other_documents: int = 0
    restless: list[str] = field(default_factory=list)


def export(
    store: Store,
    out: IO[bytes],
    chosen: Iterator[Token],
    fits: Callable[[Token], bool],
    *,
    on_progress: Callable[[Exported], object] = lambda _: None,
) -> Exported:
    """Write tokens to a stream.

    Args:
        chosen: which.
        fits: whether a token that has changed meanwhile is still one of them.
        on_progress: called now and then with what was written so far.

    Raises:
        OSError: it cannot be written.
    """
    result = Exported(other_documents=store.other_documents())
    writer = Writer(out, store.url, store.now())
    result.content = writer.content
    with ThreadPoolExecutor(copying.READERS, "picas-export") as readers:
        exporter = _Exporter(store, writer, readers)
        for batch in copying.batches(chosen):
            left: Sequence[Token] = batch
            for _ in range(TRIES):
                left = [token for token in exporter.write(left) if fits(token)]
                if not left:
                    break
            result.restless += [token.id for token in left]
            on_progress(result)
    writer.end()
    return result


def export_chosen(
    store: Store,
    out: IO[bytes],
    states: Collection[State | None] | None = None,
    where: Selection | None = None,
    *,
    on_progress: Callable[[Exported], object] = lambda _: None,
) -> Exported:
    """Write the tokens in these states (None: all) that fit to a stream; see `export`."""

    def fits(token: Token) -> bool:
        return (states is None or token.state in states) and (
            where is None or where.matches(token.id, token.body)
        )

    return export(store, out, copying.chosen(store, states, where), fits, on_progress=on_progress)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write an export to, for its owner alone. It is checked and gets its name when the block is over.

    Raises:
        InvalidInput: it is there already, or is not what was written.
        PicasError: it cannot be written.
    """
    if os.path.lexists(path):
        raise InvalidInput(f"{path} is there already", "Give another name: nothing is written over.")
    part = path.with_name(f".{path.name}.part")
    try:
        with suppress(FileNotFoundError):
            part.unlink()
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if path.name.endswith(GZIP_SUFFIX):
                with gzip.GzipFile("", "wb", GZIP_LEVEL, file) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        check(part)
        _name(part, path)
        _sync(path.parent)
    except OSError as error:
        raise PicasError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from error
    finally:
        with suppress(OSError):
            part.unlink()


def check(path: Path) -> Content:
    """Read an export from its beginning to its end; what is in it.

    Raises:
        InvalidInput: it is damaged, or no export at all.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, Reader(opened(file), str(path), keep=False) as reader:
        for _ in reader.tokens():
            pass
        return reader.content


class _Exporter:
    """Writes batch after batch."""

    def __init__(self, store: Store, writer: Writer, readers: ThreadPoolExecutor) -> None:
        self._store = store
        self._writer = writer
        self._readers = readers

    def write(self, batch: Sequence[Token]) -> list[Token]:
        """Write these; those that changed meanwhile, as they are now, are left."""
        small = self._small(batch)
        large = {token.id: self._large(token, small) for token in batch if token.attachments}
        with_files = [token.id for token in batch if token.attachments]
        now = dict(zip(with_files, self._store.fetch(with_files))) if with_files else {}
        left: list[Token] = []
        for token in batch:
            files, described = small.get(token.id, {}), large.get(token.id, {})
            current = now.get(token.id, token)
            if current is not None and (
                described is None
                or current.rev != token.rev
                or len(files) + len(described) < len(token.attachments)
            ):
                left.append(current)
            elif current is not None:
                self._writer.token(token, files, described or {})
        return left

    def _small(self, batch: Sequence[Token]) -> dict[str, dict[str, bytes]]:
        wanted: list[tuple[Token, AttachmentInfo]] = []
        for token in batch:
            room = MOST_INLINE_BYTES
            for info in token.attachments.values():
                if info.length <= min(room, copying.SMALL_BYTES):
                    room -= info.length
                    wanted.append((token, info))
        found: dict[str, dict[str, bytes]] = {}
        for (token, info), data in zip(wanted, self._readers.map(self._read, wanted)):
            if data is not None:
                found.setdefault(token.id, {})[info.name] = data
        return found

    def _read(self, which: tuple[Token, AttachmentInfo]) -> bytes | None:
        try:
            return b"".join(read_file(self._store, *which))
        except (
            Changed,
            TokenNotFound,
            PoolUnavailable,
        ):  # should it be the pool itself, `write` finds that out
            return None

    def _large(self, token: Token, small: dict[str, dict[str, bytes]]) -> dict[str, AttachmentInfo] | None:
        """Write its large files; None if they changed meanwhile."""
        there = small.get(token.id, {})
        written: dict[str, AttachmentInfo] = {}
        try:
            for name, info in token.attachments.items():
                if name not in there:
                    written[name] = self._writer.file(token, name, read_file(self._store, token, info))
        except (Changed, TokenNotFound, PoolUnavailable):
            return None
        return written


def _name(part: Path, path: Path) -> None:
    """Give a file its name, over no other."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        part.rename(path)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
