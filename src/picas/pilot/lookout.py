"""Waiting for work on a thread of its own, so that a pilot that waits still does all else at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Callable, Union

from picas.backoff import Backoff
from picas.errors import PicasError, PoolUnavailable
from picas.work.inprocess import THREAD_MARK

if TYPE_CHECKING:
    from picas.stores.base import Watch

PAUSE_SECONDS = (0.2, 30.0)
"""Shortest and longest pause before a pool that did not answer is looked at again."""

FORGET_SECONDS = 60.0
"""After so long without trouble the next trouble is told again, and met with short pauses first."""

QUICK_SECONDS = 0.5
"""A claim that found nothing and took less is made again as soon as there is news."""

REST_FACTOR = 5
"""One that took longer, only after so many times what it took more: there may be much to look through that is not
for this pilot."""

REST_LONGEST = 30.0
"""But after so many seconds in any case."""

JOIN_SECONDS = 1.0
"""How long a pilot that ends waits for a request that is under way."""


@dataclass
class _Watching:
    """One stretch of waiting: until there is news, or it is ended."""

    not_before: float
    ended: threading.Event = field(default_factory=threading.Event)


_Order = Union[_Watching, str]
_LET_GO, _STOP = "let go", "stop"


class Lookout:
    """Tells a pilot that has found nothing to claim when to try again.

    All methods are for one thread, the pilot's.

    Args:
        watch: how to wait for work in this pool.
        on_news: called, on another thread, when there may be some.
        on_wait: called, on another thread, with how it is waited for: at first, and when that changes.
        on_problem: called, on another thread, with what goes wrong and is tried again.

    Attributes:
        news: there may be work, since `begin`.
        error: what ended the waiting for good; the pilot ends too.
    """

    def __init__(
        self,
        watch: Watch,
        on_news: Callable[[], None],
        on_wait: Callable[[str], None],
        on_problem: Callable[[PicasError], None],
    ) -> None:
        self._watch = watch
        self._on_news = on_news
        self._on_wait = on_wait
        self._on_problem = on_problem
        self._orders: SimpleQueue[_Order] = SimpleQueue()
        self._now: _Watching | None = None
        self._thread: threading.Thread | None = None
        self._pause = Backoff(*PAUSE_SECONDS)
        self._last_trouble = float("-inf")
        self._how = ""
        self.news = False
        self.error: BaseException | None = None

    @property
    def watching(self) -> bool:
        """Whether it has begun and has not ended, be there news or not."""
        return self._now is not None

    def begin(self, cost: float) -> None:
        """Wait for work from now on.

        Args:
            cost: how many seconds the claim took that has found nothing.
        """
        self.news = False
        self._now = _Watching(
            time.monotonic() + min(REST_FACTOR * max(0.0, cost - QUICK_SECONDS), REST_LONGEST)
        )
        self._orders.put(self._now)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=THREAD_MARK + "lookout", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Do not wait any more for now: work has been found, or is to be looked for at once."""
        if self._now is not None:
            self._now.ended.set()
            self._now = None
            self._orders.put(_LET_GO)
        self.news = False

    def stop(self) -> None:
        """Wait no more at all."""
        self.end()
        self._orders.put(_STOP)

    def join(self) -> None:
        """Wait until all is given back, but not for a pool that does not answer."""
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    # --- On its own thread ---

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            if order == _STOP:
                return
            if not isinstance(order, _Watching):
                self._watch.close()
                self._how = ""
                continue
            try:
                self._wait(order)
            except BaseException as error:  # noqa: BLE001 - handed to the pilot, which raises it
                self.error = error
            if not order.ended.is_set():
                self.news = True
                self._on_news()

    def _wait(self, order: _Watching) -> None:
        self._watch.begin()
        news = False
        while not news and not order.ended.is_set():
            try:
                news = self._watch.wait(order.ended)
            except PoolUnavailable as error:
                self._trouble(error, order.ended)
                continue
            if self._watch.how != self._how:
                self._how = self._watch.how
                self._on_wait(self._how)
        order.ended.wait(max(0.0, order.not_before - time.monotonic()))

    def _trouble(self, error: PicasError, ended: threading.Event) -> None:
        """Tell of trouble once, and pause ever longer while it lasts."""
        now = time.monotonic()
        if now - self._last_trouble > FORGET_SECONDS:
            self._pause.over()
            self._on_problem(error)
        ended.wait(self._pause.seconds())
        self._last_trouble = time.monotonic()
