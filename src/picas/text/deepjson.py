"""Reading and showing JSON that is nested deeper than Python can follow.

CouchDB takes a megabyte of brackets; Python's parser gives up after some hundred to some thousand. Such a
document must not hide those that came in the same answer, so what is too deep in it is left out, and marked:
the document can be looked at, counted and deleted, and cannot be written back with a part missing.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 100
"""What lies deeper is left out of an answer that is too deep somewhere; the answer's own lists count too."""

_MARK = "\0picas: too deep"
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class TooDeep:
    """Stands for a value that is nested too deep to be read. JSON has no word for it, on purpose."""

    def __str__(self) -> str:
        return "(nested too deep to be read)"

    __repr__ = __str__


def loads(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(data)
    except RecursionError:
        return json.loads(_shallow(data), object_hook=_marked)


def reason(error: Exception) -> str:
    """Why a value cannot be written as JSON, in words, from what the encoder raised."""
    is_deep = isinstance(error, RecursionError) or TooDeep.__name__ in str(error)
    return "it is nested too deep" if is_deep else str(error)


def dumps(value: Any, **options: Any) -> str:
    """JSON text for people to look at: what is nested too deep has a word in its place.

    Args:
        options: for `json.dumps`.
    """
    try:
        return json.dumps(value, default=_word, **options)
    except RecursionError:
        return json.dumps(_cut(value, MAX_DEPTH), default=_word, **options)


def _word(value: object) -> str:
    if isinstance(value, TooDeep):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _cut(value: Any, depth: int) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return TooDeep()
    if isinstance(value, dict):
        return {name: _cut(each, depth - 1) for name, each in value.items()}
    return [_cut(each, depth - 1) for each in value]


def _shallow(data: bytes) -> bytes:
    """The text with a mark in place of each list and object that lies too deep."""
    kept: list[bytes] = []
    depth = 0
    start = 0
    for found in _STRUCTURE.finditer(data):
        if found[0] in b"[{":
            depth += 1
            if depth == MAX_DEPTH:
                kept += [data[start : found.start()], json.dumps({_MARK: 1}).encode("ascii")]
        elif found[0] in b"]}":
            if depth == MAX_DEPTH:
                start = found.end()
            depth -= 1
    if depth:
        raise ValueError("a list or an object in it does not end")
    return b"".join([*kept, data[start:]])


def _marked(value: dict[str, Any]) -> Any:
    return TooDeep() if _MARK in value else value
