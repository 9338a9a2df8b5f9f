"""What is to be attached to a token: bytes in memory or stretches of files, read piece by piece."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES = 1 << 20
"""How much of a file is in memory at a time."""


@dataclass(frozen=True)
class Stretch:
    """``length`` bytes of a file from ``offset``."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Stream:
    """``length`` bytes from elsewhere, such as another pool.

    Attributes:
        read: begins to read them, in pieces; whoever reads twice calls it twice. It raises an error where
            they turn out not to be ``length`` bytes.
    """

    length: int
    read: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Payload:
    """A file to be attached: its name, its content type and where its bytes are."""

    name: str
    content_type: str
    parts: tuple[bytes | Stretch | Stream, ...]

    @property
    def length(self) -> int:
        """Size in bytes."""
        return sum(len(part) if isinstance(part, bytes) else part.length for part in self.parts)

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces of at most `CHUNK_BYTES`, those of a stream as they come.

        Raises:
            OSError: a file cannot be read.
        """
        for part in self.parts:
            if isinstance(part, bytes):
                for start in range(0, len(part), CHUNK_BYTES):
                    yield part[start : start + CHUNK_BYTES]
            elif isinstance(part, Stream):
                yield from part.read()
            else:
                yield from _read(part)

    def as_it_is_now(self) -> Payload:
        """The same with the lengths that the files have now, where they have become shorter."""
        parts: list[bytes | Stretch | Stream] = []
        for part in self.parts:
            if isinstance(part, Stretch):
                left = max(0, min(part.length, os.stat(part.path).st_size - part.offset))
                parts.append(Stretch(part.path, part.offset, left))
            else:
                parts.append(part)
        return Payload(self.name, self.content_type, tuple(parts))

    def read(self) -> bytes:
        """All of it at once; for payloads that are known to be small."""
        return b"".join(self.chunks())


def file_payload(name: str, content_type: str, path: Path) -> Payload:
    """The whole of a file, as long as it is now."""
    size = os.stat(path).st_size
    return Payload(name, content_type, (Stretch(path, 0, size),) if size else ())


def capped_log(name: str, path: Path, cap: int) -> Payload:
    """A log file; of one longer than ``cap`` bytes the head and the tail, with a note between them."""
    size = os.stat(path).st_size
    if size <= cap:
        return file_payload(name, "text/plain", path)
    head = cap // 2
    tail = cap - head
    note = f"\n[picas: {size - cap} bytes left out here; the log had {size}, the cap is {cap}]\n"
    parts = (Stretch(path, 0, head), note.encode(), Stretch(path, size - tail, tail))
    return Payload(name, "text/plain", parts)


def _read(part: Stretch) -> Iterator[bytes]:
    with open(part.path, "rb") as file:
        file.seek(part.offset)
        left = part.length
        while left > 0:
            data = file.read(min(left, CHUNK_BYTES))
            if not data:  # the file was cut meanwhile: what is there is what there is
                return
            left -= len(data)
            yield data
