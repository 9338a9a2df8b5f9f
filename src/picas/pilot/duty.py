"""What a pilot owes its pool, and what the pool tells it: signs of life, a look after others, orders heard.

The pilot's loop asks here whether it may claim and start, and what to stop; a `picas.pilot.heart.Heart` keeps the answers
up to date on its own thread. Where a pilot takes no lease, all is allowed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable

from picas import machine
from picas.errors import InvalidInput, PicasError
from picas.fleet.orders import Orders
from picas.fleet.reaping import Reaped, Reaper
from picas.pilot.heart import Heart
from picas.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.budgets import Budgets
    from picas.pool import Pool
    from picas.spool.spool import Spool
    from picas.tokens import Claimer

LEAST_BEATS = 2
"""A lease is at least so many intervals: one sign of life may come late."""

JOIN_SECONDS = 2.0
"""How long a pilot that ends waits for a sign of life that is under way."""

MOST_RUNNING = 200
"""So many running tokens are named in a pilot's record at the most."""


class Duty:
    """A pilot's duties, from its beginning to its end.

    Args:
        claimer: the pilot.
        lease: for how many seconds it may be silent before others believe it dead; None for no lease.
        interval: seconds between two signs of life.
        about: what to say of it, beside who it is; called on another thread.
        on_news: called on another thread when an order came.
        on_problem: called on another thread with what goes wrong and is tried again.
        on_reaped: called on any thread with what was taken back from dead pilots.
        spool: where results wait.

    Attributes:
        ready: the pilot has said that it lives, and has heard what is ordered.
        reaper: takes back what dead pilots hold.
        unsure: of how many silent pilots it was not certain, at the last look, that they are dead.
    """

    def __init__(  # noqa: PLR0913 - as many as a pilot has to say
        self,
        pool: Pool,
        claimer: Claimer,
        budgets: Budgets,
        lease: float | None,
        interval: float,
        *,
        about: Callable[[], Mapping[str, Any]],
        on_news: Callable[[], None],
        on_problem: Callable[[PicasError], None],
        on_reaped: Callable[[Reaped], None],
        spool: Spool,
    ) -> None:
        self._pilot = claimer.pilot
        self._host = claimer.host
        self._fleet = pool.store.fleet if lease is not None else None
        self._own = {
            "host": claimer.host,
            "process": machine.this_process(),
            "jobs": dict(claimer.job_ids),
            "scratch": claimer.scratch,
            "lease": lease,
            "interval": interval,
        }
        self._about = about
        self._on_news = on_news
        self._orders = Orders({})
        self._lapses = 0
        self.unsure = 0
        self._heart: Heart | None = None
        self.ready = threading.Event()
        self.reaper = Reaper(pool, budgets, on_reaped, spool)
        if self._fleet is None or lease is None:
            self.ready.set()
            return
        self._began = pool.store.now()
        self._own["began"] = round(self._began, 3)
        self._heart = Heart(
            self._fleet, self._pilot, self._say, self.reaper, lease, interval, self._hear, on_problem
        )
        self.ready = self._heart.ready

    def start(self) -> None:
        """Give the first sign of life, and go on."""
        if self._heart is not None:
            self._heart.start()

    @property
    def error(self) -> BaseException | None:
        """What the pool refuses for good; the pilot ends."""
        return self._heart.error if self._heart is not None else None

    @property
    def overdue(self) -> bool:
        """Whether others may believe that this pilot is dead: nothing is to be started."""
        return self._heart is not None and self._heart.overdue

    @property
    def is_in_question(self) -> bool:
        """Whether what was claimed and has not begun may be somebody else's by now; said once for each silence."""
        if self._heart is None:
            return False
        lapses, self._lapses = self._lapses, self._heart.lapses
        return self._heart.overdue or self._lapses != lapses

    @property
    def why_leave(self) -> str:
        """Why the pilot is to finish what runs and leave: ``told-to-stop`` or ``barred``; "" if it is not."""
        if self._heart is None:
            return ""
        if self._orders.is_to_stop(self._pilot, self._began):
            return "told-to-stop"
        return "barred" if self._orders.why_barred(self._host) is not None else ""

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be claimed or started."""
        return self._heart is not None and self._orders.paused is not None

    @property
    def may_claim(self) -> bool:
        """Whether tokens may be claimed: the pilot has said that it lives, and has heard what is ordered."""
        return self.ready.is_set() and self.may_start

    @property
    def may_start(self) -> bool:
        """Whether what was claimed may be started."""
        return not (self.overdue or self.is_paused)

    def wanted(self, where: Selection | None) -> Selection | None:
        """Which tokens the pilot is to claim, of those that it wants."""
        if self._heart is None:
            return where
        for held_back in self._orders.held_back:
            others = Selection.parse(f"not ({held_back.text})")
            where = others if where is None else where & others
        return where

    def is_cancelled(self, claim: str | None) -> bool:
        """Whether the attempt of this claim is to be stopped."""
        return self._orders.is_cancelled(claim)

    def look_after_others(self) -> int:
        """Take back what dead pilots hold; how many tokens that were.

        Raises:
            PoolUnavailable, PoolRefused: as the pool does.
        """
        if self._fleet is None:
            return 0
        done = self.reaper.reap()
        self.unsure = len(done.unsure)
        return len(done.tokens)

    def finish(self, *, clean: bool) -> None:
        """Give no more signs of life.

        Args:
            clean: nothing is locked by this pilot any more. Else others take it back, when its lease is over.
        """
        if self._heart is None or self._fleet is None:
            return
        self._heart.stop()
        self._heart.join(JOIN_SECONDS)
        why = self._about().get("reason")
        try:
            if clean and not why:
                self._fleet.forget(self._pilot)
            elif self._heart.ready.is_set():
                self._fleet.beat(self._pilot, {**self._say(), "state": "ended", "clean": clean})
        except PicasError:
            return  # its record tells by its age

    def _say(self) -> dict[str, Any]:
        about = dict(self._about())
        about["running"] = about.get("running", [])[:MOST_RUNNING]
        return {**self._own, **about}

    def _hear(self, orders: Orders) -> None:
        self._orders = orders
        self._on_news()


def check_lease(lease: float, beat: float) -> None:
    """Refuse times that cannot work.

    Args:
        lease: seconds; 0 for none.

    Raises:
        InvalidInput: they cannot.
    """
    if not beat > 0:
        raise InvalidInput(f"beat is {beat}; it must be more than 0 seconds")
    if lease and not lease >= LEAST_BEATS * beat:
        raise InvalidInput(
            f"a lease of {lease:g} s is too short for a sign of life every {beat:g} s",
            f"Let it be at least {LEAST_BEATS} times as long, or 0 for none.",
        )
