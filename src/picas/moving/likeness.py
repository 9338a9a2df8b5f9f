"""Whether two tokens, or two files of tokens, are the same, wherever they are."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from picas.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.tokens import AttachmentInfo, Token

SHA256 = "sha256-"
"""What a digest begins with that is of the file's own bytes."""


class Changed(PoolError):
    """A file is not what the source said of it a moment ago."""


class Source(Protocol):
    """What is copied from: a store, or what stands for one."""

    url: str

    def fetch(self, ids: Sequence[str]) -> list[Token | None]:
        """As of a store."""

    def read_attachment(self, token_id: str, name: str) -> Iterator[bytes]:
        """As of a store."""


def read_file(source: Source, token: Token, info: AttachmentInfo) -> Iterator[bytes]:
    """The bytes of a file, in pieces.

    Raises:
        Changed: before its last piece counts, if it is not what was said of it.
        TokenNotFound: it is not there any more.
    """
    length, digest = 0, sha256()
    for piece in source.read_attachment(token.id, info.name):
        length += len(piece)
        digest.update(piece)
        yield piece
    told = info.digest if info.digest.startswith(SHA256) else ""
    if length != info.length or (told and told != SHA256 + digest.hexdigest()):
        raise Changed(f"{info.name} of token {token.id} is not as it was")


def alike(token: Token, found: Token) -> bool:
    """Whether two tokens are equal, as far as can be told without reading their files."""
    return (
        token.body == found.body
        and token.attachments.keys() == found.attachments.keys()
        and all(_alike_files(info, found.attachments[name]) for name, info in token.attachments.items())
    )


def _alike_files(info: AttachmentInfo, found: AttachmentInfo) -> bool:
    if info.length != found.length or info.content_type != found.content_type:
        return False
    # CouchDB's digest is of what it stored, which for text is compressed: it tells nothing about the text.
    comparable = info.digest.startswith(SHA256) and found.digest.startswith(SHA256)
    return not comparable or info.digest == found.digest


def digest_of(store: Source, token_id: str, name: str) -> bytes:
    """The SHA-256 of a file's bytes."""
    digest = sha256()
    for piece in store.read_attachment(token_id, name):
        digest.update(piece)
    return digest.digest()
