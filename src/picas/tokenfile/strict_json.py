"""JSON as the standard has it, one value or a list of any length, in constant memory.

Python reads more than JSON (NaN, a key that stands twice, 1e999 as infinity), and what it reads like that no
other client of a pool could read back. So it is refused here, with the place.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, TokenFileError
from picas.tokenfile.source import MAX_LINE_BYTES, has_nul, not_utf8, too_long

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MAX_DEPTH = 100
"""Objects and lists within each other; stores and clients give up at very different depths beyond."""

CHUNK_BYTES = 1 << 16
"""Read at first; doubled while a value is longer."""

_CUT_MARGIN = 16
"""A text that was cut fails to parse within this many characters of its end (``\\u12``, ``-Infin``, ``tru``)."""

_JSONL_ADVICE = "If each line is a token of its own, say so: --format jsonl"
_SPACE = re.compile(r"[ \t\n\r]*")


def loads(text: str) -> Any:
    """The one value that a text is.

    Raises:
        InvalidInput: it is not JSON; the message tells the column.
    """
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"this is not JSON: {error.msg}, at column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise _too_many_digits() from None
    _check(value, text, 0, len(text))
    return value


def stream(file: BinaryIO, source: str) -> Iterator[tuple[int, Any]]:
    """The elements of the list that a file is, or the one value that it is, each with the line it starts on.

    Args:
        file: read from where it stands.
        source: the file's name, for messages.

    Raises:
        TokenFileError: it is not JSON, or not UTF-8, or a value is longer than `MAX_LINE_BYTES`.
    """
    window = _Window(file, source)
    if window.next_sign() == "[":
        window.advance(1)
        yield from _elements(window)
    elif window.next_sign():
        yield window.value()
    if window.next_sign():
        raise window.error("something stands after the end of the JSON", _JSONL_ADVICE)


def _elements(window: _Window) -> Iterator[tuple[int, Any]]:
    if window.next_sign() == "]":
        window.advance(1)
        return
    while True:
        yield window.value()
        sign = window.next_sign()
        if sign not in (",", "]"):
            why = (
                "this is not JSON: expecting ',' or ']'" if sign else "the list has no end: is the file cut?"
            )
            raise window.error(why)
        window.advance(1)
        if sign == "]":
            return
        window.next_sign()


class _Window:
    """The part of a file that is in memory, and where in it we are."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self.file = file
        self.source = source
        self.text = ""
        self.at = 0  # what stands before it is done with
        self.line = 1  # the line of `at`
        self.column = 0  # characters before `at` on that line
        self.ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def next_sign(self) -> str:
        """Go on to the next character that is no white space, and say which; ``""`` at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.advance((found.end() if found else self.at) - self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._fill()

    def advance(self, count: int) -> None:
        self.line, self.column = self._place(self.text, self.at + count)
        self.at += count

    def value(self) -> tuple[int, Any]:
        """The value that starts here, and its line."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not self._may_be_cut(error):
                    line, column = self._place(self.text, error.pos)
                    why = f"this is not JSON: {error.msg}, at column {column + 1}"
                    raise TokenFileError(self.source, line, why) from None
            except InvalidInput as problem:
                raise self.error(problem.message, problem.advice) from None
            except RecursionError:
                raise self.error(_too_deep().message) from None
            except ValueError:
                raise self.error(_too_many_digits().message) from None
            else:
                # a number that touches the end of the window may go on
                if end < len(self.text) or self.ended:
                    return self._taken(value, end)
            if len(self.text) - self.at > MAX_LINE_BYTES:
                raise self.error(too_long().message, too_long().advice)
            self._fill()

    def error(self, why: str, advice: str = "") -> TokenFileError:
        return TokenFileError(self.source, self.line, why, advice)

    def _taken(self, value: Any, end: int) -> tuple[int, Any]:
        # a character has at most four bytes, so most values need no second look
        if (end - self.at) * 4 > MAX_LINE_BYTES and len(self.text[self.at : end].encode()) > MAX_LINE_BYTES:
            raise self.error(too_long().message, too_long().advice)
        try:
            _check(value, self.text, self.at, end)
        except InvalidInput as problem:
            raise self.error(problem.message, problem.advice) from None
        line = self.line
        self.advance(end - self.at)
        return line, value

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        if self.ended:
            return False
        return error.pos >= len(self.text) - _CUT_MARGIN or error.msg.startswith("Unterminated string")

    def _fill(self) -> None:
        self.text = self.text[self.at :]
        self.at = 0
        data = self.file.read(max(CHUNK_BYTES, len(self.text)))
        self.ended = not data
        if b"\0" in data:
            line, _ = self._place_in_data(data, data.index(b"\0"))
            raise TokenFileError(self.source, line, has_nul().message, has_nul().advice)
        try:
            self.text += self._decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            line, column = self._place_in_data(error.object, error.start)
            problem = not_utf8(error.object[error.start], column, self.source)
            raise TokenFileError(self.source, line, problem.message, problem.advice) from None

    def _place(self, text: str, position: int) -> tuple[int, int]:
        """Line and column of a position in the window's text, or in what it would be with more after it."""
        lines = text.count("\n", self.at, position)
        if lines:
            return self.line + lines, position - text.rindex("\n", self.at, position) - 1
        return self.line, self.column + position - self.at

    def _place_in_data(self, data: bytes, position: int) -> tuple[int, int]:
        """The same of a position in data that come after the window's text."""
        text = self.text + data[:position].decode(errors="replace")
        return self._place(text, len(text))


def _check(value: Any, text: str, start: int, end: int) -> None:
    """Refuse what parses but cannot be kept; ``text[start:end]`` is the value's text.

    Raises:
        InvalidInput: too deep, or not Unicode.
    """
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    if text.find("\\u", start, end) >= 0:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidInput("a \\ud… escape stands alone, and half a character is none") from None


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        containers = [inner for inner in level if isinstance(inner, (dict, list))]
        level = [
            item for inner in containers for item in (inner.values() if isinstance(inner, dict) else inner)
        ]
        depth += bool(containers)
    return depth


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"the key {twice!r} stands twice in one object", "Remove one of them.")
    return found


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidInput(f"the number {text[:40]} is too large", "Write it as a string.")
    return number


def _constant(name: str) -> float:
    raise InvalidInput(f"{name} is not JSON", "Leave the field out, or write it as a string.")


def _too_deep() -> InvalidInput:
    return InvalidInput(f"objects and lists are nested deeper than {MAX_DEPTH} levels")


def _too_many_digits() -> InvalidInput:
    return InvalidInput("a number has too many digits", "Write it as a string.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
