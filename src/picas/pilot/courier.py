"""Bringing results back to the pool, in groups, on a thread of its own, so that work never waits for it.

A group is written to the spool, through to the disk, before a pool on a server is told of it. The commit of an
embedded pool is on this machine's disk itself: there the spool is for what the pool does not take.

While the pool does not answer it is tried again for as long as it takes, with growing pauses, and what has
ended waits in the spool.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

from picas.backoff import Backoff
from picas.errors import InvalidInput, PoolError, PoolUnavailable, TokenRefused, TokenTooLarge
from picas.pilot.inbox import GROUP_SECONDS, Inbox, KeepingInbox, Mark
from picas.spool.salvage import salvage
from picas.work.inprocess import THREAD_MARK
from picas.work.scratch import remove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from picas.budgets import Budgets
    from picas.errors import PicasError
    from picas.finishing import Result, Verdict
    from picas.pool import Pool
    from picas.spool.spool import Spool

MOST_GROUP_SECONDS = 0.5
"""How long it waits at the most where the pool is slow: as long as the group before it took."""

GIVE_UP_SECONDS = 0.5
"""How long a try may take to notice that time is up."""

PAUSE_SECONDS = (0.2, 30.0)
"""Shortest and longest pause before the pool is tried again."""


class Courier(threading.Thread):
    """Brings results back to the pool.

    Args:
        budgets: how often a token whose attempt failed is tried again.
        on_settled: called on this thread with each result and what became of it.

    Attributes:
        error: what the pool refused for good; the results are in the spool, and the pilot ends.
        hurried: the pilot does not want to wait for an unavailable pool any more.
    """

    def __init__(
        self,
        pool: Pool,
        spool: Spool,
        budgets: Budgets,
        on_settled: Callable[[Result, Verdict], None],
        on_problem: Callable[[PicasError], None],
    ) -> None:
        super().__init__(name=THREAD_MARK + "courier", daemon=True)
        self._pool = pool
        self._journal = spool.journal()
        self._spool_works = True
        self._budgets = budgets
        self._on_settled = on_settled
        self._on_problem = on_problem
        on_server = pool.url.startswith(("http://", "https://"))
        self._inbox = KeepingInbox(self._keep) if on_server else Inbox()
        self._give_up_at: float | None = None
        self.hurried = False
        self._stopping = threading.Event()
        self._abandoned = threading.Event()  # nobody waits for this thread any more
        self._under_way: tuple[list[Result], list[Mark]] = [], []
        self.error: BaseException | None = None
        self.unsent = 0
        self._sent = self._settled = 0

    def send(self, gather: Callable[[], Result]) -> None:
        """Bring this result back, soon.

        Args:
            gather: called on a thread of the courier's; gathers what the attempt left behind.
        """
        self._sent += 1
        self._inbox.put(gather)

    @property
    def waiting(self) -> int:
        """How many results have been handed over and are not in the pool."""
        return self._sent - self._settled

    def flush(self) -> threading.Event:
        """Bring back what has been handed over by now, at once; the event is set when that is done."""
        settled = threading.Event()
        self._inbox.put(settled)
        return settled

    def hurry(self) -> None:
        """Do not try again any more from now on; may be called by a signal handler."""
        self.hurried = True

    def finish(self, patience: float, *, strictly: bool = False) -> int:
        """Bring back all there is, trying for at most ``patience`` seconds, and end; how many stay unsent.

        Args:
            strictly: do not wait for an answer that takes longer either, as from a server that hangs.
        """
        self._give_up_at = time.monotonic() + patience
        settled = self.flush()
        self._inbox.put(None)
        self._stopping.set()
        while not settled.wait(GIVE_UP_SECONDS if strictly else None):
            # A try that ends by itself ends in time; this one does not.
            if self.hurried or time.monotonic() >= self._give_up_at + GIVE_UP_SECONDS:
                self._abandon()
                break
        self.join(None if settled.is_set() else 0.0)
        self._journal.close()
        return self.unsent

    def _abandon(self) -> None:
        """Leave a request that is under way to itself, and all results in the spool."""
        self._abandoned.set()
        group, marks = self._under_way
        self._inbox.settle()
        self._inbox.take_all(group, marks)
        self._give_up(group)

    def run(self) -> None:
        """Serve until `finish`."""
        self._inbox.start()
        while not self._abandoned.is_set():
            group: list[Result] = []
            marks = self._inbox.take(group)
            if group:
                self._settle(group, marks)
            for mark in marks:
                if mark is None:
                    return
                mark.set()

    def _settle(self, group: list[Result], marks: list[Mark]) -> None:
        """Bring these results back, and those that come while the pool does not answer.

        Args:
            marks: gets what stood between those, to be dealt with afterwards.
        """
        pause = Backoff(*PAUSE_SECONDS)
        self._under_way = group, marks
        while self.error is None:
            begun = time.monotonic()
            try:
                settled = self._finish(group)
            except PoolUnavailable as error:
                if self._abandoned.is_set():
                    return
                self._on_problem(error)
                self._inbox.take_all(group, marks)
                self._keep(group)
                if self._is_time_up():
                    break
                self._pause(max(pause.seconds(), error.after))
                continue
            except BaseException as error:  # noqa: BLE001 - handed to the pilot, which raises it
                self.error = error
                break
            took = time.monotonic() - begun
            self._inbox.group_seconds = min(max(GROUP_SECONDS, took), MOST_GROUP_SECONDS)
            self._note(settled)
            return
        self._give_up(group)

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)
        if self._stopping.is_set():
            time.sleep(PAUSE_SECONDS[0])

    def _note(self, settled: Sequence[tuple[Result, Verdict | None]]) -> None:
        """Tell what became of results."""
        if self._abandoned.is_set():
            return
        self._settled += len(settled)
        self._journal.drop(result for result, verdict in settled if verdict is not None)
        refused = [result for result, verdict in settled if verdict is None]
        if refused:
            self._give_up(refused)
            with suppress(OSError):  # then they stay among the others
                self._journal.set_aside(refused, self._budgets)
        for result, verdict in settled:
            if verdict is not None:
                self._on_settled(result, verdict)

    def _is_time_up(self) -> bool:
        if self._give_up_at is None:
            return False
        return self.hurried or time.monotonic() >= self._give_up_at

    def _finish(self, group: list[Result]) -> list[tuple[Result, Verdict | None]]:
        """Write the results back; each as it was written, None for one that the pool does not take at all."""
        try:
            return list(zip(group, self._pool.finish_many(group, budgets=self._budgets)))
        except (InvalidInput, TokenRefused, TokenTooLarge, OSError) as error:
            if len(group) > 1:  # one of them is not as it should be; the others are not to suffer
                return [pair for result in group for pair in self._finish([result])]
            return [self._finish_less(group[0], error)]

    def _finish_less(self, result: Result, error: Exception) -> tuple[Result, Verdict | None]:
        saved, verdict, reason = salvage(self._pool, result, error, self._budgets)
        if verdict is None:
            self._on_problem(PoolError(f"the pool does not take the result of {result.token.id}: {reason}"))
        return saved, verdict

    def _keep(self, group: list[Result]) -> None:
        """Put the results into the spool, as far as they are not there yet and it takes them."""
        try:
            self._journal.keep(group, self._budgets)
        except OSError as error:
            if self._spool_works:  # said once, not for every group
                self._on_problem(
                    PoolUnavailable(
                        f"the spool {self._journal.path.parent} cannot be written: {error.strerror}",
                        "Finished work is kept in memory until the pool or the spool takes it; free some space, "
                        "or set PICAS_SPOOL to another directory.",
                    )
                )
            self._spool_works = False
        else:
            self._spool_works = True

    def _give_up(self, group: list[Result]) -> None:
        """Leave the results in the spool for whoever comes next."""
        self._keep(group)
        self.unsent += len(group)
        for result in group:
            if self._journal.holds(result):
                if result.directory and not result.outcome.kept:
                    remove(result.directory)
                continue
            place = f"What it left is in {result.directory}. " if result.directory else ""
            self._on_problem(
                PoolError(
                    f"the result of {result.token.id} could neither be sent nor kept",
                    f"{place}Run it again: picas reset {result.token.id}",
                )
            )
