"""Which attachments documents have: one that is written without naming its attachments loses them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from picas.tokens import token_from_document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from picas.tokens import Token

REMEMBERED = 20_000
"""Versions of tokens whose attachments' names are remembered, so that a write need not ask for them."""


class Attached:
    """The names of the attachments of versions that this process has seen; for any thread."""

    def __init__(self) -> None:
        self._names: OrderedDict[tuple[str, str], tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def token(self, doc: Mapping[str, Any]) -> Token:
        """The token of a document that was read, its attachments noted."""
        token = token_from_document(doc)
        self.remember(token.id, token.rev, token.attachments)
        return token

    def remember(self, token_id: str, revision: str | None, names: Collection[str]) -> None:
        """Note what a version has attached."""
        if revision is None:
            return
        with self._lock:
            self._names[token_id, revision] = tuple(names)
            while len(self._names) > REMEMBERED:
                self._names.popitem(last=False)

    def known(
        self, tokens: Sequence[Token], fetch: Callable[[Sequence[str]], list[Token | None]]
    ) -> list[tuple[str, ...]]:
        """The names for each token; of versions that are not known they are asked for."""
        unknown = [token.id for token in tokens if (token.id, token.rev or "") not in self._names]
        fetch(unknown)  # remembers what it finds; a version that is not the current one will not be written
        return [self._names.get((token.id, token.rev or ""), ()) for token in tokens]
