"""A token before it is in a pool, and what may be in it."""

from __future__ import annotations

import math
import re
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from picas.errors import InvalidInput
from picas.tokenfile import strict_json
from picas.tokens import RESERVED_FIELDS, fresh_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Callable

FRESH: dict[str, Any] = {**fresh_body({}), "output": {}, "uploads": {}, "error": []}
"""The values with which fields that PiCaS keeps itself may be in a token that is being pushed."""

MAX_IDS_IN_MEMORY = 10_000
"""Explicit ids remembered in memory; more than that go to a temporary file."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", type(None): "null"}


class Draft(NamedTuple):
    """What will be a token once it is pushed.

    Attributes:
        fields: the user's fields, ``input`` among them.
        id: the id that the user gave it; None if the pool is to number it.
        source: where it came from, for messages: the file's name, ``<stdin>`` or ``--sweep``.
        line: the line it starts on, from 1; in a sweep its number in the sequence.
    """

    fields: dict[str, Any]
    id: str | None
    source: str
    line: int


class DraftSource(Protocol):
    """What drafts come from: a `TokenFile` or a `Sweep`. It can be iterated any number of times.

    Attributes:
        source: its name, for messages.
        size: how much there is to read, in bytes or drafts.
        position: how much of it the newest iteration has read, for a progress bar.
    """

    source: str

    @property
    def size(self) -> int: ...  # noqa: D102 - see the class

    @property
    def position(self) -> int: ...  # noqa: D102 - see the class

    def __iter__(self) -> Iterator[Draft]: ...

    def check(self, each: Callable[[Draft], None] | None = None) -> int:
        """Read all of it once, so that nothing is pushed of a source that has mistakes.

        Args:
            each: is called with each draft; an `InvalidInput` that it raises counts as a mistake of that line.

        Returns:
            How many drafts there are.

        Raises:
            InvalidInput: something in it cannot become a token; several such things are told at once.
        """


def draft_of(value: Any, source: str, line: int) -> Draft:
    """The draft that a JSON value describes: an object has the fields, a string is the ``input``.

    Raises:
        InvalidInput: it cannot become a token; the message does not name the place.
    """
    if isinstance(value, str):
        return Draft({"input": value}, None, source, line)
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), type(value).__name__)
        raise InvalidInput(f"{kind} is no token", "A token is an object with fields, or a string.")
    fields: dict[str, Any] = {}
    for name, content in value.items():
        if name == "_id":
            continue
        if name in FRESH and type(content) is type(FRESH[name]) and content == FRESH[name]:
            continue
        check_field(name, content)
        fields[name] = content
    return Draft(fields, _checked_id(value["_id"]) if "_id" in value else None, source, line)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Make sure that a user may set these fields to these values.

    Raises:
        InvalidInput: one of them may not be set.
    """
    for name, value in fields.items():
        check_field(name, value)


def check_field(name: str, value: Any) -> None:
    """Make sure that a user may set this field to this value.

    Raises:
        InvalidInput: PiCaS keeps the field itself, or its value would mean nothing.
    """
    if not name:
        raise InvalidInput("a field has no name")
    if name in FRESH:
        raise InvalidInput(
            f"'{name}' is kept by PiCaS itself: in a new token it can only be {FRESH[name]!r}",
            "Leave it out, or give it another name.",
        )
    if name in RESERVED_FIELDS:
        raise InvalidInput(
            f"'{name}' is kept by PiCaS itself, and is not in a new token",
            "Leave it out, or give it another name.",
        )
    if name.startswith("_"):
        raise InvalidInput(f"'{name}' begins with an underscore, as only '_id' may", "Give it another name.")
    if name == "priority" and not _is_finite_number(value):
        raise InvalidInput(f"the priority is a number, not {value!r}")


def _is_finite_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond what a float can hold
        return False


def _checked_id(token_id: Any) -> str:
    if not isinstance(token_id, str) or not token_id:
        raise InvalidInput(f"'_id' is a string that is not empty, not {token_id!r}")
    if token_id.startswith("_"):
        raise InvalidInput(f"the id {token_id!r} begins with an underscore", "Give it another one.")
    if "\0" in token_id:
        raise InvalidInput(f"the id {token_id!r} has a NUL character in it", "Give it another one.")
    return token_id


def parse_assignment(text: str) -> tuple[str, Any]:
    """The field and the value of ``cores=4``: the value is read as JSON if it is JSON, else it is a string.

    Raises:
        InvalidInput: there is no ``=`` in it, or the field may not be set.
    """
    name, equals, written = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise InvalidInput(f"'{text}' sets no field", "Write it as NAME=VALUE, for instance cores=4")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{text!r} is not UTF-8") from None
    try:
        value = strict_json.loads(written)
    except InvalidInput:
        value = written
    check_field(name, value)
    return name, value


def value_of_text(text: str) -> Any:
    """What a cell of a table means: what JSON reads as a number, true or false is that, else it is a string."""
    bare = text.strip()
    if bare in ("true", "false"):
        return bare == "true"
    if _NUMBER.fullmatch(bare) is None:
        return text
    try:
        number = int(bare) if bare.lstrip("-").isdecimal() else float(bare)
    except ValueError:  # more digits than Python converts
        return text
    return text if isinstance(number, float) and math.isinf(number) else number


class SeenIds:
    """The ids that a file has named so far, and where: in memory while they are few, else in a temporary file."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._spilled: sqlite3.Connection | None = None

    def first_line(self, token_id: str, line: int) -> int | None:
        """Remember that an id stands on a line; the line on which it stood before, None if it did not.

        Raises:
            InvalidInput: there is no space for the temporary file.
        """
        if self._spilled is None and token_id in self._lines:
            return self._lines[token_id]
        try:
            if self._spilled is not None:
                return _first_on_disk(self._spilled, token_id, line)
            self._lines[token_id] = line
            if len(self._lines) > MAX_IDS_IN_MEMORY:
                self._spill()
        except sqlite3.OperationalError as error:
            raise InvalidInput(
                f"its id cannot be compared with the others in a temporary file: {error}",
                "Set TMPDIR to a directory with space.",
            ) from None
        return None

    def close(self) -> None:
        """Remove the temporary file."""
        if self._spilled is not None:
            self._spilled.close()

    def _spill(self) -> None:
        # "" is a database in a temporary file that is deleted when it is closed. Nobody needs it after a crash.
        self._spilled = sqlite3.connect("", isolation_level=None)
        self._spilled.execute("PRAGMA journal_mode = OFF")
        self._spilled.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID")
        self._spilled.execute("BEGIN")
        self._spilled.executemany("INSERT INTO seen VALUES (?, ?)", self._lines.items())
        self._lines.clear()


def _first_on_disk(seen: sqlite3.Connection, token_id: str, line: int) -> int | None:
    if seen.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (token_id, line)).rowcount:
        return None
    (first,) = seen.execute("SELECT line FROM seen WHERE id = ?", (token_id,)).fetchone()
    return int(first)
