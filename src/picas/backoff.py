"""Growing pauses with jitter, so that many who were turned away do not come back at the same moment."""

from __future__ import annotations

import random


class Backoff:
    """The pauses between tries of one thing.

    Args:
        shortest, longest: seconds; each pause is between half of the present length and all of it, and the
            length doubles with every pause.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def seconds(self) -> float:
        """How long to pause now."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load needs no secrecy
        self._next = min(self._next * 2, self._longest)
        return pause

    def over(self) -> None:
        """It worked: begin with short pauses the next time."""
        self._next = self._shortest
