"""Results on their way to the courier: gathered in groups and, where the pool is on a server, on disk at once.

A request to a server may hang for minutes. What ends meanwhile is gathered and kept on a thread of its own, so that a
pilot that is killed then has nothing of it in memory alone.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Callable, Union

from picas.work.inprocess import THREAD_MARK

if TYPE_CHECKING:
    from picas.finishing import Result

GROUP = 100
"""Results brought back in one step at most."""

GROUP_BYTES = 8 << 20
"""A group gets no more results once it has so much to attach: a store may have small files in memory at once."""

GROUP_SECONDS = 0.05
"""How long the first result of a group waits for others."""

Mark = Union[threading.Event, None]
"""What may stand between results: an event, which is to be set when all before it are dealt with; None for the end."""

_Item = Union[Callable[[], "Result"], threading.Event, None]


class Inbox:
    """Takes what gathers results, and gives groups of results.

    Attributes:
        group_seconds: how long the first of a group waits for others.
    """

    def __init__(self) -> None:
        self.group_seconds = GROUP_SECONDS
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._go = threading.Event()  # do not wait for more: the group is full, or somebody wants it to go

    def start(self) -> None:
        """Begin; before anything is taken."""

    def put(self, item: _Item) -> None:
        """Take something that gathers a result, or a mark; groups do not wait for more after a mark."""
        self._queue.put(item)
        if not callable(item) or self._queue.qsize() >= GROUP:
            self._go.set()

    def take(self, group: list[Result]) -> list[Mark]:
        """Wait for results and fill the group; the mark that ended it, if one did."""
        item = self._queue.get()
        if callable(item) and self._queue.qsize() < GROUP - 1:
            # Asleep, not woken by each of the others: that would take the interpreter from the pilot every time.
            self._go.wait(self.group_seconds)
        self._go.clear()
        room = GROUP_BYTES
        while callable(item):
            result = item()
            group.append(result)
            room -= _size(result)
            if len(group) == GROUP or room <= 0:
                return []
            try:
                item = self._queue.get_nowait()
            except Empty:
                return []
        return [item]

    def take_all(self, group: list[Result], marks: list[Mark]) -> None:
        """Take all that has come: it is not to wait in memory for a pool that is away."""
        with suppress(Empty):
            while True:
                item = self._queue.get_nowait()
                if callable(item):
                    group.append(item())
                else:
                    marks.append(item)

    def settle(self) -> None:
        """Wait until `take_all` gives all there is; after the last mark."""


class KeepingInbox(Inbox):
    """An inbox that keeps results as soon as they have come.

    Args:
        keep: called on a thread of this inbox with each group.
    """

    def __init__(self, keep: Callable[[list[Result]], None]) -> None:
        super().__init__()
        self._keep = keep
        self._kept: SimpleQueue[tuple[list[Result], list[Mark]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=THREAD_MARK + "keeper", daemon=True)

    def start(self) -> None:
        """Begin to keep what comes."""
        self._thread.start()

    def _serve(self) -> None:
        marks: list[Mark] = []
        while None not in marks:
            group: list[Result] = []
            marks = super().take(group)
            if group:
                self._keep(group)
            self._kept.put((group, marks))

    def take(self, group: list[Result]) -> list[Mark]:
        """Wait for results that are kept and fill the group; the mark that ended it, if one did."""
        kept, marks = self._kept.get()
        group += kept
        while not marks and len(group) < GROUP and sum(map(_size, group)) < GROUP_BYTES:
            try:
                kept, marks = self._kept.get_nowait()
            except Empty:
                break
            group += kept
        return marks

    def take_all(self, group: list[Result], marks: list[Mark]) -> None:
        """Take all that is kept."""
        with suppress(Empty):
            while True:
                kept, more = self._kept.get_nowait()
                group += kept
                marks += more

    def settle(self) -> None:
        """Wait until all that has come is kept; after the last mark."""
        self._thread.join()


def _size(result: Result) -> int:
    return sum(payload.length for payload in result.logs + result.files)
