"""What a pool's tokens amount to: counts with rates, and failures in groups. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.stores.base import Progress


@dataclass(frozen=True)
class Status:
    """Where a pool stands.

    Attributes:
        counts: tokens by state, and ``other`` for documents that are in none.
        rate: tokens finished per second lately; None if it is not known.
        window: the seconds that "lately" means; None without a rate.
        seconds_left: until all that is todo or locked will be finished at this rate; None if there is no
            telling.
        wall_mean: mean wall time in seconds of the tokens finished lately; None if none tells it.
    """

    counts: dict[str, int]
    rate: float | None
    window: float | None
    seconds_left: float | None
    wall_mean: float | None

    @property
    def total(self) -> int:
        """All tokens."""
        return sum(self.counts.values())


def status(counts: Mapping[State | None, int], progress: Progress | None = None) -> Status:
    """The status that counts and recent progress amount to.

    Args:
        progress: None where it is not known; then there is no rate either.
    """
    named = {state.value: counts.get(state, 0) for state in State}
    named["other"] = counts.get(None, 0)
    if progress is None or not progress.finished or progress.seconds <= 0:
        return Status(named, None, None, None, progress.wall if progress else None)
    rate = progress.finished / progress.seconds
    left = named["todo"] + named["locked"]
    return Status(named, rate, progress.seconds, left / rate if left else None, progress.wall)
