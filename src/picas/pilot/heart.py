"""A pilot's sign of life, on a thread of its own, and what it hears when it gives one.

Every pilot has a record in the pool, rewritten once per interval, and soon after other work has begun. Who has not
given a sign for longer than the lease is believed to be dead: others take its tokens back (`picas.fleet.reaping`), which
each pilot sees to in its turn. On the same way a pilot hears what people order it (`picas.fleet.orders`).
"""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from picas import machine
from picas.backoff import Backoff
from picas.errors import PicasError, PoolRefused, PoolUnavailable
from picas.fleet.orders import Orders
from picas.work.inprocess import THREAD_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.fleet.reaping import Reaper
    from picas.stores.base import Fleet

LEASE_SECONDS = 300.0
"""How long a pilot may be silent before its tokens are taken back, unless it asks for another time."""

BEAT_SECONDS = 60.0
"""How often a pilot gives a sign of life."""

LISTEN_SECONDS = (4.0, 12.0)
"""How often it looks for orders, and says what runs if that has changed: of 300 pilots a look every 30 ms."""

IDLE_SECONDS = (20.0, 40.0)
"""How often it does while nothing runs: those who wait are not to slow down those who work."""

PAUSE_SECONDS = (0.2, 10.0)
"""Shortest and longest pause before a pool that did not answer is told again."""

SILENT_TRIES = 2
"""So many signs in a row have to fail before that is worth a word: the pilot's other requests fail too."""


class Heart(threading.Thread):
    """Gives signs of life for a pilot.

    Args:
        about: what to say of the pilot now; called on this thread.
        lease: seconds; longer than ``interval``.
        interval: seconds between two signs.
        on_orders: called on this thread with what people have ordered, when that has changed, and after every time
            in which the pool did not answer: the pilot may claim and start again.
        on_problem: called on this thread with what goes wrong and is tried again.

    Attributes:
        ready: the first sign has been given: the pilot may claim.
        lapses: how often it was silent for longer than its lease.
        error: what the pool refuses for good; the pilot ends.
    """

    def __init__(
        self,
        fleet: Fleet,
        pilot: str,
        about: Callable[[], Mapping[str, Any]],
        reaper: Reaper,
        lease: float,
        interval: float,
        on_orders: Callable[[Orders], None],
        on_problem: Callable[[PicasError], None],
    ) -> None:
        super().__init__(name=THREAD_MARK + "heart", daemon=True)
        self._fleet = fleet
        self._pilot = pilot
        self._about = about
        self._reaper = reaper
        self._lease = lease
        self._interval = interval
        self._on_orders = on_orders
        self._on_problem = on_problem
        self._stopping = threading.Event()
        self._last_beat: float | None = None  # by the machine's clock, which goes on while it sleeps
        self._said: Mapping[str, Any] = {}
        self._turn_at = 0.0
        self._heard: Mapping[str, Any] = {}
        self.lapses = 0
        self.ready = threading.Event()
        self.error: BaseException | None = None

    @property
    def overdue(self) -> bool:
        """Whether the pilot may be believed dead by now: what it has not begun is maybe somebody else's."""
        last = self._last_beat
        return last is not None and machine.clock()[1] - last >= self._lease

    def stop(self) -> None:
        """Give no more signs."""
        self._stopping.set()

    def run(self) -> None:
        """Beat until stopped."""
        shortest, longest = PAUSE_SECONDS
        pause = Backoff(
            shortest, max(shortest, min(longest, self._interval / 2))
        )  # a short lease is soon over
        failures = 0
        while not self._stopping.is_set():
            try:
                self._beat()
                self._look_after_others()
                self.ready.set()
                if failures:
                    self._on_orders(Orders(self._heard))
                failures = 0
                pause.over()
                seconds = LISTEN_SECONDS if self._said.get("running") else IDLE_SECONDS
                self._stopping.wait(min(random.uniform(*seconds), self._interval))  # noqa: S311 - jitter
            except PoolUnavailable as error:
                failures += 1
                self._reaper.out_of_touch()
                if failures == SILENT_TRIES:
                    self._on_problem(error)
                self._stopping.wait(max(pause.seconds(), error.after))
            except BaseException as error:  # noqa: BLE001 - handed to the pilot, which raises it
                self.error = error
                self.ready.set()
                return

    def _beat(self) -> None:
        """Give a sign if it is time to, or if there is something else to say; hear what is ordered."""
        about = dict(self._about())
        now = machine.clock()[1]
        soon = self._interval * random.uniform(0.7, 1.0)  # noqa: S311 - jitter
        if self._last_beat is None or about != self._said or now - self._last_beat >= soon:
            self._fleet.beat(self._pilot, about)
            lapsed = self.overdue
            self.lapses += lapsed  # before it is not overdue any more: nothing is to be started in between
            self._last_beat, self._said = now, about
            if lapsed:
                self._on_orders(Orders(self._heard))
        heard, _ = self._fleet.control()
        if heard != self._heard:
            self._heard = heard
            self._on_orders(Orders(heard))

    def _look_after_others(self) -> None:
        """Take back what dead pilots hold, if it is this pilot's turn."""
        self._reaper.in_touch()
        now = machine.clock()[1]
        if now < self._turn_at:
            return
        first = not self.ready.is_set()
        self._turn_at = now + self._interval * random.uniform(0.7, 1.0)  # noqa: S311 - jitter
        if (first and self._fleet.steady) or self._fleet.take_turn("reap", self._interval):
            # A server that does not list pilots; whom it does not let in at all hears that of the next sign.
            with suppress(PoolRefused):
                self._reaper.reap()
