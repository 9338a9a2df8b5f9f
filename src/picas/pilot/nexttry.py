"""Whether a pilot that finds nothing more to claim stays for tokens that wait for their next try."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable

from picas.errors import PoolUnavailable

if TYPE_CHECKING:
    from picas.stores.base import Store

SOON_SECONDS = 60.0
"""A token whose time comes within so many seconds is waited for."""

LATE_SECONDS = 10.0
"""One whose time has come so long ago, and that claims do not find, is not for us."""

LOOK_SECONDS = 0.5
"""The shortest time until the pool is looked at again."""


class NextTry:
    """When to look again for tokens that wait for their next try.

    Args:
        next_due: when the time of the first of them comes, by the store's clock; None if there are none.
        store: whose clock that is.
        on_wait: called with the seconds that are waited.

    Attributes:
        look_at: when to look again, by the monotonic clock; None while nothing is waited for.
        due: when the first of those comes that are not waited for, by the store's clock; None if there are none.
    """

    def __init__(
        self, next_due: Callable[[], float | None], store: Store, on_wait: Callable[[float], None]
    ) -> None:
        self._next_due = next_due
        self._store = store
        self._on_wait = on_wait
        self.look_at: float | None = None
        self.due: float | None = None

    @property
    def has_come(self) -> bool:
        """Whether what was waited for can be claimed by now; it is then waited for no more."""
        if self.look_at is None or time.monotonic() < self.look_at:
            return False
        self.look_at = None
        return True

    def is_soon(self) -> bool:
        """Whether to wait, because a token can be tried again soon; asks the pool unless it is known."""
        if self.look_at is not None:
            return True
        try:
            due = self._next_due()
        except PoolUnavailable:  # whoever comes later finds them
            return False
        seconds = due - self._store.now() if due is not None else -LATE_SECONDS
        if -LATE_SECONDS < seconds <= SOON_SECONDS:
            self.look_at = time.monotonic() + max(LOOK_SECONDS, seconds)
            self._on_wait(max(0.0, seconds))
            return True
        self.due = due if seconds > 0 else None
        return False
