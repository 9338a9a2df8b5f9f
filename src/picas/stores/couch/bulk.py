"""Writing documents to a CouchDB database: many small ones in one request, large files streamed with theirs."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from picas.errors import (
    InvalidInput,
    PicasError,
    PoolError,
    PoolRefused,
    PoolUnavailable,
    TokenRefused,
    TokenTooLarge,
)
from picas.stores.couch.http import segment
from picas.stores.couch.http_errors import NotSent
from picas.stores.couch.lost_answers import read_back
from picas.text import deepjson, jsontext
from picas.tokens import AttachmentInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.payload import Payload
    from picas.stores.couch.http import Server
    from picas.tokens import Token

MAX_DOCUMENT_BYTES = 8_000_000
"""CouchDB's own ``max_document_size``, attachments not counted: one larger has a whole ``_bulk_docs`` refused."""

INLINE_BYTES = 1 << 16
"""Attachments up to this size travel in base64 within their document, larger ones stream beside it."""

BULK_BYTES = 8 << 20
"""A ``_bulk_docs`` is sent in parts of about this size."""

LOST_ANSWERS = 3
"""So often a write whose answer was lost is read back and completed, if the server is to be asked with patience."""

CREATED, ACCEPTED, CONFLICT = 201, 202, 409

Stubs = Mapping[str, Optional[AttachmentInfo]]
"""Attachments by name, and what is known of them."""


class Encoded(NamedTuple):
    """A document without attachments, as JSON text: it is encoded once, to know its size and to be sent."""

    id: str
    text: str


@dataclass(frozen=True)
class Write:
    """A document to be written.

    Attributes:
        body: the document, with ``_id`` and, unless it is new, ``_rev``.
        stubs: the attachments that are there and are to stay.
        payloads: what is to be attached.
    """

    body: Encoded | Mapping[str, Any]
    stubs: Stubs = field(default_factory=dict)
    payloads: Sequence[Payload] = ()

    @property
    def document(self) -> Encoded:
        """The body, encoded."""
        if isinstance(self.body, Encoded):
            return self.body
        return Encoded(self.body["_id"], jsontext.encode(self.body))


@dataclass(frozen=True)
class Written:
    """What became of a write: the new revision if it was taken.

    Attributes:
        quorum: False for a write that too few nodes of a cluster have confirmed: it may be one of two winners.
        refused: why the database will not take it the next time either; None for a write that was taken, or
            was not because the document has changed.
    """

    revision: str | None
    quorum: bool = True
    refused: PicasError | None = None


def document(token: Token) -> Encoded:
    """The token's document without attachments, checked to be what the server takes.

    Raises:
        InvalidInput: JSON cannot say it.
        TokenTooLarge: it is over the server's limit.
    """
    body: dict[str, Any] = {"_id": token.id, **token.body}
    if token.rev is not None:
        body["_rev"] = token.rev
    try:
        token.id.encode()
        text = jsontext.encode(body)
        # The server counts bytes of UTF-8, which are never more than those of the text with its escapes.
        size = len(text)
        if size > MAX_DOCUMENT_BYTES:
            size = len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(
            f"token {token.id}: the document cannot be written as JSON: {deepjson.reason(error)}"
        ) from error
    if size > MAX_DOCUMENT_BYTES:
        raise TokenTooLarge(
            f"token {token.id}: its document has {size:,} bytes; at most {MAX_DOCUMENT_BYTES:,} are kept",
            "Put large data in a file or an attachment and its name in the token.",
        )
    return Encoded(token.id, text)


def can_be_written(token: Token) -> bool:
    """Whether a document that was read can go back as it came."""
    try:
        document(token)
    except (InvalidInput, TokenTooLarge):
        return False
    return True


def write(server: Server, database: str, writes: Sequence[Write]) -> list[Written]:
    """Write documents; for each what became of it. One that is refused is no harm to the others.

    Raises:
        InvalidInput: a file has a name that is no text; then nothing is written.
        PoolUnavailable: the server gave no answer; any of them may have been written.
    """
    for each in writes:
        _check_names(each)
    answers: dict[int, Written] = {}
    group: list[tuple[int, Encoded]] = []
    size = 0
    for i, each in enumerate(writes):
        if any(payload.length > INLINE_BYTES for payload in each.payloads):
            answers[i] = _put_with_files(server, database, each)
            continue
        document = _with_attachments(each)
        group.append((i, document))
        size += len(document.text)
        if size > BULK_BYTES:
            answers.update(_post(server, database, group))
            group, size = [], 0
    answers.update(_post(server, database, group))
    return [answers[i] for i in range(len(writes))]


def _check_names(each: Write) -> None:
    for payload in each.payloads:
        try:
            payload.name.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"token {each.document.id}: {payload.name!r} cannot be the name of an attachment: "
                "it is no Unicode text"
            ) from error


def raise_refusals(answers: Sequence[Written], outcome: Sequence[Any]) -> None:
    """Raise if the database refuses some of the documents.

    Raises:
        TokenRefused, TokenTooLarge, InvalidInput: one, and it was alone.
        TokenRefused: some of several; the others are written, as ``outcome`` says.
    """
    refused = [written.refused for written in answers if written.refused is not None]
    if not refused:
        return
    if len(answers) == 1:
        raise refused[0]
    more = f" (and {len(refused) - 1} others)" if len(refused) > 1 else ""
    raise TokenRefused(refused[0].message + more, refused[0].advice, outcome)


def _with_attachments(each: Write) -> Encoded:
    attachments = _stubs(each)
    for payload in each.payloads:
        data = base64.b64encode(payload.read()).decode("ascii")
        attachments[payload.name] = {"content_type": payload.content_type, "data": data}
    return _joined(each.document, attachments)


def _stubs(each: Write) -> dict[str, Any]:
    """The attachments that stay, as a document says so: CouchDB goes by their names, PouchDB's server by digests."""
    return {
        name: {"stub": True}
        if info is None
        else {"stub": True, "content_type": info.content_type, "length": info.length, "digest": info.digest}
        for name, info in each.stubs.items()
    }


def _joined(document: Encoded, attachments: Mapping[str, Any]) -> Encoded:
    if not attachments:
        return document
    return Encoded(document.id, f'{document.text[:-1]},"_attachments":{jsontext.encode(attachments)}}}')


def _post(
    server: Server, database: str, group: Sequence[tuple[int, Encoded]], again: int = LOST_ANSWERS
) -> dict[int, Written]:
    if not group:
        return {}
    body = f'{{"docs":[{",".join(document.text for _, document in group)}]}}'.encode("ascii")
    try:
        answer = server.request("POST", f"{database}/_bulk_docs", body)
    except (InvalidInput, TokenTooLarge) as error:
        # Refused whole, for one document or for its size: the halves may pass.
        if len(group) == 1:
            return {i: Written(None, refused=_naming(document.id, error)) for i, document in group}
        half = len(group) // 2
        return {**_post(server, database, group[:half]), **_post(server, database, group[half:])}
    except NotSent:
        raise
    except PoolUnavailable:
        if not again or not server.patience:
            raise
        revisions = read_back(server, database, [document.text for _, document in group])
        # That it is there says nothing of how many nodes of a cluster have it.
        there = {
            i: Written(found, quorum=False) for (i, _), found in zip(group, revisions) if found is not None
        }
        rest = [each for each in group if each[0] not in there]
        return {**there, **_post(server, database, rest, again - 1)}
    rows = answer.value
    if not isinstance(rows, list) or len(rows) != len(group):
        raise PoolError(f"{server.url} answered a bulk write of {len(group)} documents with something else")
    if any(row.get("id") != document.id for (_, document), row in zip(group, rows)):
        rows = _in_order(server, [document.id for _, document in group], rows)
    return {i: _written(row) for (i, _), row in zip(group, rows)}


def _in_order(
    server: Server, ids: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The rows by the documents' order: PouchDB's server answers many documents in another one.

    Raises:
        PoolUnavailable: they are of other documents.
    """
    by_id: dict[Any, list[Mapping[str, Any]]] = {}
    for row in reversed(rows):
        by_id.setdefault(row.get("id"), []).append(row)
    try:
        return [by_id[token_id].pop() for token_id in ids]
    except (KeyError, IndexError):
        raise PoolUnavailable(f"{server.url} answered a bulk write with the answer to another one") from None


def _naming(token_id: str, error: PicasError) -> PicasError:
    """The same error, of the document and no longer of the request."""
    named = copy(error)
    named.message = f"token {token_id}: {error.message}"
    return named


def _written(row: Mapping[str, Any]) -> Written:
    if row.get("ok"):
        return Written(str(row["rev"]), quorum=not row.get("accepted"))
    if row.get("error") == "conflict":
        return Written(None)
    return Written(None, refused=_refusal(row.get("id"), row.get("reason") or row.get("error")))


def _refusal(token_id: object, reason: object) -> TokenRefused:
    return TokenRefused(
        f"token {token_id}: the database refuses this document: {reason}",
        "A rule in one of its design documents (validate_doc_update) says so; ask whoever runs it.",
    )


def _put_with_files(server: Server, database: str, each: Write) -> Written:
    """One PUT of a document and its files, whole or not at all, of which no file is in memory."""
    token_id = each.document.id
    while True:
        try:
            return _put_multipart(server, database, each)
        except (InvalidInput, TokenTooLarge) as error:
            return Written(None, refused=_naming(token_id, error))
        except PoolRefused as error:
            # Refused is this document, or we are: whether we may still read tells.
            server.request("GET", database)
            return Written(None, refused=_refusal(token_id, error.message))
        except _Shrunk as found:
            # A log that was cut while it was sent is sent again with the length it has now.
            payloads = [found.now if payload.name == found.now.name else payload for payload in each.payloads]
            each = replace(each, payloads=payloads)


class _Shrunk(OSError):
    """A file had become shorter than it was when its length was announced."""

    def __init__(self, now: Payload) -> None:
        super().__init__(f"{now.name} became shorter while it was sent")
        self.now = now


def _between(boundary: str, payload: Payload) -> bytes:
    """What stands before a file. CouchDB goes by the order of the files alone, PouchDB's server by their names."""
    name = "".join(c if c.isprintable() else "_" for c in payload.name).replace('"', "%22")
    kind = payload.content_type if payload.content_type.isprintable() else "application/octet-stream"
    disposition = f'Content-Disposition: attachment; filename="{name}"'
    return f"\r\n--{boundary}\r\n{disposition}\r\nContent-Type: {kind}\r\n\r\n".encode()


def _put_multipart(server: Server, database: str, each: Write) -> Written:
    """Source: CouchDB's HTTP API, "Creating Multiple Attachments" (multipart/related)."""
    boundary = secrets.token_hex(16)
    document = each.document
    attachments = _stubs(each)
    parts: list[tuple[bytes, Payload]] = []
    for payload in each.payloads:
        attachments[payload.name] = {
            "content_type": payload.content_type,
            "length": payload.length,
            "follows": True,
        }
        parts.append((_between(boundary, payload), payload))
    head = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n" + _joined(document, attachments).text
    ).encode("ascii")
    end = f"\r\n--{boundary}--".encode("ascii")

    def body() -> Iterator[bytes]:
        yield head
        for between, payload in parts:
            yield between
            sent = 0
            for chunk in payload.chunks():
                sent += len(chunk)
                yield chunk
            if sent != payload.length:
                raise _Shrunk(payload.as_it_is_now())
        yield end

    length = len(head) + sum(len(between) + payload.length for between, payload in parts) + len(end)
    path = f"{database}/{segment(document.id)}"
    answer = server.upload(path, body(), length, f'multipart/related; boundary="{boundary}"')
    if answer.status == CONFLICT:
        return Written(None)
    return Written(str(answer.value["rev"]), quorum=answer.status == CREATED)
