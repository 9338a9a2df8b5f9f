"""An embedded pool as a `Backend` of `Database`: what a program of 1.x does to CouchDB, done to the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from picas.errors import (
    InvalidInput,
    PicasError,
    PoolRefused,
    TokenNotFound,
    TokenRefused,
    TokenTooLarge,
)
from picas.stores.base import Change

from . import couch_errors
from .database import as_token
from .embedded_views import EmbeddedViews

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.payload import Payload
    from picas.stores.sqlite.store import SqliteStore
    from picas.tokens import Token

    Item = tuple[Token, tuple[Payload, ...]]


class EmbeddedBackend:
    """A `picas.classic.database.Backend`."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.name = store.path.name
        self._views = EmbeddedViews(store)

    # --- Documents ---

    def read(self, doc_id: str) -> dict[str, Any] | None:
        found = self._store.fetch([doc_id])[0]
        return None if found is None else found.document()

    def write(self, docs: Sequence[Mapping[str, Any]]) -> list[str | PicasError]:
        answers: dict[int, str | PicasError] = {}
        gone: dict[int, Item] = {}
        new: dict[int, Item] = {}
        changed: dict[int, Item] = {}
        for i, doc in enumerate(docs):
            try:
                token, files = as_token(doc)
                self._views.check(doc)
            except PicasError as error:
                answers[i] = error
                continue
            kind = gone if doc.get("_deleted") else new if token.rev is None else changed
            kind[i] = (token, files)
        for items, write in ((gone, self._delete), (new, self._insert), (changed, self._replace)):
            answers.update(self._in_one_step(items, write))
        return [answers[i] for i in range(len(docs))]

    def _in_one_step(
        self,
        items: dict[int, Item],
        write: Callable[[list[Item]], list[str | None]],
    ) -> dict[int, str | PicasError]:
        """Write all; where the store refuses them for one, each by itself."""
        try:
            revisions = write(list(items.values())) if items else []
        except (InvalidInput, TokenRefused, TokenTooLarge) as error:
            if len(items) == 1:
                return dict.fromkeys(items, error)
            apart = (self._in_one_step({i: item}, write) for i, item in items.items())
            return {i: told for each in apart for i, told in each.items()}
        return {
            i: revision if revision is not None else self._conflict(items[i][0].id)
            for i, revision in zip(items, revisions)
        }

    def _insert(self, items: list[Item]) -> list[str | None]:
        added = self._store.insert([token for token, _ in items], {token.id: files for token, files in items})
        return [None if token is None else token.rev for token in added]

    def _replace(self, items: list[Item]) -> list[str | None]:
        changes = {
            i: Change(*items[i], remove=tuple(now.attachments.keys() - items[i][0].attachments.keys()))
            for i, now in self._unchanged(items).items()
        }
        written = dict(zip(changes, self._store.replace(list(changes.values()))))
        answers = [written.get(i) for i in range(len(items))]
        return [None if token is None else token.rev for token in answers]

    def _delete(self, items: list[Item]) -> list[str | None]:
        there = self._unchanged(items)
        deleted = dict(zip(there, self._store.delete(list(there.values()))))
        return [f"{token.rev}-deleted" if deleted.get(i) else None for i, (token, _) in enumerate(items)]

    def _unchanged(self, items: list[Item]) -> dict[int, Token]:
        """Those of the documents, by their place, that are still the version that was read."""
        there = self._store.fetch([token.id for token, _ in items])
        return {
            i: now
            for i, ((token, _), now) in enumerate(zip(items, there))
            if now is not None and now.rev == token.rev
        }

    def _conflict(self, doc_id: str) -> PicasError:
        return couch_errors.conflict(
            f"{self.name}: the document {doc_id} is not the version any more that was read",
            "Read it again, and change what there is now.",
        )

    def attachment(self, doc_id: str, name: str) -> bytes | None:
        try:
            return b"".join(self._store.read_attachment(doc_id, name))
        except TokenNotFound:
            return None

    def query(self, design: str, view: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._views.query(design, view, options)

    # --- The database ---

    def info(self) -> Mapping[str, Any]:
        return {"db_name": self.name, "doc_count": len(self._store.documents.versions())}

    def security(self) -> dict[str, Any]:
        raise self._without_users()

    def secure(self, security: Mapping[str, Any]) -> None:
        raise self._without_users()

    def _without_users(self) -> PoolRefused:
        return PoolRefused(
            f"{self._store.url} is a file and has no users",
            f"Whoever may read and write it may use it: chmod, chgrp {self._store.path}",
        )
