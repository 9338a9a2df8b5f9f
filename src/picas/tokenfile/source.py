"""A file to read tokens from: opened once, read as often as needed, line by line and never more than a line.

Standard input and pipes can be read only once, so they are copied to a temporary file first.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Callable

from picas.errors import InvalidInput, TokenFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO, NoReturn

    from _typeshed import WriteableBuffer

MAX_LINE_BYTES = 8_000_000
"""The longest line, row or document; CouchDB keeps no larger document unless it is told to."""

STDIN = "-"
STDIN_NAME = "<stdin>"

_BUFFER_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"
_NO_TEXT = (
    (b"\x1f\x8b\x08", "it is compressed with gzip", "Unpack it on the way: zcat FILE | picas push -"),
    (b"BZh91AY&SY", "it is compressed with bzip2", "Unpack it on the way: bzcat FILE | picas push -"),
    (b"\xfd7zXZ", "it is compressed with xz", "Unpack it on the way: xzcat FILE | picas push -"),
    (b"PK\x03\x04", "it is a zip archive or a spreadsheet", "Save a spreadsheet as CSV, in UTF-8."),
    (b"\xff\xfe", "it is UTF-16", "Convert it on the way: iconv -f utf-16 -t utf-8 FILE | picas push -"),
    (b"\xfe\xff", "it is UTF-16", "Convert it on the way: iconv -f utf-16 -t utf-8 FILE | picas push -"),
)
"""How files begin that people take for text, what they are, and what to do."""

Report = Callable[[TokenFileError], None]
"""Is told of a line that cannot be used. If it returns, reading goes on after that line."""


class Source:
    """A file that is open for reading, any number of times, also at the same time.

    Args:
        path: the file's name; ``-`` is standard input.

    Attributes:
        name: the name as it was given, for messages; ``<stdin>`` for standard input.
        size: bytes in it.
        position: bytes that the newest reader has read, for a progress bar.

    Raises:
        TokenFileError: it cannot be read, or is no text.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = STDIN_NAME if str(path) == STDIN else str(path)
        self.position = 0
        self._file = self._opened(path)
        self._stamp = self._look()
        self.size = self._stamp[0]
        head = os.pread(self._file.fileno(), 16, 0)
        for magic, why, advice in _NO_TEXT:
            if head.startswith(magic):
                self.close()
                raise TokenFileError(self.name, 0, why, advice)

    def close(self) -> None:
        """Close the file; a temporary copy is gone then."""
        self._file.close()

    def reader(self) -> BinaryIO:
        """The file from its first byte; a byte order mark is left out."""
        self.check_unchanged()
        reader = io.BufferedReader(_Raw(self), _BUFFER_BYTES)
        if reader.peek(len(_BOM)).startswith(_BOM):
            reader.read(len(_BOM))
        return reader

    def lines(self, report: Report) -> Iterator[tuple[int, str]]:
        """Number and text of each line, its end included.

        Raises:
            TokenFileError: whatever ``report`` raises when told of a line that cannot be used.
        """
        limit = MAX_LINE_BYTES + len(b"\r\n")
        reader = self.reader()
        for number, line in enumerate(iter(partial(reader.readline, limit), b""), 1):
            if len(line) > MAX_LINE_BYTES and len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
                _finish_line(reader, line, limit)
                report(self.at(number, too_long()))
            elif b"\0" in line:
                report(self.at(number, has_nul()))
            else:
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    column = len(line[: error.start].decode())
                    report(self.at(number, not_utf8(line[error.start], column, self.name)))
                else:
                    yield number, text

    def at(self, line: int, problem: InvalidInput) -> TokenFileError:
        """The problem, with the place."""
        return TokenFileError(self.name, line, problem.message, problem.advice)

    def check_unchanged(self) -> None:
        """Make sure that the file is still what it was when it was opened.

        Raises:
            TokenFileError: somebody has written to it since, so what was checked is not what is read now.
        """
        if self._look() != self._stamp:
            raise TokenFileError(
                self.name, 0, "it was changed while it was being read", "Push it once it is complete."
            )

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _opened(self, path: str | Path) -> BinaryIO:
        try:
            if str(path) == STDIN:
                return self._copied(sys.stdin.buffer)
            file = open(path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            self._refuse(error)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        with file:
            return self._copied(file)

    def _copied(self, stream: BinaryIO) -> BinaryIO:
        """A temporary file, with no name that could be left behind, that holds what the stream gives."""
        place = "a temporary file"
        copy: BinaryIO | None = None
        try:
            copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
            place = tempfile.gettempdir()
            shutil.copyfileobj(stream, copy, _BUFFER_BYTES)
            copy.flush()
        except OSError as error:
            if copy is not None:
                copy.close()
            raise TokenFileError(
                self.name,
                0,
                f"it cannot be copied to {place}: {error.strerror}",
                "Set TMPDIR to a directory with space, or write the tokens to a file and push that.",
            ) from None
        return copy

    def _refuse(self, error: OSError) -> NoReturn:
        advice = "Name a file, or - for standard input."
        if isinstance(error, FileNotFoundError):
            raise TokenFileError(self.name, 0, "there is no such file", advice) from None
        if isinstance(error, IsADirectoryError):
            raise TokenFileError(self.name, 0, "it is a directory", advice) from None
        if isinstance(error, PermissionError):
            raise TokenFileError(self.name, 0, "you have no right to read it") from None
        raise TokenFileError(self.name, 0, f"it cannot be read: {error.strerror}", advice) from None


class _Raw(io.RawIOBase):
    """A source's bytes, with a position of its own."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._descriptor = source._file.fileno()  # noqa: SLF001 - the two are one thing
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            data = os.pread(self._descriptor, len(view), self._at)
        except OSError as error:
            raise TokenFileError(self._source.name, 0, f"reading it failed: {error.strerror}") from None
        view[: len(data)] = data
        self._at += len(data)
        self._source.position = self._at
        return len(data)


def _finish_line(reader: BinaryIO, line: bytes, limit: int) -> None:
    """Read on to the end of a line that is too long to be held."""
    while line and not line.endswith(b"\n"):
        line = reader.readline(limit)


def too_long() -> InvalidInput:
    """A line or document is over `MAX_LINE_BYTES`."""
    return InvalidInput(
        f"it is longer than {MAX_LINE_BYTES:,} bytes",
        "Put the data into a file, and its name into the token.",
    )


def has_nul() -> InvalidInput:
    """There is a NUL byte, which no command could be given."""
    return InvalidInput("there is a NUL byte in it", "Is this a text file?")


def not_utf8(byte: int, column: int, name: str) -> InvalidInput:
    """The text has another encoding; old ones are nearly always Latin-1.

    Args:
        byte: the first that does not fit.
        column: characters before it on its line.
        name: the file's.
    """
    return InvalidInput(
        f"this is not UTF-8: byte 0x{byte:02x} at column {column + 1}",
        f"Convert it first, for instance: iconv -f latin1 -t utf-8 {name}",
    )
