"""Of which generation the program is that runs here: what a few names mean depends on it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_actors_of_0x = 0  # that are at work in this process


def is_oldest() -> bool:
    """Whether an actor of 0.x, one with ``process_token``, is at work."""
    return _actors_of_0x > 0


@contextmanager
def oldest(is_one: bool) -> Iterator[None]:  # noqa: FBT001 - reads as a sentence: oldest(is_one=True)
    """An actor is at work.

    Args:
        is_one: it is one of 0.x.
    """
    global _actors_of_0x  # noqa: PLW0603 - programs call `execute` without saying who they are
    _actors_of_0x += is_one
    try:
        yield
    finally:
        _actors_of_0x -= is_one
