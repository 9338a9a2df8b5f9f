"""Waiting for work in a store where a look costs next to nothing: look, pause, look again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

IDLE_SECONDS = (0.1, 1.0)
"""Shortest and longest time between two looks at an empty pool."""

GROWTH = 1.5
"""How much longer each pause is than the one before."""


class TimedWatch:
    """A `picas.stores.base.Watch` that only lets time pass."""

    def __init__(self) -> None:
        self._idle = IDLE_SECONDS[0]

    @property
    def how(self) -> str:
        return f"looking every {IDLE_SECONDS[1]:g} s"

    def begin(self) -> None:
        pass  # there is nothing to remember

    def wait(self, ended: threading.Event) -> bool:
        ended.wait(self._idle * random.uniform(0.5, 1.0))  # noqa: S311 - spreads pilots
        self._idle = min(self._idle * GROWTH, IDLE_SECONDS[1])
        return True

    def close(self) -> None:
        self._idle = IDLE_SECONDS[0]
