"""Which attachments documents have: one that is written without naming its attachments loses them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from picas.tokens import token_from_document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from picas.stores.couch.bulk import Stubs
    from picas.tokens import Token

REMEMBERED = 20_000
"""Versions of tokens whose attachments' names are remembered, so that a write need not ask for them."""


class Attached:
    """The attachments of versions that this process has seen; for any thread.

    CouchDB has to be told the names alone. PouchDB's server wants to know its own digests again, and it is asked
    for those of files that were written here.

    Args:
        digests: whether the server wants digests.
    """

    def __init__(self, *, digests: bool = False) -> None:
        self._seen: OrderedDict[tuple[str, str], tuple[str, ...] | Stubs] = OrderedDict()
        self._digests = digests
        self._lock = threading.Lock()

    def token(self, doc: Mapping[str, Any]) -> Token:
        """The token of a document that was read, its attachments noted."""
        token = token_from_document(doc)
        self.remember(token.id, token.rev, token.attachments)
        return token

    def remember(self, token_id: str, revision: str | None, stubs: Stubs) -> None:
        """Note what a version has attached."""
        if revision is None or (self._digests and None in stubs.values()):
            return
        with self._lock:
            self._seen[token_id, revision] = stubs if self._digests else tuple(stubs)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def known(
        self, tokens: Sequence[Token], fetch: Callable[[Sequence[str]], list[Token | None]]
    ) -> list[Stubs]:
        """Those of each token; of versions that are not known they are asked for."""
        unknown = [token.id for token in tokens if (token.id, token.rev or "") not in self._seen]
        fetch(unknown)  # remembers what it finds; a version that is not the current one will not be written
        seen = (self._seen.get((token.id, token.rev or ""), ()) for token in tokens)
        return [dict.fromkeys(each) if isinstance(each, tuple) else each for each in seen]
