"""Free tokens that a CouchDB store cannot claim although nobody else has them.

A rule of the database forbids it, or the document cannot be written back as it is: nested too deep, over the
size limit. They are passed over, so that the rest of the pool is worked on, and told when nothing else is left.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from picas.errors import PoolRefused, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.errors import PicasError

REMEMBERED = 100_000
"""So many versions of documents are passed over; older ones are tried again."""

NO_RIGHTS = 20
"""So many claims refused by rules before any has succeeded, and it is no matter of single documents."""


class RefusedClaims:
    """What cannot be claimed, by version: a document that somebody has mended is tried again."""

    def __init__(self) -> None:
        self._versions: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._first: PicasError | None = None
        self._untold = 0
        self._by_rules: TokenRefused | None = None
        self._has_won = False
        self._noted = 0

    def __contains__(self, doc: object) -> bool:
        return isinstance(doc, dict) and (doc.get("_id"), doc.get("_rev")) in self._versions

    def won(self) -> None:
        """Note that a claim has succeeded: we have the right to."""
        self._has_won = True

    def __len__(self) -> int:
        return self._noted

    def note(self, doc: Mapping[str, Any], error: PicasError) -> None:
        """Pass over this version from now on.

        Raises:
            PoolRefused: none of very many could be claimed: we lack the right to.
        """
        self._noted += 1
        self._versions[doc["_id"], doc["_rev"]] = None
        while len(self._versions) > REMEMBERED:
            self._versions.popitem(last=False)
        self._first = self._first or error
        self._untold += 1
        if isinstance(error, TokenRefused):
            self._by_rules = error
        if self._untold >= NO_RIGHTS:
            self._check_rights()

    def tell(self) -> None:
        """Nothing else is left: say once what could not be claimed.

        Raises:
            PoolRefused: nothing at all could: we lack the right to.
            TokenRefused: single tokens could not.
        """
        self._check_rights()
        first, count = self._first, self._untold
        self._first, self._untold = None, 0
        if first is None:
            return
        others = f" (and {count - 1:,} more)" if count > 1 else ""
        raise TokenRefused(
            f"{first.message}; it cannot be claimed and stays todo{others}",
            f"{first.advice}\nSee it by picas show, remove it by picas delete.".strip(),
        )

    def _check_rights(self) -> None:
        if self._by_rules is not None and not self._has_won:
            raise PoolRefused(
                f"no token can be claimed: {self._by_rules.message}",
                "A pilot needs the right to write to the database. " + self._by_rules.advice,
            )
