"""Small things that programs of 1.x use."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any


def merge_dicts(dict1: dict[Any, Any], dict2: dict[Any, Any]) -> dict[Any, Any]:
    """A deep copy of the first one, with the entries of the second one added or in place of its own."""
    merged = deepcopy(dict1)
    merged.update(dict2)
    return merged


def seconds() -> int:
    """The time in whole seconds since 1970, as ``lock`` and ``done`` have it."""
    return int(time.time())


class Timer:
    """How much time has passed, in seconds."""

    def __init__(self) -> None:
        self.t = time.time()

    def elapsed(self) -> float:
        """Seconds since it was made or last reset."""
        return time.time() - self.t

    def reset(self) -> float:
        """Begin again; the seconds that had passed."""
        now = time.time()
        passed, self.t = now - self.t, now
        return passed


def time_elapsed(timer: Timer, max: float = 30.0) -> bool:  # noqa: A002 - the name in 1.x
    """Whether a timer has gone on for longer than so many seconds.

    It fits as ``stop_function`` of `picas.actors.RunActor.run`.
    """
    return timer.elapsed() > max
