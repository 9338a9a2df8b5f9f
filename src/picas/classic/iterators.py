"""Where an actor's tokens come from, as programs of picasclient 1.x know it: ``picas.iterators``.

An actor with one of these as it is has its tokens claimed by the core, many at a time. What is here works by itself
too: for programs that iterate on their own, and under iterators that programs have written.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Callable

from .couch_errors import is_conflict
from .documents import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .documents import Document

WINDOW = 100
"""A token is one of so many that the view lists first: programs that look at the same moment seldom take the same."""

CONFLICT_PAUSE_SECONDS = (0.05, 2.0)
"""Shortest and longest pause after somebody else was faster, so that many programs get out of each other's way."""

log = logging.getLogger(__name__)


class ViewIterator:
    """Tokens, each locked for this program before it comes. Programs write others by giving ``claim_task``.

    Attributes:
        database: where the tokens are.
    """

    database: Any = None
    _stop = False  # of those that do not call our __init__, too

    def __init__(self) -> None:
        self._stop = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.is_stopped():
            raise StopIteration
        try:
            return self.claim_task()
        except IndexError:
            self.stop()
            raise StopIteration from None

    def claim_task(self) -> Any:
        """The next token, locked and saved.

        Raises:
            IndexError: there is none.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no claim_task; give it one that returns a locked token."
        )

    def stop(self) -> None:
        """Give no more tokens, until `reset`."""
        self._stop = True

    def is_stopped(self) -> bool:
        """Whether it gives no more tokens."""
        return self._stop

    def reset(self) -> None:
        """Begin again, where it was stopped or had found nothing more."""
        self._stop = False

    def reconnect(self, database: Any) -> None:
        """Take tokens from this database from now on."""
        self.database = database


class TaskViewIterator(ViewIterator):
    """The tokens that a view lists.

    Args:
        database: a `picas.clients.CouchDB`, or what has its ``get_single_from_view`` and ``save``.
        view: the view's name.
        view_params: what else is asked of the view, such as ``design_doc``.
    """

    def __init__(self, database: Any, view: str, **view_params: Any) -> None:
        super().__init__()
        self.database = database
        self.view = view
        self.view_params = view_params

    def claim_task(self) -> Document:
        """The next token, locked and saved.

        Raises:
            IndexError: the view lists none.
        """
        return _claim_task(self.database, self.view, **self.view_params)


class PrioritizedViewIterator(ViewIterator):
    """The tokens that a view lists, and when there are none, those of another.

    Args:
        database: as of a `TaskViewIterator`.
        high_priority_view: the view that is looked at first, each time.
        low_priority_view: the other one.
        view_params: what else is asked of both views.
    """

    def __init__(
        self, database: Any, high_priority_view: str, low_priority_view: str, **view_params: Any
    ) -> None:
        super().__init__()
        self.database = database
        self.high_priority_view = high_priority_view
        self.low_priority_view = low_priority_view
        self.view_params = view_params

    def claim_task(self) -> Document:
        """The next token, locked and saved.

        Raises:
            IndexError: neither view lists any.
        """
        try:
            return _claim_task(self.database, self.high_priority_view, **self.view_params)
        except IndexError:
            return _claim_task(self.database, self.low_priority_view, **self.view_params)


class EndlessViewIterator(ViewIterator):
    """The tokens of another iterator, which it looks through again and again: it ends only when told to.

    Args:
        view_iterator: where the tokens come from.
        sleep_sec: seconds between two looks when there are none.
        stop_callback: asked before each token; it ends when that says True.
        stop_callback_args: what it is asked with.
    """

    def __init__(
        self,
        view_iterator: Any,
        sleep_sec: float = 10,
        stop_callback: Callable[..., object] | None = None,
        **stop_callback_args: Any,
    ) -> None:
        super().__init__()
        self.iterator = view_iterator
        self.sleep_sec = sleep_sec
        self.stop_callback = stop_callback
        self.stop_callback_args = stop_callback_args

    def __next__(self) -> Any:
        while not self.is_cancelled():
            try:
                return next(self.iterator)
            except StopIteration:
                self.iterator.reset()
                time.sleep(self.sleep_sec)
        raise StopIteration

    def claim_task(self) -> Any:
        """The next token of the other iterator.

        Raises:
            IndexError: there is none at this moment.
        """
        return self.iterator.claim_task()

    def is_cancelled(self) -> bool:
        """Whether it has been told to end."""
        asked = self.stop_callback
        if not self.is_stopped() and asked is not None and asked(**self.stop_callback_args):
            log.info("no more tokens are taken: the stop_callback says so")
            self.stop()
        return self.is_stopped()

    def reconnect(self, database: Any) -> None:
        """Take tokens from this database from now on."""
        super().reconnect(database)
        self.iterator.reconnect(database)


class BasicViewIterator(ViewIterator):
    """The tokens that a view lists, as actors of 0.x know them: as ``(key, reference, token)``.

    Args:
        client: a `picas.clients.CouchClient`.
        view: design document and view, such as ``Monitor/todo``.
        modifier: how a token is locked; a `picas.modifiers.BasicTokenModifier` if none is given.
        view_params: what else is asked of the view.
    """

    def __init__(self, client: Any, view: str, modifier: Any = None, **view_params: Any) -> None:
        super().__init__()
        if modifier is None:
            from .modifiers import BasicTokenModifier  # noqa: PLC0415 - seldom left out

            modifier = BasicTokenModifier()
        self.client = self.database = client
        self.view = view
        self.modifier = self.token_modifier = modifier
        self.view_params = view_params

    def claim_task(self) -> tuple[str, str, Any]:
        """The next token, locked and saved: its id, its id, and the document.

        Raises:
            IndexError: the view lists none.
        """
        pause, longest = CONFLICT_PAUSE_SECONDS
        design, _, view = self.view.rpartition("/")
        params = {"design_doc": design, **self.view_params} if design else self.view_params
        while True:
            found = self.client.get_single_from_view(view, window_size=WINDOW, **params)
            token = self.modifier.lock(found.doc)
            try:
                self.client.db[token["_id"]] = token
            except Exception as error:
                if not is_conflict(error):
                    raise
                time.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            return token["_id"], token["_id"], token

    def reconnect(self, database: Any) -> None:
        """Take tokens from this database from now on."""
        super().reconnect(database)
        self.client = database


def _claim_task(database: Any, view: str, **view_params: Any) -> Document:
    """Lock one of the tokens that a view lists, and save it; again while others are faster.

    Raises:
        IndexError: the view lists none.
    """
    pause, longest = CONFLICT_PAUSE_SECONDS
    while True:
        found = database.get_single_from_view(view, window_size=WINDOW, **view_params)
        task = Task(found)
        try:
            saved: Document = database.save(task.lock())
        except Exception as error:
            if not is_conflict(error):
                raise
            time.sleep(pause)
            pause = min(2 * pause, longest)
            continue
        return saved
