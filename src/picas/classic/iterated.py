"""The tokens that an iterator of a program's own gives, as a store: it claims by asking the iterator.

What it gives has been locked already, by the iterator. The result is saved the way the program's database saves:
that may be a small object of a test, which keeps no more than it is given.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, cast

from picas.tokens import Token, token_from_document

from .couch_errors import is_conflict, is_not_found

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, MutableMapping, Sequence

    from picas.selection import Selection
    from picas.stores.base import Change, Fleet, Store


log = logging.getLogger("picas.actors")


class IteratedStore:
    """What a pilot needs of a store, by way of an iterator and a database.

    Args:
        iterator: gives tokens: documents, or ``(key, reference, document)``.
        base: the store that is the same database, if there is one.
        database: has ``save(task)`` and ``get(id)``; or, of a program of 0.x, ``db``, a mapping of documents.
    """

    at_once = 1

    def __init__(self, iterator: Any, database: Any, base: Store | None) -> None:
        self._iterator = iterator
        self._given: Iterator[Any] | None = None
        self._database = database
        self._base = base
        self.url = self._base.url if self._base is not None else f"iterator:{id(self):x}"
        self._held: dict[str, tuple[Any, Token]] = {}  # by id: what the iterator gave, and the claim
        self._fresh: dict[str, Any] = {}  # by id: a newer version of it

    @property
    def store(self) -> Store:
        """This, as what a pilot takes it for: of a store it has what a pilot asks for."""
        return cast("Store", self)

    def given(self, token: Token) -> Any:
        """What the iterator gave for this claim, whatever kind of object that is."""
        return self._held[token.id][0]

    @property
    def fleet(self) -> Fleet | None:
        """Nobody: the claims are the iterator's, and say nothing of a pilot."""
        return None

    def now(self) -> float:
        """The time of this machine: there is no other."""
        return time.time()

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        """The next token of the iterator."""
        if self._given is None:
            self._given = iter(self._iterator)
        try:
            item = next(self._given)
        except StopIteration:
            return []
        given = item[-1] if isinstance(item, tuple) else item
        token = token_from_document(copy.deepcopy(dict(fields_of(given))))
        # Only the claim is ours: it tells this attempt from others. The lock is the iterator's.
        token = replace_body(token, {**token.body, "picas": take(token).picas})
        self._held[token.id] = given, token
        return [token]

    @property
    def is_kept(self) -> bool:
        """Whether a pool keeps what becomes of the tokens; else the program's own database has it as it is."""
        return self._base is not None

    def replace(self, changes: Sequence[Change]) -> list[Token | None]:
        """Save the tokens; None for each that was saved by somebody else meanwhile."""
        if self._base is not None:
            return self._base.replace(changes)
        return [self._replace(change) for change in changes]

    def _replace(self, change: Change) -> Token | None:
        token = change.token
        target = self._held[token.id][0]
        newer = self._fresh.pop(token.id, None)
        if newer is not None:
            edited = fields_of(target)
            target = newer
            # What the program left goes over what somebody else wrote, if the token is still its own.
            if fields_of(newer).get("lock") == self._held[token.id][1].get("lock"):
                rev = fields_of(newer).get("_rev")
                fields_of(newer).update({**edited, "_rev": rev})
            else:
                log.warning("the result of %s is not saved: somebody else has the token now", token.id)
                return token
        try:
            self._save(target)
        except Exception as error:
            if not is_conflict(error):
                raise
            return None
        return token

    def _save(self, target: Any) -> None:
        if callable(getattr(self._database, "save", None)):
            self._database.save(target)
        else:
            self._database.db[fields_of(target)["_id"]] = target

    def newest(self, token: Token) -> Token | None:
        """The version that there is; as this claim's while it has the lock that was given with it."""
        current = self._base.newest(token) if self._base is not None else self._fetch(token)
        claimed = self._held.get(token.id)
        if current is None or claimed is None or current.claim_id == token.claim_id:
            return current
        lock, host = claimed[1].get("lock"), claimed[1].get("hostname")
        if current.get("lock") == lock and current.get("hostname") == host:
            return replace_body(current, {**current.body, "picas": claimed[1].picas})
        return current

    def _fetch(self, token: Token) -> Token | None:
        try:
            fresh = self._get(token.id)
        except Exception as error:
            if is_not_found(error) or isinstance(error, (ValueError, KeyError)):
                return None
            raise
        self._fresh[token.id] = fresh
        return token_from_document(copy.deepcopy(dict(fields_of(fresh))))

    def _get(self, token_id: str) -> Any:
        if callable(getattr(self._database, "get", None)):
            return self._database.get(token_id)
        return self._database.db[token_id]

    def next_due(self, where: Selection | None = None) -> None:
        """An iterator says nothing of what it does not give."""

    def watch(self) -> _NoWatch:
        """Nobody tells when an iterator has more."""
        return _NoWatch()

    def close(self) -> None:
        """There is nothing of its own to give back."""
        if self._base is not None:
            self._base.close()


class _NoWatch:
    """Waits without being told of anything."""

    how = "not looking"

    def begin(self) -> None:
        """Nothing is to be noted."""

    def wait(self, ended: threading.Event) -> bool:
        """Wait for a second."""
        ended.wait(1.0)
        return False

    def close(self) -> None:
        """Nothing is held."""


def fields_of(given: Any) -> MutableMapping[str, Any]:
    """The fields of what an iterator or a database gave."""
    found: MutableMapping[str, Any] = given.doc if hasattr(given, "doc") else given
    return found


def replace_body(token: Token, body: dict[str, Any]) -> Token:
    """The token with other fields."""
    return replace(token, id=token.id, body=body)
