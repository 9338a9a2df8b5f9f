"""What a pilot whose batch job ends can still finish: tokens by the time that they declare, or that others took.

Nothing is asked of the pool for it as long as all fits. Once a claim has brought a token that does not, the claims
after it say what they leave; and since the time that is left only becomes less, what did not fit never will.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from picas.errors import PoolError, SelectionError
from picas.selection import Selection
from picas.tokens import State
from picas.walltime import declared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from picas.pool import Pool
    from picas.tokens import Token

SHARE = 0.95
"""A token that declares nothing is expected to take no longer than this share of those that were measured."""

OTHERS = 200
"""Finished tokens in the pool of which is looked how long they took."""

MEASURED = 1000
"""How many of this pilot's own are remembered."""

FEW = 100
"""While so few are known, each of them counts at once."""

FRESH_SECONDS = 1.0
"""After so long at the latest any other one does: tokens may take less time than it takes to sort these."""

MOST_TEXTS = 50
"""Declared times that are no numbers and are left by name; of more, all that are no numbers are left."""

_NUMBERS_ONLY = Selection.parse('not startswith(walltime, "")')


class Horizon:
    """The time that a pilot has left, and what fits into it. From any thread.

    Args:
        closes_at: the monotonic time at which work is to have ended.
        where: which tokens the pilot takes.
    """

    def __init__(self, closes_at: float, where: Selection | None = None) -> None:
        self._where = where
        self._closes_at = closes_at
        self._walls: deque[float] = deque(maxlen=MEASURED)
        self._lock = threading.Lock()
        self._expected = 0.0
        self._expected_until = math.inf  # when it is computed anew
        self._asked = False
        self._limit: int | None = None  # seconds: more than that was found not to fit
        self._texts: set[str] = set()

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._closes_at - time.monotonic()

    # --- How long tokens take ---

    def learn(self, pool: Pool) -> None:
        """Look once how long finished tokens of the pool took, by the oldest ones."""
        if self._asked:
            return
        self._asked = True
        try:
            done = islice(pool.tokens(State.DONE), OTHERS)
            self._add(
                wall
                for token in done
                if isinstance(wall := token.run.get("wall"), (int, float))
                and (self._where is None or self._where.matches(token.id, token.body))
            )
        except PoolError:  # this pilot's own will tell
            self._asked = False

    def measure(self, wall: float) -> None:
        """Learn from a token that was done in so many seconds."""
        self._add([wall])

    def _add(self, walls: Iterable[float]) -> None:
        found = [float(wall) for wall in walls]
        with self._lock:
            self._walls.extend(found)
            few = len(self._walls) <= FEW
            self._expected_until = min(self._expected_until, time.monotonic() + (0 if few else FRESH_SECONDS))

    @property
    def expected(self) -> float:
        """Seconds that a token takes that does not say so itself; 0 as long as nobody knows."""
        with self._lock:
            if time.monotonic() >= self._expected_until:
                walls = sorted(self._walls)
                self._expected = walls[math.ceil(SHARE * len(walls)) - 1] if walls else 0.0
                self._expected_until = math.inf
            return self._expected

    # --- What fits ---

    def fits(self, token: Token) -> bool:
        """Whether a token that is begun now can be expected to end in time."""
        seconds = declared(token.body)
        return (self.expected if seconds is None else seconds) <= self.left

    def sort(self, tokens: Sequence[Token]) -> tuple[list[Token], list[Token]]:
        """Those that fit, and those that do not, which no `narrowed` condition lets through again."""
        fitting: list[Token] = []
        others: list[Token] = []
        for token in tokens:
            (fitting if self.fits(token) else others).append(token)
        for token in others:
            written = token.get("walltime")
            if isinstance(written, str):
                self._texts.add(written)
            elif declared(token.body) is not None:
                self._limit = max(0, math.floor(self.left))
        return fitting, others

    def narrowed(self, where: Selection | None) -> Selection | None:
        """The condition, and that a token is none of those that are known not to fit."""
        conditions = [] if where is None else [where]
        most = f"walltime <= {self._limit}" if self._limit is not None else "walltime > 0"
        if self.expected > self.left:
            conditions.append(Selection.parse(f'walltime > 0 and {most} or startswith(walltime, "")'))
        elif self._limit is not None:
            conditions.append(Selection.parse(f"not walltime > {self._limit}"))
        conditions.extend(self._without_texts())
        joined: Selection | None = None
        for condition in conditions:
            joined = condition if joined is None else joined & condition
        return joined

    def _without_texts(self) -> Iterable[Selection]:
        texts = sorted(self._texts)
        try:
            if texts and len(texts) <= MOST_TEXTS:
                yield Selection.parse(f"walltime not in ({', '.join(map(repr, texts))},)")
                return
        except SelectionError:  # too long, or with characters in it that no condition has
            pass
        if texts:
            yield _NUMBERS_ONLY
