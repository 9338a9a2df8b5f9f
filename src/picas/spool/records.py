"""What a journal is made of: records, each with the results of a group, their files' bytes or where those are.

A record has a head (a mark, the lengths of what follows, its SHA-256, and a sum of the head itself), the results as
JSON, and a blob with the bytes of small files. What is shorter than a good head says was being written when its pilot
died; whatever else does not fit is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, TypeVar

from picas.budgets import Budgets
from picas.errors import InvalidInput
from picas.finishing import Result
from picas.payload import Payload, Stretch
from picas.text import jsontext
from picas.tokens import Edits, Failure, Outcome, Usage, token_from_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

SUFFIX = ".journal"
"""What the name of a journal ends with."""

FILES = ".files"
"""What the name of the folder of large files ends with."""

MOST = 2.0**62
"""A time or a size is less than this, or none that can be meant."""

PIECE_BYTES = 1 << 20
"""How much of a blob is in memory at a time when it is checked."""

_MAGIC = b"picas-spool-1"
_HEAD_BYTES = len(_MAGIC) + 1 + 16 + 1 + 16 + 1 + 64 + 1 + 8 + 1


class Kept(NamedTuple):
    """A result as it was kept, and how often its token is tried again if the attempt failed."""

    result: Result
    budgets: Budgets


def text_of(result: Result, budgets: dict[str, Any], files: Sequence[dict[str, Any]]) -> str:
    """A result as JSON.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot say it.
    """
    outcome, edits = result.outcome, result.edits
    document = {
        "token": result.token.document(),
        # As they are: what dataclasses.asdict() does costs more than all the rest.
        "outcome": {**vars(outcome), "usage": None if outcome.usage is None else vars(outcome.usage)},
        "logs": len(result.logs),
        "files": files,
        "budgets": budgets,
        "edits": None if edits is None else vars(edits),
    }
    return jsontext.encode(document)


def record_of(described: Sequence[str], blob: Sequence[bytes]) -> bytes:
    """A record of results as `text_of` describes them, and of the bytes of their small files."""
    text = f"[{','.join(described)}]".encode("ascii")
    data = b"".join(blob)
    digest = hashlib.sha256(text)
    digest.update(data)
    head = b"%s %016x %016x %s " % (_MAGIC, len(text), len(data), digest.hexdigest().encode())
    return b"%s%08x\n%s%s" % (head, zlib.crc32(head), text, data)


def _lengths(head: bytes) -> tuple[int, int, bytes] | None:
    """What the head of a record says: the lengths of text and blob, and their sum; None if it is none."""
    said = head[:-9]
    if not said.startswith(_MAGIC) or head[-9:] != b"%08x\n" % zlib.crc32(said):
        return None
    _, text_bytes, blob_bytes, digest = said.split()
    return int(text_bytes, 16), int(blob_bytes, 16), digest


def _loaded(text: bytes, path: Path, start: int, files: Path) -> list[Kept] | None:
    """The results of a record whose blob begins at ``start``; None for what a later version may have written."""
    kept = []
    try:
        for document in json.loads(text):
            payloads = []
            for file in document["files"]:
                parts = []
                for part in file["parts"]:
                    if isinstance(part, int):
                        parts.append(Stretch(path, start, _bytes(part)))
                        start += part
                    else:
                        name, offset, length = part
                        parts.append(Stretch(files / str(int(name)), _bytes(offset), _bytes(length)))
                payloads.append(Payload(string(file["name"]), string(file["content_type"]), tuple(parts)))
            kept.append(loaded_result(document, payloads))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidInput):
        return None
    return kept


def _of(kind: type[T], value: object) -> T:
    """The value, if it is of this type.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def string(value: object) -> str:
    """The value, if it is a string.

    Raises:
        TypeError: it is not.
    """
    return _of(str, value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(string(each) for each in _of(list, value))


def _number(value: Any) -> float:
    if not -MOST < value < MOST:
        raise ValueError(f"{value!r} is no time, and no size")
    return value  # type: ignore[no-any-return] # an int stays one


def _bytes(value: object) -> int:
    number = _of(int, value)
    if not 0 <= number < MOST:
        raise ValueError(f"{number} is no number of bytes")
    return number


_USAGE: dict[str, Callable[[Any], Any]] = {
    "wall": _number,
    "cpu": _number,
    "max_rss": lambda value: int(_number(value)),
}

_OUTCOME: dict[str, Callable[[Any], Any]] = {
    "exit_code": lambda value: _of(int, value),
    "started": _number,
    "ended": _number,
    "failure": lambda value: Failure(value) if value else None,
    "message": string,
    "exception": string,
    "usage": lambda value: Usage(**_read_as(_USAGE, value)) if value else None,
    "output": lambda value: None if value is None else _of(dict, value),
    "kept": string,
    "notes": _texts,
    "checkpoint": _texts,
    "final": bool,
    "uploads": lambda value: None if value is None else _of(dict, value),
}


def _read_as(fields: Mapping[str, Callable[[Any], Any]], written: Any) -> dict[str, Any]:
    return {name: fields[name](value) for name, value in _of(dict, written).items()}


def _edits(fields: dict[str, Any] | None) -> Edits | None:
    if fields is None:
        return None
    return Edits(_of(dict, fields["changed"]), _texts(fields["removed"]), _texts(fields["detached"]))


def read(path: Path) -> tuple[list[list[Kept]], int]:
    """The whole records of a journal, and how many are damaged; what was only half-written is neither.

    The bytes of the files are not read: they are where the payloads say.

    Raises:
        OSError: it cannot be read.
    """
    records: list[list[Kept]] = []
    damaged = 0
    files = path.with_name(path.name[: -len(SUFFIX)] + FILES)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while size - at >= _HEAD_BYTES:
            file.seek(at)
            lengths = _lengths(file.read(_HEAD_BYTES))
            if lengths is None:
                damaged += 1
                break
            text_bytes, blob_bytes, digest = lengths
            end = at + _HEAD_BYTES + text_bytes + blob_bytes
            if end > size:
                break  # a crash, or a full disk, cut it short: nobody was told that it is kept
            text = file.read(text_bytes)
            known = hashlib.sha256(text)
            for start in range(0, blob_bytes, PIECE_BYTES):
                known.update(file.read(min(PIECE_BYTES, blob_bytes - start)))
            kept = (
                _loaded(text, path, end - blob_bytes, files) if known.hexdigest().encode() == digest else None
            )
            if kept is None:
                damaged += 1
            else:
                records.append(kept)
            at = end
    return records, damaged


def loaded_result(document: dict[str, Any], payloads: Sequence[Payload]) -> Kept:
    """The result of what was written of it.

    Raises:
        KeyError, TypeError, ValueError, InvalidInput: it is not what was written.
    """
    logs = document["logs"]
    result = Result(
        token_from_document(_of(dict, document["token"])),
        Outcome(**_read_as(_OUTCOME, document["outcome"])),
        tuple(payloads[:logs]),
        tuple(payloads[logs:]),
        edits=_edits(document.get("edits")),
    )
    written = document.get("budgets")
    if written is None:  # one of an earlier version
        return Kept(result, Budgets.of_scrub(int(document["max_scrub"])))
    return Kept(result, Budgets.from_dict(written))
