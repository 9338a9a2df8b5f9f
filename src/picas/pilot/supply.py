"""What a pilot has claimed and not begun: never more than about two seconds of work for each slot.

Claims are made on a thread of their own (the `Feeder`), so that work never waits for the pool. How much is
claimed ahead follows from how long tokens take: nothing while that is unknown or long, hundreds while they
take milliseconds. What then waits behind work that has become long goes back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from functools import cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Callable

from picas.backoff import Backoff
from picas.errors import PicasError, PoolUnavailable, TokenRefused
from picas.overdue import within
from picas.pilot.lookout import Lookout
from picas.selection import Selection
from picas.work.inprocess import THREAD_MARK

if TYPE_CHECKING:
    from picas.pilot.horizon import Horizon
    from picas.pool import Pool
    from picas.tokens import Claimer, Token

    Prepare = Callable[[Token, Callable[[float], bool]], None]

AHEAD_SECONDS = 2.0
"""How much work, by measured time, a pilot claims for each slot before it can start it."""

AHEAD_TOKENS = 1000
"""How many tokens it claims ahead at the most, however short they are."""

CLAIM_BATCH = 200
"""Tokens claimed in one step at the most."""

RETRY_SECONDS = 1.0
"""After so long an empty pool is looked at again for a slot that has become free: what was there may fit now."""

PAUSE_SECONDS = (0.2, 30.0)
"""Shortest and longest pause before a pool that did not answer is tried again."""

STALE_SECONDS = 10.0
"""After so long without a start, what was claimed ahead goes back: the tokens have become longer, others are free."""

STALE_CHECK_SECONDS = 2.0
"""How often a feeder that has nothing to do looks for what to give back."""

SMOOTHING = 0.2
"""Weight of the newest token in the mean time that a token takes."""

GIVE_BACK_SECONDS = 0.2
"""Pause between two tries to give back what was claimed, of a pilot that has to go."""


class Supply:
    """The tokens that one pilot has claimed and not begun.

    Args:
        where: which tokens are wanted.
        order: one of `picas.settings.config.ORDERS`.
        workers: the pilot's slots.
        on_news: called on another thread when a claim has come back.
        on_problem: called with what goes wrong and is tried again.
        on_wait: called on another thread when it is waited for new tokens, with how that is done.
        any_size: the tokens' ``cores`` say nothing of this pilot's slots.
        horizon: the time that is left; None for any.
        prepare: called on another thread with each token that was claimed, before it may be begun, and with what waits
            for so many seconds and says whether the pilot goes.

    Attributes:
        empty: the last claim found nothing, and nobody has said since that there is more.
        where: which tokens are wanted; may be changed.
    """

    def __init__(  # noqa: PLR0913 - as many as a pilot has to say
        self,
        pool: Pool,
        claimer: Claimer,
        where: Selection | None,
        order: str,
        workers: int,
        on_news: Callable[[], None],
        on_problem: Callable[[PicasError], None],
        on_wait: Callable[[str], None],
        *,
        any_size: bool = False,
        horizon: Horizon | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self._pool = pool
        self._horizon = horizon
        self._too_long: deque[Token] = deque()
        self._any_size = any_size
        self.where = where
        self._workers = workers
        self._on_problem = on_problem
        self._queue: deque[Token] = deque()
        self._feeder = Feeder(
            pool,
            claimer,
            order,
            on_news,
            on_problem,
            self._take_stale,
            self._too_long.extend,
            horizon=horizon,
            prepare=prepare,
        )
        self._mean_wall: float | None = None
        self._last_start = 0.0
        self._lookout = Lookout(pool.store.watch(), on_news, on_wait, on_problem)
        self._asked = self._answered = 0.0  # when the last claim began and came back
        self._asked_for = 0  # the most cores that a token was to have
        self._retry_at: float | None = None
        self._to_wait = False  # the last claim found nothing, and it is not waited for more yet
        self.empty = False

    @property
    def error(self) -> BaseException | None:
        """What ended the claiming; the pilot ends too."""
        return self._feeder.error or self._lookout.error

    @property
    def pending(self) -> bool:
        """Whether there are tokens, or may be in a moment."""
        claimed = self._queue or self._too_long or not self._feeder.claimed.empty()
        return bool(claimed or self._feeder.busy)

    @property
    def next_look(self) -> float | None:
        """When to `refill` from a pool that was empty, by the monotonic clock; None for when it is told of news."""
        return None if self._feeder.busy else self._retry_at

    @property
    def wants_more(self) -> bool:
        """Whether it is time to `refill` while work runs on."""
        return not self._feeder.busy and len(self._queue) < CLAIM_BATCH

    def __len__(self) -> int:
        return len(self._queue)

    # --- Taking ---

    def collect(self) -> None:
        """Take in what has been claimed by now."""
        feeder = self._feeder
        if feeder.busy:
            return
        with contextlib.suppress(Empty):
            while True:
                self._queue.append(feeder.claimed.get_nowait())
        if feeder.found is None:
            return
        if feeder.found:
            self.look_again()
        else:
            self.empty = self._to_wait = True
            self._answered = time.monotonic()
        feeder.found = None

    def look_again(self) -> None:
        """Do not believe that the pool is empty: something may have come back to it."""
        self.empty = self._to_wait = False
        self.rest()

    def rest(self) -> None:
        """Do not wait for more tokens, for the time being."""
        self._lookout.end()

    def first(self) -> Token | None:
        """The token that is next, left where it is."""
        try:
            return self._queue[0]
        except IndexError:  # the feeder's thread takes from the other end
            return None

    def take(self, free: int) -> Token | None:
        """The next token to begin; None if there is none, or if it takes more than so many free slots."""
        while True:
            try:
                token = self._queue.popleft()
            except IndexError:
                return None
            if self._horizon is None or self._horizon.sort([token])[0]:
                break
            self._too_long.append(token)  # time has passed since it was claimed
        if min(self._workers, token.cores) > free:
            self._queue.appendleft(token)
            return None
        self._last_start = time.monotonic()
        return token

    def put_back(self, token: Token) -> None:
        """Return a token that was taken and could not be begun."""
        self._queue.appendleft(token)

    # --- Claiming ---

    def measure(self, wall: float) -> None:
        """Learn from a token that took so many seconds."""
        mean = self._mean_wall
        self._mean_wall = wall if mean is None else mean + SMOOTHING * (wall - mean)

    def refill(self, free: int, left: int | None, longest: float) -> bool:
        """Claim more if it is time to; whether a claim has begun.

        Args:
            free: slots without work.
            left: how many more tokens the pilot may start; None for any number.
            longest: for how many seconds the longest of the running attempts has been running.
        """
        if self._feeder.busy or self._feeder.found is not None:  # what came since the last `collect` counts
            return False
        self._retry_at = None
        ahead = self._ahead(longest)
        target = free + ahead
        if left is not None:
            target = min(target, left)
        missing = target - len(self._queue)
        if missing <= 0 or len(self._queue) > max(free, target // 2):
            return False
        # While tokens are long only what can start now is claimed, and nothing waits behind a full pilot.
        cores = self._workers if ahead else free
        if self.empty and not self._is_worth_a_look(cores):
            return False
        self._asked, self._asked_for = time.monotonic(), cores
        self._feeder.ask(min(missing, CLAIM_BATCH), self._claimable(cores))
        return True

    def _claimable(self, cores: int) -> Selection | None:
        """Which tokens to claim for so many slots."""
        if self._any_size:
            return self.where
        return _at_most(cores) & self.where if self.where is not None else _at_most(cores)

    def next_due(self) -> float | None:
        """When the first token may be claimed that this pilot could run and that waits for its next try.

        By the store's clock; None if there is none.

        Raises:
            PoolUnavailable: the pool does not tell.
        """
        return self._pool.store.next_due(self._claimable(self._workers))

    def _is_worth_a_look(self, cores: int) -> bool:
        """Whether to claim again from a pool that was empty; if not, it is waited for more."""
        if self._to_wait or not self._lookout.watching:
            self._lookout.begin(self._answered - self._asked)
            self._to_wait = False
        if self._lookout.news:
            return True
        if cores <= self._asked_for:
            return False
        self._retry_at = self._answered + RETRY_SECONDS
        return time.monotonic() >= self._retry_at

    def _ahead(self, longest: float) -> int:
        """How many tokens to hold that cannot start yet."""
        if self._mean_wall is None:
            return 0
        # Those that run may turn out to be much longer than those before them.
        expected = max(self._mean_wall, longest, 1e-6)
        return int(min(AHEAD_TOKENS, AHEAD_SECONDS * self._workers / expected))

    def forsake(self) -> None:
        """Begin nothing of what has been claimed: it goes back as far as it is still ours."""
        with contextlib.suppress(IndexError):
            while True:
                self._too_long.append(self._queue.popleft())

    def _take_stale(self) -> list[Token]:
        """Take out of the queue what others could begin sooner; on the feeder's thread."""
        stale: list[Token] = []
        with contextlib.suppress(IndexError):
            while True:
                stale.append(self._too_long.pop())
        if time.monotonic() - self._last_start > STALE_SECONDS:
            with contextlib.suppress(IndexError):
                while True:
                    stale.append(self._queue.pop())
        return stale

    # --- Beginning and ending ---

    def start(self) -> None:
        """Be ready to claim."""
        self._feeder.start()

    def stop(self) -> None:
        """Claim nothing more."""
        self._lookout.stop()
        self._feeder.stop()

    def join(self, patience: float | None) -> None:
        """Wait until a claim that is under way has come back, for so many seconds at the most; None: for ever."""
        self._feeder.join(patience)
        if self._feeder.is_alive():
            self._on_problem(
                PoolUnavailable(
                    "the pool has not answered a claim; what it has claimed stays locked",
                    "Put it back, once nobody works on it: picas reset locked --older-than 1h",
                )
            )
        self._lookout.join()
        self.collect()

    def give_back(self, time_left: Callable[[], float], *, strictly: bool) -> int:
        """Put back what was claimed and has not begun; how many went back.

        Args:
            time_left: asked after each try that found no pool: for how many seconds to try again.
            strictly: do not wait for an answer that takes longer either.
        """
        released = 0
        self._queue.extend(self._too_long)
        self._too_long.clear()
        while self._queue:
            claimed = list(self._queue)
            try:
                if strictly:
                    released += within(time_left(), lambda given=claimed: self._pool.release(given))  # type: ignore[misc]
                else:
                    released += self._pool.release(claimed)
                self._queue.clear()
            except PoolUnavailable as error:
                self._on_problem(error)
                if time_left() <= 0:
                    break
                time.sleep(GIVE_BACK_SECONDS)
            except PicasError as error:
                self._on_problem(error)
                break
        if self._queue:
            message = f"{len(self._queue)} tokens that have not begun could not be put back and stay locked"
            self._on_problem(PicasError(message, "Put them back by: picas reset locked"))
        return released


class Feeder(threading.Thread):
    """Claims tokens on request, and gives back what was claimed too early.

    Args:
        on_news: called when a request has been served.
        take_stale: gives the tokens that are to be given back.
        keep_stale: takes them again where that was not possible yet.
        horizon, prepare: as of the `Supply`.

    Attributes:
        claimed: what has been claimed and not been taken by the pilot yet, oldest claim first.
        busy: a request is under way.
        found: how many tokens the last request brought; the pilot sets it back to None once it has seen it.
        error: what ended the feeder; the pilot ends too.
    """

    def __init__(  # noqa: PLR0913 - as of the supply
        self,
        pool: Pool,
        claimer: Claimer,
        order: str,
        on_news: Callable[[], None],
        on_problem: Callable[[PicasError], None],
        take_stale: Callable[[], list[Token]],
        keep_stale: Callable[[list[Token]], None],
        *,
        horizon: Horizon | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        super().__init__(name=THREAD_MARK + "feeder", daemon=True)
        self._take_stale = take_stale
        self._keep_stale = keep_stale
        self._horizon = horizon
        self._prepare = prepare
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
            try:
                request = self._requests.get(timeout=STALE_CHECK_SECONDS)
            except Empty:
                self._give_back_stale()
                continue
            if request is None or self._stopped.is_set():
                self.busy = False
                return
            try:
                self._give_back_stale()
                self._serve(*request)
            except BaseException as error:  # noqa: BLE001 - handed to the pilot, which raises it
                self.error = error
                self._stopped.set()
            self.busy = False
            self._on_news()

    def _give_back_stale(self) -> None:
        """Give back what waits behind work that takes much longer than was expected."""
        stale = self._take_stale()
        if not stale:
            return
        try:
            self._pool.release(stale)
        except PicasError as error:
            self._on_problem(error)
            self._keep_stale(stale)
        self._on_news()

    def _serve(self, count: int, where: Selection | None) -> None:
        pause = Backoff(*PAUSE_SECONDS)
        while not self._stopped.is_set():
            try:
                tokens = self._claim(count, where)
            except PoolUnavailable as error:
                self._on_problem(error)
                self._stopped.wait(max(pause.seconds(), error.after))
                continue
            except TokenRefused as error:  # of these tokens, and there are no others
                self._on_problem(error)
                tokens = []
            for token in tokens:
                if self._prepare is not None:
                    self._prepare(token, self._stopped.wait)
                self.claimed.put(token)
            self.found = len(tokens)
            return

    def _claim(self, count: int, where: Selection | None) -> list[Token]:
        """Claim tokens that fit into the time that is left."""
        if self._horizon is None:
            return self._pool.claim_many(count, self._claimer, where=where, order=self._order)
        self._horizon.learn(self._pool)
        while not self._stopped.is_set():
            narrowed = self._horizon.narrowed(where)
            tokens = self._pool.claim_many(count, self._claimer, where=narrowed, order=self._order)
            fitting, others = self._horizon.sort(tokens)
            if others:
                try:
                    self._pool.release(others)
                except PicasError as error:
                    self._on_problem(error)
                    return tokens  # those go back as soon as somebody wants to begin them
            if fitting or not tokens:
                return fitting
        return []


@cache
def _at_most(cores: int) -> Selection:
    return Selection.parse(f"not cores > {cores}")
