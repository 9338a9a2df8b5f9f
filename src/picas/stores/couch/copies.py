"""Attachments of one version of a document, read to be attached again under another name or to another version."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from picas.payload import CHUNK_BYTES, Payload, file_payload
from picas.stores.couch.http import segment
from picas.tokens import token_from_document

if TYPE_CHECKING:
    from pathlib import Path

    from picas.stores.couch.http import Server
    from picas.tokens import Token


def copied(server: Server, database: str, token: Token, name: str, new: str, path: Path) -> Payload | None:
    """An attachment of just this version, to be attached as ``new``; None if it is not there any more.

    The server itself cannot rename one.

    Args:
        database: the database's name, quoted.
        path: where it is kept until then; nothing must be there yet.

    Raises:
        PoolUnavailable, PoolRefused: as requests do.
    """
    version = f"?rev={quote(token.rev or '')}"
    info = token.attachments.get(name)
    if info is None:  # it was written here, and not read since
        answer = server.request("GET", f"{database}/{segment(token.id)}{version}", expect=(404,))
        info = token_from_document(answer.value).attachments.get(name) if answer.status != 404 else None
    pieces = server.download(f"{database}/{segment(token.id)}/{segment(name)}{version}", CHUNK_BYTES)
    if pieces is None or info is None:
        return None
    with open(path, "xb") as file:
        file.writelines(pieces)
    return file_payload(new, info.content_type, path)
