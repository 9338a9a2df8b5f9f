"""Tokens as rows of the table ``token``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, TokenTooLarge
from picas.stores.sqlite.documents import LATER
from picas.text import jsontext
from picas.tokens import State, ended_at, not_before_of, priority_of, state_of

if TYPE_CHECKING:
    from picas.tokens import Token

MAX_DOCUMENT_BYTES = 8_000_000
"""The largest document kept: CouchDB's own default, so that a pool can move between the two stores."""

MAX_NESTING = 500
"""Lists and objects in each other: more than SQLite's JSON functions and Python's reader take everywhere."""

_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"[^"\\]*(?:\\.[^"\\]*)*"')
_REV = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


def columns(token: Token) -> tuple[str | None, float, float | None, float | None, str]:
    """What the columns ``state``, ``priority``, ``finished``, ``later`` and ``doc`` hold for a token."""
    try:
        token.id.encode()  # a half surrogate pair: UnicodeEncodeError is a ValueError
        doc = jsontext.encode(token.body)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"token {token.id}: the document cannot be written as JSON: {error}") from error
    if _nesting(doc) > MAX_NESTING:
        raise InvalidInput(f"token {token.id}: lists and objects are nested more than {MAX_NESTING} deep")
    if len(doc) > MAX_DOCUMENT_BYTES:
        raise TokenTooLarge(
            f"token {token.id}: its document has {len(doc):,} bytes; at most {MAX_DOCUMENT_BYTES:,} are kept",
            "Put large data in a file or an attachment and its name in the token.",
        )
    state = state_of(token.body)
    finished = ended_at(token.body) if state in (State.DONE, State.ERROR) else None
    later = not_before_of(token.body) if state is State.TODO else 0.0
    name = LATER if later else _STATE_NAMES[state]
    return (name, priority_of(token.body), finished, later or None, doc)


_STATE_NAMES: dict[State | None, str | None] = {None: None, **{state: state.value for state in State}}


def _nesting(doc: str) -> int:
    """How deep lists and objects are in each other; anything up to `MAX_NESTING` if certainly not deeper."""
    if doc.count("[") + doc.count("{") <= MAX_NESTING:  # nearly always: nothing is worth a closer look
        return 0
    deepest = level = 0
    for sign in _BRACKET_OR_STRING.findall(doc):
        if sign in "[{":
            level += 1
            deepest = max(deepest, level)
        elif sign in "]}":
            level -= 1
    return deepest


def rev_of(seq: int, rev: int) -> str:
    """A token's `rev`: its row and the version of it."""
    # The row's number, which is never used again, keeps a token that was deleted and pushed anew apart.
    return f"{seq}-{rev}"


def parse_rev(token: Token) -> tuple[int, int]:
    """The row and the version of it.

    Raises:
        InvalidInput: the token is of another pool.
    """
    found = _REV.fullmatch(token.rev or "")
    if found is None:
        raise InvalidInput(f"token {token.id} was not read from this pool (its rev is {token.rev!r})")
    return int(found[1]), int(found[2])
