"""The file that tokens are exported to: JSON lines, each token as CouchDB writes documents with their attachments.

    {"picas_export": 1, "pool": "…", "at": 1763900000}
    {"picas_piece": 0, "of": "token_1", "name": "big.fits", "data": "…"}      pieces of large files come first,
    {"_id": "token_1", "type": "token", …, "_attachments": {…}}               then the token that they belong to
    {"picas_end": {"tokens": 1, "files": 2, "bytes": 9000}, "sha256": "…"}    the sum of all lines before

Of each file the length and the SHA-256 are given; a small one's bytes are in ``data``, in base64, so that a line is
what CouchDB itself takes; a large one's are in ``pieces`` lines before. A file that was cut short lacks its last line.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from picas.errors import InvalidInput, TokenNotFound
from picas.moving.likeness import SHA256
from picas.payload import CHUNK_BYTES
from picas.text import jsontext
from picas.tokens import AttachmentInfo, Token, token_from_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

FORMAT = 1
"""The version of the format that is written, and the newest that is read."""

GZIP_SUFFIX = ".gz"
"""A file whose name ends so is compressed."""

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class Content:
    """How much is in an export: ``size`` is the bytes of the files."""

    tokens: int = 0
    files: int = 0
    size: int = 0

    def add(self, token: Token) -> None:
        """Count a token."""
        self.tokens += 1
        self.files += len(token.attachments)
        self.size += sum(info.length for info in token.attachments.values())

    def as_dict(self) -> dict[str, int]:
        """As the last line has it."""
        return {"tokens": self.tokens, "files": self.files, "bytes": self.size}


class Writer:
    """Writes an export.

    Args:
        out: where to; it is not closed.
        pool: the URL of the pool, for people.
        at: Unix seconds by the pool's clock.
    """

    def __init__(self, out: IO[bytes], pool: str, at: float) -> None:
        self._out = out
        self._sum = sha256()
        self.content = Content()
        self._line({"picas_export": FORMAT, "pool": pool, "at": at})

    def file(self, token: Token, name: str, pieces: Iterable[bytes]) -> AttachmentInfo:
        """Write a large file of a token that is to follow; its length and digest. Written twice, the last counts."""
        digest, length = sha256(), 0
        for number, piece in enumerate(_cut(pieces)):
            digest.update(piece)
            length += len(piece)
            data = base64.b64encode(piece).decode("ascii")
            self._line({"picas_piece": number, "of": token.id, "name": name, "data": data})
        return AttachmentInfo(name, token.attachments[name].content_type, length, SHA256 + digest.hexdigest())

    def token(self, token: Token, small: dict[str, bytes], large: dict[str, AttachmentInfo]) -> None:
        """Write a token.

        Args:
            small: the bytes of its small files.
            large: what `file` said of the others.
        """
        document: dict[str, Any] = {"_id": token.id, **token.body}
        if token.attachments:
            document["_attachments"] = {
                name: _described(info, small.get(name), large.get(name))
                for name, info in token.attachments.items()
            }
        self._line(document)
        self.content.add(token)

    def end(self) -> None:
        """Write the last line, by which it is known to be whole."""
        line = {"picas_end": self.content.as_dict(), "sha256": self._sum.hexdigest()}
        self._out.write(jsontext.encode(line).encode("ascii") + b"\n")

    def _line(self, value: dict[str, Any]) -> None:
        data = jsontext.encode(value).encode("ascii") + b"\n"
        self._sum.update(data)
        self._out.write(data)


class Reader:
    """Reads an export, and checks it on the way; stands for the pool that it came from.

    The files of the tokens that were read since `forget` can be read: small ones are in memory, large ones in a
    temporary directory.

    Args:
        name: what people call it.
        keep: whether files are to be read at all; they are checked in any case.

    Raises:
        InvalidInput: it is no export, or of a newer version.
    """

    def __init__(self, source: IO[bytes], name: str, *, keep: bool = True) -> None:
        self.url = name
        self._source = source
        self._keep = keep
        self._sum = sha256()
        self._number = 0  # of the line
        self._tokens: dict[str, Token] = {}
        self._small: dict[tuple[str, str], bytes] = {}
        self._large: dict[tuple[str, str], Path] = {}
        self._pieces: dict[tuple[str, str], _Pieces] = {}
        self._directory: Path | None = None
        self._files = 0
        self.content = Content()
        head = self._line()
        if head is None or not isinstance(version := head.get("picas_export"), int):
            raise InvalidInput(f"{name} is no export of PiCaS", "picas export FILE makes one.")
        if version > FORMAT:
            raise InvalidInput(
                f"{name} was made by a newer PiCaS (format {version}; this one knows {FORMAT})",
                "Upgrade this installation: pip install --upgrade picas",
            )
        self.pool = str(head.get("pool"))

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was kept."""
        for pieces in self._pieces.values():
            pieces.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def tokens(self) -> Iterator[Token]:
        """The tokens, each with what is known of its files.

        Raises:
            InvalidInput: it is damaged, or cut short; the message says where.
        """
        while True:
            before = self._sum.hexdigest()
            line = self._line()
            if line is None:
                raise InvalidInput(
                    f"{self.url} is cut short after line {self._number}: its last line is missing",
                    "What was read of it is good; make it again, or find a whole copy, for the rest.",
                )
            if "picas_end" in line:
                if line.get("sha256") != before or line["picas_end"] != self.content.as_dict():
                    raise self._damaged("the sum of all lines is another one")
                if self._source.readline():
                    raise self._damaged("there is more after its end")
                return
            if "picas_piece" in line:
                self._piece(line)
            else:
                yield self._token(line)

    def forget(self) -> None:
        """The files of the tokens so far are not needed any more."""
        self._tokens.clear()
        self._small.clear()
        for path in self._large.values():
            path.unlink()
        self._large.clear()

    # --- As a pool to copy from ---

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        """As of a store, for the tokens since `forget`."""
        return [self._tokens.get(token_id) for token_id in ids]

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        """As of a store, for the tokens since `forget`."""
        place = token_id, name
        if place in self._small:
            yield self._small[place]
            return
        if place not in self._large:
            raise TokenNotFound(f"{self.url}: token {token_id} has no attachment {name}")
        with open(self._large[place], "rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield data

    # --- Reading ---

    def _line(self) -> dict[str, Any] | None:
        """The next line, None at the end; the sum of the lines goes on."""
        try:
            data = self._source.readline()
        except EOFError:  # a compressed file that was cut short
            return None
        except (OSError, zlib.error) as error:
            raise self._damaged(str(error)) from error
        if not data.endswith(b"\n"):
            return None  # the end, or a line that was being written
        self._number += 1
        self._sum.update(data)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._damaged("that is no JSON") from error
        if not isinstance(value, dict):
            raise self._damaged("that is no JSON object")
        return cast("dict[str, Any]", value)

    def _piece(self, line: dict[str, Any]) -> None:
        try:
            number, place = int(line["picas_piece"]), (str(line["of"]), str(line["name"]))
            data = base64.b64decode(line["data"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._damaged("that is no piece of a file") from error
        if number == 0:
            if place in self._pieces:
                self._pieces.pop(place).close()
            self._pieces[place] = _Pieces(self._new_file() if self._keep else None)
        pieces = self._pieces.get(place)
        if pieces is None or not pieces.add(number, data):
            raise self._damaged("a piece of a file is missing before it")

    def _token(self, line: dict[str, Any]) -> Token:
        attached = line.pop("_attachments", {})
        try:
            infos = {name: self._attached(line["_id"], name, each) for name, each in attached.items()}
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise self._damaged("that is no token") from error
        try:
            found = token_from_document(line)
        except InvalidInput as error:
            raise self._damaged(error.message) from error
        for place in [
            place for place in self._pieces if place[0] == found.id
        ]:  # of a version that was replaced
            self._pieces.pop(place).close()
        token = Token(found.id, found.body, None, infos)
        self.content.add(token)
        if self._keep:
            self._tokens[token.id] = token
        return token

    def _attached(self, token_id: str, name: str, described: dict[str, Any]) -> AttachmentInfo:
        """What is said of a file, if its bytes are as it says."""
        place = token_id, name
        if "data" in described:
            data = base64.b64decode(described["data"], validate=True)
            length, digest = len(data), sha256(data).hexdigest()
            if self._keep:
                self._small[place] = data
        else:
            pieces = self._pieces.pop(place)
            pieces.close()
            length, digest = pieces.length, pieces.digest.hexdigest()
            if pieces.path is not None:
                self._large[place] = pieces.path
        info = AttachmentInfo(name, str(described["content_type"]), length, SHA256 + digest)
        if described["length"] != length or described["digest"] != info.digest:
            raise self._damaged(f"{name} of token {token_id} has other bytes than it says")
        return info

    def _new_file(self) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="picas-import-"))
        self._files += 1
        return self._directory / str(self._files)

    def _damaged(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"{self.url} is damaged at line {self._number}: {why}", "Find another copy of it."
        )


class _Pieces:
    """A large file of which the pieces come one by one.

    Args:
        path: where they are written; None if nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.digest = sha256()
        self.length = 0
        self._next = 0
        self._file = None if path is None else open(path, "xb")  # noqa: SIM115 - closed by `close`

    def add(self, number: int, data: bytes) -> bool:
        """Add the next piece; whether it is the next."""
        if number != self._next:
            return False
        self._next += 1
        self.length += len(data)
        self.digest.update(data)
        if self._file is not None:
            self._file.write(data)
        return True

    def close(self) -> None:
        """There are no more."""
        if self._file is not None:
            self._file.close()


def opened(source: IO[bytes]) -> IO[bytes]:
    """The lines of an export, whether it is compressed or not.

    Args:
        source: buffered, so that one can look ahead.
    """
    peek = cast("Any", source).peek(len(_GZIP_MAGIC))
    return cast("IO[bytes]", gzip.GzipFile(fileobj=source)) if peek.startswith(_GZIP_MAGIC) else source


def _described(info: AttachmentInfo, data: bytes | None, large: AttachmentInfo | None) -> dict[str, Any]:
    described: dict[str, Any] = {"content_type": info.content_type}
    if data is not None:
        described.update(
            length=len(data),
            digest=SHA256 + sha256(data).hexdigest(),
            data=base64.b64encode(data).decode("ascii"),
        )
    elif large is not None:
        described.update(length=large.length, digest=large.digest)
    return described


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same in pieces that are not too large for a line; one, if there is nothing."""
    some = False
    for piece in pieces:
        for start in range(0, len(piece), CHUNK_BYTES):
            some = True
            yield piece[start : start + CHUNK_BYTES]
    if not some:
        yield b""
