"""The pilot's two errands to the pool, each on a thread of its own, so that work never waits for them.

The `Feeder` claims tokens ahead of need; the `Courier` brings back results in groups. Both try again for
as long as it takes when the pool does not answer, with growing pauses.
"""

from __future__ import annotations

import random
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Callable

from picas.errors import InvalidInput, PicasError, PoolUnavailable
from picas.pool import Result, Verdict
from picas.tokens import Failure, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from picas.pool import Pool
    from picas.selection import Selection
    from picas.spool import Spool
    from picas.tokens import Claimer, Token

GROUP = 100
"""Results brought back in one step at most."""

GROUP_SECONDS = 0.05
"""How long the first result of a group waits for others."""

PAUSE_SECONDS = (0.2, 30.0)
"""Shortest and longest pause before the pool is tried again."""


class Pause:
    """Growing pauses with jitter, so that many pilots do not come back at the same moment."""

    def __init__(self) -> None:
        self._next = PAUSE_SECONDS[0]

    def seconds(self) -> float:
        """How long to pause now."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load needs no secrecy
        self._next = min(self._next * 2, PAUSE_SECONDS[1])
        return pause

    def over(self) -> None:
        """The pool has answered: start again with short pauses."""
        self._next = PAUSE_SECONDS[0]


class Feeder(threading.Thread):
    """Claims tokens on request.

    Attributes:
        claimed: what has been claimed and not been taken by the pilot yet, oldest claim first.
        busy: a request is under way.
        found: how many tokens the last request brought; the pilot sets it back to None once it has seen it.
        error: what ended the feeder; the pilot ends too.
    """

    def __init__(
        self,
        pool: Pool,
        claimer: Claimer,
        order: str,
        on_news: Callable[[], None],
        on_problem: Callable[[PicasError], None],
    ) -> None:
        super().__init__(name="picas-feeder", daemon=True)
        self._pool = pool
        self._claimer = claimer
        self._order = order
        self._on_news = on_news
        self._on_problem = on_problem
        self._requests: SimpleQueue[tuple[int, Selection | None] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self.claimed: SimpleQueue[Token] = SimpleQueue()
        self.busy = False
        self.found: int | None = None
        self.error: BaseException | None = None

    def ask(self, count: int, where: Selection | None) -> None:
        """Claim up to ``count`` tokens; `busy` until that is done."""
        self.busy = True
        self._requests.put((count, where))

    def stop(self) -> None:
        """End the thread once a claim that is under way has come back."""
        self._stopped.set()
        self._requests.put(None)

    def run(self) -> None:
        """Serve requests until stopped."""
        while True:
            request = self._requests.get()
            if request is None or self._stopped.is_set():
                self.busy = False
                return
            try:
                self._serve(*request)
            except BaseException as error:  # noqa: BLE001 - handed to the pilot, which raises it
                self.error = error
                self._stopped.set()
            self.busy = False
            self._on_news()

    def _serve(self, count: int, where: Selection | None) -> None:
        pause = Pause()
        while not self._stopped.is_set():
            try:
                tokens = self._pool.claim_many(count, self._claimer, where=where, order=self._order)
            except PoolUnavailable as error:
                self._on_problem(error)
                self._stopped.wait(pause.seconds())
                continue
            for token in tokens:
                self.claimed.put(token)
            self.found = len(tokens)
            return


class Courier(threading.Thread):
    """Brings results back to the pool.

    Args:
        on_settled: called on this thread with each result and what became of it.

    Attributes:
        error: what the pool refused for good; the results are in the spool, and the pilot ends.
    """

    def __init__(
        self,
        pool: Pool,
        spool: Spool,
        max_scrub: int,
        on_settled: Callable[[Result, Verdict], None],
        on_problem: Callable[[PicasError], None],
    ) -> None:
        super().__init__(name="picas-courier", daemon=True)
        self._pool = pool
        self._spool = spool
        self._max_scrub = max_scrub
        self._on_settled = on_settled
        self._on_problem = on_problem
        self._queue: SimpleQueue[Result | threading.Event] = SimpleQueue()
        self._give_up_at: float | None = None
        self._stopping = threading.Event()
        self._spooled: dict[str, Path] = {}
        self.error: BaseException | None = None
        self.unsent = 0

    def send(self, result: Result) -> None:
        """Bring this result back, soon."""
        self._queue.put(result)

    def flush(self) -> threading.Event:
        """Bring back what has been handed over by now, at once; the event is set when that is done."""
        settled = threading.Event()
        self._queue.put(settled)
        return settled

    def finish(self, patience: float) -> int:
        """Bring back all there is, trying for at most ``patience`` seconds; how many results stay in the spool."""
        self._give_up_at = time.monotonic() + patience
        settled = self.flush()
        self._stopping.set()
        settled.wait()
        return self.unsent

    def run(self) -> None:
        """Serve until `finish`."""
        while True:
            group: list[Result] = []
            event = self._gather(group)
            if group:
                self._settle(group)
            if event is not None:
                event.set()
                if self._stopping.is_set() and self._queue.empty():
                    return

    def _gather(self, group: list[Result]) -> threading.Event | None:
        """Fill the group; the event that asked for it to go now, if one did."""
        item = self._queue.get()
        due = time.monotonic() + GROUP_SECONDS
        while True:
            if isinstance(item, threading.Event):
                return item
            group.append(item)
            if len(group) == GROUP:
                return None
            try:
                item = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except Empty:
                return None

    def _settle(self, group: list[Result]) -> None:
        pause = Pause()
        while self.error is None:
            try:
                verdicts = self._finish(group)
            except PoolUnavailable as error:
                self._on_problem(error)
                self._keep(group)
                if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
                    break
                self._stopping.wait(pause.seconds())
                if self._stopping.is_set():
                    time.sleep(PAUSE_SECONDS[0])
                continue
            except BaseException as error:  # noqa: BLE001 - handed to the pilot, which raises it
                self.error = error
                break
            for result, verdict in zip(group, verdicts):
                kept = self._spooled.pop(result.token.claim_id or "", None)
                if kept is not None:
                    self._spool.drop(kept)
                self._on_settled(result, verdict)
            return
        self._keep(group)
        self.unsent += len(group)

    def _finish(self, group: list[Result]) -> list[Verdict]:
        try:
            return self._pool.finish_many(group, self._max_scrub)
        except (InvalidInput, OSError) as error:
            if len(group) > 1:  # one of them is not as it should be; the others are not to suffer
                return [self._finish([result])[0] for result in group]
            old = group[0]
            message = f"the result could not be saved: {error}"
            outcome = Outcome(126, old.outcome.started, old.outcome.ended, Failure.INFRASTRUCTURE, message)
            return self._pool.finish_many([Result(old.token, outcome)], self._max_scrub)

    def _keep(self, group: list[Result]) -> None:
        for result in group:
            claim = result.token.claim_id or ""
            if claim in self._spooled:
                continue
            try:
                self._spooled[claim] = self._spool.keep(result, self._max_scrub)
            except OSError as error:
                self._on_problem(
                    PoolUnavailable(
                        f"the spool {self._spool.directory} cannot be written: {error.strerror}",
                        "Finished work is kept in memory until the pool or the spool takes it; free some space, "
                        "or set PICAS_SPOOL to another directory.",
                    )
                )
                return
