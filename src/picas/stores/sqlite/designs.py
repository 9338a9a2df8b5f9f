"""The design documents of an embedded pool: which tokens the views of each name list.

There is nothing to be built: the file's own index answers. Monitor is there without having been made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, PoolUnavailable
from picas.stores import design
from picas.stores.base import Change
from picas.stores.classic_designs import ClassicDesigns, Found, Made
from picas.stores.design import CLASSIC, TOTALS
from picas.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from picas.stores.sqlite.store import SqliteStore

    Document = dict[str, Any]
    OnProgress = Callable[[str, int], object]


class SqliteDesigns(ClassicDesigns):
    """The design documents of a pool's file."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store.url)
        self._store = store

    def get(self, name: str) -> Document | None:
        found = self._store.documents.design(name)
        return design.classic() if found is None and name == CLASSIC else found

    def survey(self) -> list[Found]:
        names = sorted({CLASSIC, *self._store.documents.design_names()})
        return [self._found(name, self.get(name) or {}) for name in names]

    def _found(self, name: str, doc: Document) -> Found:
        rows = {view: self._count(f"{name}/{view}") for view in doc.get("views") or {}}
        return Found(name, design.judge(name, doc), rows, slow=False, pending=0)

    def _count(self, view: str) -> int | None:
        """How many rows a view has; None for a function, which nothing here can run."""
        listed = self._store.documents.listed(view)
        if listed is None:
            return None
        counts = self._store.counts(listed[1])
        states = [state for state in counts if state is not None]
        return sum(counts[state] for state in states if view.endswith(f"/{TOTALS}") or state is listed[0])

    def create_own(self, on_progress: OnProgress | None = None) -> list[Made]:
        return []  # claiming and counting need none here

    def create_guard(self, *, force: bool = False) -> Made:
        raise InvalidInput(
            f"{self._place} has no users whom rules could be for",
            "The permissions of the file and its folder say who may use it: chmod, chgrp.",
        )

    def remove(self, name: str, *, force: bool = False) -> None:
        if name == CLASSIC and self._store.documents.design(name) is None:
            raise InvalidInput(
                f"{self._place}: the views in {CLASSIC} are part of every embedded pool",
                "There is nothing to remove.",
            )
        super().remove(name, force=force)

    def _write(
        self, name: str, found: Document | None, wanted: Document, on_progress: OnProgress | None
    ) -> str:
        if (
            found is not None
            and {key: value for key, value in found.items() if not key.startswith("_")} == wanted
        ):
            return "unchanged"
        token = Token(f"_design/{name}", wanted, (found or {}).get("_rev"))
        written = self._store.insert([token]) if token.rev is None else self._store.replace([Change(token)])
        if written[0] is None:
            raise PoolUnavailable(
                f"{self._place}: somebody else is writing the design document {name} at the same time",
                "Try again.",
            )
        return "created" if found is None else "updated"

    def _delete(self, name: str) -> None:
        found = self._store.fetch([f"_design/{name}"])
        self._store.delete([token for token in found if token is not None])
