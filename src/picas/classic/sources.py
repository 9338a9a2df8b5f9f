"""Where an actor's tokens come from: claimed by the core where that is the same, else from the actor's own iterator."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from picas.errors import InvalidInput
from picas.pool import Pool
from picas.tokens import TOKEN_TYPE
from picas.work.inprocess import THREAD_MARK

from .clients import MONITOR, CouchDB
from .iterated import IteratedStore
from .iterators import BasicViewIterator, EndlessViewIterator, PrioritizedViewIterator, TaskViewIterator
from .modifiers import BasicTokenModifier
from .two_views import TwoViews

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Source:
    """Where the tokens come from.

    Attributes:
        iterated: the actor's own iterator, if it is used; its tokens come one at a time.
        wait: there may be more when there are none.
        endless: the iterator that says when to end, if one does.
    """

    pool: Pool
    iterated: IteratedStore | None = None
    wait: bool = False
    endless: EndlessViewIterator | None = None

    @contextmanager
    def ending(self, stop: Callable[[], object]) -> Iterator[None]:
        """Ask now and then whether it is to end, also while there are no tokens.

        Args:
            stop: called when it is; from another thread.
        """
        endless = self.endless
        if endless is None or endless.stop_callback is None:
            yield
            return
        over = threading.Event()

        def ask() -> None:
            while not over.wait(endless.sleep_sec):
                if endless.is_cancelled():
                    stop()
                    return

        thread = threading.Thread(target=ask, name=THREAD_MARK + "ending", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()


def source_of(actor: Any) -> Source:
    """Where this actor's tokens come from."""
    iterator = actor.iterator
    endless = iterator if type(iterator) is EndlessViewIterator else None
    plain = endless.iterator if endless is not None else iterator
    pool = _core_pool(plain)
    if pool is not None:
        return Source(pool, wait=endless is not None, endless=endless)
    database = next(
        (
            found
            for found in (actor.db, getattr(actor, "client", None), getattr(iterator, "database", None))
            if found is not None
        ),
        None,
    )
    base = database.pool.store if isinstance(database, CouchDB) and _is_as_it_is(database) else None
    iterated = IteratedStore(iterator, database, base)
    return Source(Pool(iterated.store), iterated)


def _core_pool(iterator: Any) -> Pool | None:
    """The pool of which the core claims just what this iterator would; None if it is not one of ours as it is."""
    database = getattr(iterator, "database", None)
    if not isinstance(database, CouchDB) or not _is_as_it_is(database):
        return None
    params = dict(getattr(iterator, "view_params", {}))
    design = params.pop("design_doc", MONITOR)
    if params:
        return None
    kind = type(iterator)
    if kind is TaskViewIterator:
        return _through(database, design, iterator.view)
    if kind is BasicViewIterator and type(iterator.modifier) is BasicTokenModifier:
        return _through(database, design, iterator.view)
    if kind is PrioritizedViewIterator:
        high = _through(database, design, iterator.high_priority_view)
        low = _through(database, design, iterator.low_priority_view)
        return None if high is None or low is None else Pool(TwoViews(high.store, low.store).store)
    return None


def _is_as_it_is(database: CouchDB) -> bool:
    """Whether no subclass or test has another idea of how tokens are read and saved."""
    names = ("get_single_from_view", "get_from_view", "view", "get", "save")
    return all(
        getattr(type(database), name) is getattr(CouchDB, name) and name not in vars(database)
        for name in names
    )


def _through(database: CouchDB, design: str, view: str) -> Pool | None:
    """The pool of the tokens that a view lists; None if what it lists is not for the core."""
    name = view if "/" in view else f"{design}/{view}"
    if name == f"{MONITOR}/todo":
        return database.pool
    try:
        pool = database.pool.through(name)
    except InvalidInput:  # no such view, or one that only the database itself can tell
        return None
    if any(row.doc is None or row.doc.get("type") != TOKEN_TYPE for row in _first(database, name)):
        return None
    return pool


def _first(database: CouchDB, view: str) -> list[Any]:
    return list(database.view(view, limit=1, include_docs=True, reduce=False))
