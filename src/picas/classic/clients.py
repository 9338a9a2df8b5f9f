"""A database of tokens, as programs of picasclient 1.x know it: ``picas.clients``."""

from __future__ import annotations

import logging
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas.errors import InvalidInput, PoolRefused
from picas.pool import Pool
from picas.settings import config
from picas.stores import PATIENCE_SECONDS, connect, design, open_store, path_of

from . import couch_errors
from .couch_errors import ResourceConflict, ResourceNotFound
from .database import Database
from .documents import Document, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping, Sequence

    from picas.stores.sqlite.store import SqliteStore

    from .rows import StoredDocument, ViewResults

__all__ = ["CouchClient", "CouchDB", "Document", "ResourceConflict", "ResourceNotFound", "Task"]

MONITOR = "Monitor"
"""The design document with the views of all tokens."""

NOT_FREE = ("locked", "done", "error")
"""Views of tokens that no claim takes."""

log = logging.getLogger(__name__)


class CouchDB:
    """A database of tokens and other documents.

    Args:
        url: the server, ``http(s)://host:port``; or a file on this machine, ``sqlite:///path``.
        db: the database's name; without meaning for a file.
        username: who asks the server; if None, whoever the user's configuration names.
        password: the user's password.
        ssl_verification: whether the server's certificate is checked.
        create: make the database, which must not be there yet.

    Attributes:
        db: the database as couchdb-python has it.

    Raises:
        ResourceNotFound: there is no such database. A file is made.
        PreconditionFailed: the database is there already.
        Unauthorized: the server does not know user and password.
        PoolUnavailable: the server does not answer.
    """

    def __init__(
        self,
        url: str = "http://localhost:5984",
        db: str = "test",
        username: str | None = None,
        password: str = "",
        ssl_verification: bool = True,  # noqa: FBT001, FBT002 - existing programs give it by position
        create: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        given = {
            "username": username or None,
            "password": password or None,
            "insecure": None if ssl_verification else True,
        }
        file = url.startswith("sqlite:")
        settings = config.load(url if file else f"{url.rstrip('/')}/{quote(db, safe='')}", given=given)
        self._opened = (settings.pool, settings.access)
        self._connect(create=create)

    def _connect(self, *, create: bool = False) -> None:
        url, access = self._opened
        if url.startswith("sqlite:"):
            from .embedded_database import EmbeddedBackend  # noqa: PLC0415 - only what is used is loaded

            store = _embedded(url, create=create)
            self._opened = (store.url, access)  # the same file after a change of directory
            self.db = Database(EmbeddedBackend(store))
            return
        from picas.stores.couch import admin  # noqa: PLC0415

        from .http_database import HttpBackend  # noqa: PLC0415

        server, name = connect(url, access, patience=PATIENCE_SECONDS)
        try:
            if create and not admin.create_database(server, name):
                raise couch_errors.exists(f"{server.url} has a database {name} already")
            found = server.request("GET", quote(name, safe=""), expect=(404,))
        except PoolRefused as error:
            if server.is_refused:
                raise couch_errors.unauthorized(error.message, error.advice) from error
            raise
        if found.status == 404:
            raise couch_errors.not_found(
                f"there is no database {name} on {server.url}",
                "Check the name; whoever runs the server can make it.",
            )
        self.db = Database(HttpBackend(server, name))

    def copy(self) -> CouchDB:
        """The same database over connections of its own."""
        other = object.__new__(type(self))
        other._opened = self._opened
        other._connect()
        return other

    @cached_property
    def pool(self) -> Pool:
        """The pool in this database: what claims, runs and finishes."""
        url, access = self._opened
        return Pool(open_store(url, access, patience=PATIENCE_SECONDS))

    def claim_pool(self, view: str, design_doc: str = MONITOR, **view_params: Any) -> Pool | None:
        """The pool whose claims take what a view lists; None where a program has to read the view by itself.

        That is so of views of tokens that are not free, of an embedded pool's views that are functions, and with
        any other options.

        Raises:
            ResourceNotFound: there is no such view.
        """
        name = view if "/" in view else f"{design_doc}/{view}"
        if view_params or name.rpartition("/")[2] in NOT_FREE:
            return None
        if name == f"{MONITOR}/todo" and self._lists_all():
            return self.pool
        try:
            return self.pool.through(name)
        except InvalidInput:
            self.view(name, reduce=False, limit=0).rows  # noqa: B018 - raises where there is no such view
            return None

    def _lists_all(self) -> bool:
        """Whether ``Monitor/todo`` is what everybody takes it for: all free tokens. So it is where it is missing."""
        doc = self.db.get(f"_design/{MONITOR}")
        if doc is None or "todo" not in (doc.get("views") or {}):
            return True
        judged = design.judge(MONITOR, doc)
        is_ours = judged.ours and judged.standing in ("current", "older") and not judged.where
        return is_ours or design.known_list(doc["views"]["todo"]) == "todo"

    # --- Reading ---

    def __getitem__(self, idx: str) -> StoredDocument:
        return self.db[idx]

    def get(self, id: str) -> Document:  # noqa: A002 - existing programs give it by name
        """The document of this id.

        Raises:
            ValueError: there is none.
        """
        found = self.db.get(id)
        if found is None:
            raise ValueError(f"{id} is not a document ID in the database")
        return Document(found)

    def view(self, view: str, design_doc: str = MONITOR, **view_params: Any) -> ViewResults:
        """The rows of a view.

        Args:
            view_params: options of CouchDB, such as ``limit`` or ``key``.

        Raises (when the rows are looked at):
            ResourceNotFound: there is no such view.
        """
        return self.db.view(view if "/" in view else f"{design_doc}/{view}", **view_params)

    def get_from_view(self, view: str, **view_params: Any) -> list[Document]:
        """The documents that a view lists.

        Args:
            view_params: as for `view`.

        Raises:
            ResourceNotFound: there is no such view.
        """
        rows = self.view(view, **{"reduce": False, **view_params, "include_docs": True})
        # A document that was deleted since the view was brought up to date is not there any more.
        return [Document(row.doc) for row in rows if row.doc is not None]

    def get_single_from_view(self, view: str, window_size: int = 1, **view_params: Any) -> Document:
        """One of the first documents that a view lists.

        Args:
            window_size: it is one of so many, whichever; of one that many programs read they then take several.
            view_params: as for `view`.

        Raises:
            IndexError: the view lists none.
            ResourceNotFound: there is no such view.
        """
        return secrets.choice(self.get_from_view(view, **{**view_params, "limit": window_size}))

    def is_view_nonempty(self, view: str, **view_params: Any) -> bool:
        """Whether a view lists any document. One that is not there lists none."""
        try:
            rows = self.view(view, **{"reduce": False, **view_params, "limit": 1}).rows
        except ResourceNotFound as error:
            log.info("%s", error.message)
            return False
        return bool(rows)

    def doc_count(self) -> int:
        """How many documents the database has, its design documents among them."""
        return len(self.db)

    # --- Writing ---

    def save(self, doc: Document) -> Document:
        """Write a document, which then has its new revision, and its id if it had none.

        Raises:
            ResourceConflict: it is not the newest version, or new under an id that is taken.
        """
        self.db.save(_fields(doc))
        return doc

    def save_documents(self, docs: Iterable[Document]) -> list[bool]:
        """Write documents in one request; for each whether it was written."""
        return [written for written, _, _ in self.db.update([_fields(doc) for doc in docs])]

    def delete(self, doc: Document) -> None:
        """Remove a document.

        Raises:
            ResourceConflict: it is not the newest version.
            ResourceNotFound: it is gone already.
        """
        self.db.delete(_fields(doc))

    def delete_documents(self, docs: Iterable[Document]) -> list[bool]:
        """Remove documents in one request; for each whether it was removed."""
        return self.db.delete_all([_fields(doc) for doc in docs])

    def delete_from_view(self, view: str, design_doc: str = MONITOR) -> list[bool]:
        """Remove the documents that a view lists; for each whether it was removed.

        Raises:
            ResourceNotFound: there is no such view.
        """
        return self.delete_documents(self.get_from_view(view, design_doc=design_doc))

    def add_view(
        self,
        view: str,
        map_fun: str,
        *args: Any,
        reduce_fun: str | None = None,
        design_doc: str = MONITOR,
        **kwargs: Any,
    ) -> None:
        """Have a view; one of the same name is replaced, others in its design document stay.

        Args:
            map_fun: a function in JavaScript.
            args: the reduce function may be here too, as programs of 0.3 have it.
            reduce_fun: ``_sum``, ``_count``, ``_stats``, or a function in JavaScript.

        Raises:
            PoolRefused: we may not write design documents.
        """
        reduce = reduce_fun or next((arg for arg in args if isinstance(arg, str)), None)
        definition = {"map": map_fun.strip(), **({"reduce": reduce.strip()} if reduce else {}), **kwargs}
        doc_id = f"_design/{design_doc}"
        while True:
            doc = self.db.get(doc_id) or {"_id": doc_id, "language": "javascript"}
            views = doc.get("views") or {}
            if views.get(view) == definition:
                return  # writing it again would have the server build the index anew
            doc["views"] = {**views, view: definition}
            try:
                self.db.save(doc)
            except ResourceConflict:
                continue  # somebody adds another view at the same time
            return

    def set_users(
        self,
        admins: Sequence[str] | None = None,
        members: Sequence[str] | None = None,
        admin_roles: Sequence[str] | None = None,
        member_roles: Sequence[str] | None = None,
    ) -> None:
        """Say who may use the database; what is not given stays as it is.

        Raises:
            PoolRefused: we may not.
        """
        security = self.db.security
        given = (
            ("admins", "names", admins),
            ("admins", "roles", admin_roles),
            ("members", "names", members),
            ("members", "roles", member_roles),
        )
        for group, kind, names in given:
            if names is not None:
                security[group] = {**(security.get(group) or {}), kind: list(names)}
        self.db.security = security


class CouchClient(CouchDB):
    """A database of tokens, as programs of the generation before know it: they use its ``db``."""


def _embedded(url: str, *, create: bool) -> SqliteStore:
    """The store in a file, which is made if it is not there."""
    from picas.stores.sqlite.store import SqliteStore  # noqa: PLC0415

    store = SqliteStore(path_of(url))
    if create and store.documents.versions():
        raise couch_errors.exists(f"there are documents in {url} already")
    return store


def _fields(doc: Document | MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return doc.doc if isinstance(doc, Document) else doc
