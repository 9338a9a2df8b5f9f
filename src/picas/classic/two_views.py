"""Claims from one view, and from another when that lists nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, cast

if TYPE_CHECKING:
    from picas.selection import Selection
    from picas.stores.base import Store
    from picas.tokens import Token


class TwoViews:
    """A store that differs from another in its claims only.

    Args:
        high: what is claimed from first, each time.
        low: the other one, and all else.
    """

    def __init__(self, high: Store, low: Store) -> None:
        self._high = high
        self._low = low

    @property
    def store(self) -> Store:
        """This, as what it is: a type checker does not see what is handed on."""
        return cast("Store", self)

    def claim(
        self, take: Callable[[Token], Token], limit: int, where: Selection | None, order: str
    ) -> list[Token]:
        """As of a store."""
        return self._high.claim(take, limit, where, order) or self._low.claim(take, limit, where, order)

    def next_due(self, where: Selection | None = None) -> float | None:
        """As of a store."""
        due = (self._high.next_due(where), self._low.next_due(where))
        return min((when for when in due if when is not None), default=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._low, name)
