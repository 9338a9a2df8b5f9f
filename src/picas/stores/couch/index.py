"""What a CouchDB store asks of the views in its database.

Where free tokens are, in which order, how many there are of each state, what was pushed: an index answers
that, from the views that there are. The store itself reads and writes documents by their ids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from picas.selection import Selection
    from picas.stores.base import Progress, Tally

    Document = dict[str, Any]
    Row = dict[str, Any]
    Read = Callable[[Mapping[str, Any]], list[Row]]

PAGE = 200
"""Rows read at a time with their documents."""

STATES: tuple[State | None, ...] = (*State, None)

MEND = "mend"
"""Begins the key of the row that a token has once more if `picas.stores.couch.conflicts` has to look at it."""

OTHER = "other"
"""Begins the key of the row that a token has once more if another program has locked it: see `picas.stores.couch.strangers`."""


LATER = "later"
"""In a key in place of ``todo``: no claim takes the token yet."""

DUE = "due"
"""Begins the key of the row that such a token has once more, by when its time comes."""


class Claimable(Protocol):
    """Where claims look for free tokens. What it tells may be a moment old: documents are looked at again.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def reader(self, where: Selection | None) -> Read:
        """What a `picas.stores.couch.walk.Walk` reads: a function from a query to rows.

        The query is of a view whose keys are [state, −priority, number], with the reduce function _count. Of
        tokens that do not fit there may be rows or not.
        """

    def free_count(self, update: str) -> int:
        """How many tokens are free, by the index alone; cheap.

        Args:
            update: when the index takes in what was written last: ``true`` before it is read, ``lazy`` after.
        """

    def due(self, limit: int) -> list[tuple[float, str]]:
        """When the time of tokens comes that are free and wait for their next try, and their ids; the first one first.

        All that are known: an index that lists them knows all, one that does not those that claims have met.
        """

    def next_due(self, where: Selection | None) -> float | None:
        """See `picas.stores.base.Store.next_due`."""


class Index(Claimable, Protocol):
    """Where tokens of any state are found."""

    def documents(self, states: Collection[State | None]) -> Iterator[Document]:
        """The documents that are in one of these states (None: in none), oldest first, each once."""

    def counts(self) -> dict[State | None, int]:
        """How many tokens are in each state; under None those that are in none."""

    def tally(self, fields: Sequence[Sequence[str]], now: float) -> list[Tally]:
        """See `picas.stores.base.Store.tally`."""

    def latest(self, limit: int) -> list[Document]:
        """So many documents of tokens that ended last, as far as that is known; newest first."""

    def to_mend(self, limit: int) -> list[str]:
        """Ids of tokens with conflicting versions or a claim that was given up, as far as they are known."""

    def last_stranger(self) -> float | None:
        """When a program that is not ours last locked a token, Unix seconds; None for never, as far as is known."""

    def progress(self, now: float, seconds: float) -> Progress:
        """What was finished in the ``seconds`` before ``now``."""

    def push_keys(self, keys: Collection[str], lagging: bool = False) -> set[str]:  # noqa: FBT001, FBT002
        """Those of the push keys that tokens carry; ``lagging``: as far as was known at the last time."""


_DIGITS = re.compile(r"[0-9]{1,15}\Z")


def age_of(token_id: str) -> int:
    """The number at the end of an id, by which tokens are ordered; 0 where there is none. As in views/tokens.js."""
    found = _DIGITS.search(token_id[-15:])
    return int(found[0]) if found else 0
