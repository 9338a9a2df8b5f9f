"""The design documents of an embedded pool: the classic views, for programs and for claims by ``view``.

They are data in the file, and need no building: the file has an index for what they list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.errors import PoolUnavailable
from picas.stores import design
from picas.stores.base import Change
from picas.stores.design import CLASSIC, Judged
from picas.stores.designs import Designs, Found
from picas.tokens import Token

if TYPE_CHECKING:
    from picas.stores.designs import Made, OnProgress
    from picas.stores.sqlite import SqliteStore
    from picas.tokens import State

    Document = dict[str, Any]


class FileDesigns(Designs):
    """The same as of a CouchDB database, but for what only a server needs.

    ``Monitor`` is there also where nobody has written it.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._place = store.url

    def get(self, name: str) -> Document | None:
        return self._store.documents.design(name)

    def survey(self) -> list[Found]:
        names = {CLASSIC, *self._store.documents.design_names()}
        return [self._survey(name) for name in sorted(names)]

    def _survey(self, name: str) -> Found:
        doc = self.get(name)
        judged = (
            design.judge(name, doc) if doc is not None else Judged("classic", ours=True, standing="current")
        )
        views = (doc or design.classic()).get("views") or {}
        rows = {view: self._rows_of(f"{name}/{view}") for view in views}
        return Found(name, judged, rows, slow=False, pending=0)

    def _rows_of(self, view: str) -> int | None:
        listed = self._store.documents.listed(view)
        if listed is None:
            return None
        state, where = listed
        counts: dict[State | None, int] = self._store.counts(where)
        return sum(count for each, count in counts.items() if each is not None and state in (None, each))

    def create_own(self, on_progress: OnProgress | None = None) -> list[Made]:
        return []

    def build(self, name: str, on_progress: OnProgress | None = None) -> None:
        """Nothing is to be waited for."""

    def _exchange(self, name: str, found: Document, wanted: Document, on_progress: OnProgress | None) -> None:
        self._put(name, {**wanted, "_rev": found["_rev"]})

    def _put(self, name: str, document: Document) -> None:
        body = {key: value for key, value in document.items() if not key.startswith("_")}
        token = Token(f"_design/{name}", body, document.get("_rev"))
        written = self._store.replace([Change(token)]) if token.rev else self._store.insert([token])
        if written[0] is None:
            raise PoolUnavailable(
                f"{self._place}: somebody else is writing the design document {name} at the same time",
                "Try again.",
            )

    def _delete(self, name: str) -> None:
        found = [token for token in self._store.fetch([f"_design/{name}"]) if token is not None]
        self._store.delete(found)

    def _clean_up(self) -> None:
        """An index that nobody needs is no more than a document."""
