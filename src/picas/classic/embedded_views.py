"""The views of an embedded pool: the classic five from the file's own index, others by running their functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.stores import design as designs
from picas.tokens import State

from . import couch_errors
from .map_functions import JavaScriptView
from .view_query import Emitted, answer, built_in, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.selection import Selection
    from picas.stores.sqlite.documents import SqliteDocuments
    from picas.stores.sqlite.store import SqliteStore

PAGE = 200
"""Documents that a function is run on at a time."""

_SIMPLE = frozenset(
    "key startkey endkey inclusive_end descending limit skip include_docs reduce stale update".split()
)
"""Options of a question for a list of tokens that the file's own index answers."""


class EmbeddedViews:
    """The views of a pool's file."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._documents = store.documents
        self._indexes: dict[tuple[str, str], MapIndex] = {}  # by map and reduce function

    def query(self, design: str, view: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """CouchDB's answer to a question for rows; see `picas.classic.database.Backend`.

        Raises:
            ResourceNotFound: there is no such view.
            MissingExtra: nothing is installed that could run its function.
        """
        if not design and view == "_all_docs":
            found = self._all_documents(options)
        else:
            listed = self._documents.listed(f"{design}/{view}")
            if listed is None:
                index = self._index(design, view)
                found = answer(index.rows(), options, index.reduce)
            elif listed[0] is None:
                found = self._totals(listed[1], options)
            else:
                found = self._listed(listed[0], listed[1], options)
        if options.get("include_docs"):
            self._with_documents(found["rows"])
        return found

    def _all_documents(self, options: Mapping[str, Any]) -> dict[str, Any]:
        versions = self._documents.versions()
        rows = [Emitted(doc_id, doc_id, {"rev": f"{seq}-{rev}"}) for seq, (rev, doc_id) in versions.items()]
        found = answer(in_order(rows), options, None)
        if options.get("keys") is not None:
            there = {row["id"]: row for row in found["rows"]}
            found["rows"] = [there.get(key, {"key": key, "error": "not_found"}) for key in options["keys"]]
        return found

    def _totals(self, where: Selection | None, options: Mapping[str, Any]) -> dict[str, Any]:
        if options.get("reduce", True) and not options.keys() - {"group", "reduce", "stale", "update"}:
            counts = {state.value: n for state, n in self._store.counts(where).items() if state and n}
            if options.get("group"):
                return {"rows": [{"key": state, "value": counts[state]} for state in sorted(counts)]}
            return {"rows": [{"key": None, "value": sum(counts.values())}] if counts else []}
        rows = [
            Emitted(state.value, doc_id, 1) for state in State for doc_id in self._documents.ids(state, where)
        ]
        return answer(in_order(rows), options, built_in("_sum"))

    def _listed(self, state: State, where: Selection | None, options: Mapping[str, Any]) -> dict[str, Any]:
        low, high = (options.get(end, options.get("key")) for end in ("startkey", "endkey"))
        plain = all(end is None or isinstance(end, str) for end in (low, high))
        if not plain or options.keys() - _SIMPLE:
            rows = [Emitted(each, each, each) for each in self._documents.ids(state, where)]
            return answer(rows, options, None)
        descending = bool(options.get("descending"))
        if descending:
            low, high = high, low
        inclusive = bool(options.get("inclusive_end", True)) or descending
        ids = self._documents.ids(
            state,
            where,
            low=low,
            high=high,
            inclusive=inclusive,
            descending=descending,
            limit=options.get("limit"),
            skip=options.get("skip") or 0,
        )
        total = self._store.counts(where)[state]
        return {
            "total_rows": total,
            "offset": options.get("skip") or 0,
            "rows": [{"id": each, "key": each, "value": each} for each in ids],
        }

    def _with_documents(self, rows: list[dict[str, Any]]) -> None:
        """Give rows their documents; a view may name another one in its value, as CouchDB has it."""
        wanted = [
            row["value"]["_id"]
            if isinstance(row.get("value"), dict) and "_id" in row["value"]
            else row.get("id")
            for row in rows
        ]
        ids = [*dict.fromkeys(each for each in wanted if isinstance(each, str))]
        there = {token.id: token.document() for token in self._store.fetch(ids) if token is not None}
        for row, doc_id in zip(rows, wanted):
            row["doc"] = there.get(doc_id or "")

    def _index(self, design: str, view: str) -> MapIndex:
        doc = self._documents.design(design) or {}
        definition = (doc.get("views") or {}).get(view)
        if not isinstance(definition, dict) or "map" not in definition:
            raise couch_errors.not_found(
                f"{self._store.path.name} has no view {design}/{view}",
                "add_view makes one; Monitor has the classic five.",
            )
        functions = (str(definition["map"]), str(definition.get("reduce") or ""))
        if functions not in self._indexes:
            self._indexes[functions] = MapIndex(self._documents, f"{design}/{view}", *functions)
        return self._indexes[functions]

    def check(self, doc: Mapping[str, Any]) -> None:
        """Refuse a design document with a view that could never be read.

        Raises:
            MissingExtra: nothing is installed that could run its function.
            InvalidInput: it is no function.
        """
        doc_id = str(doc["_id"])
        if not doc_id.startswith("_design/") or doc.get("_deleted"):
            return
        name = doc_id.partition("/")[2]
        judged = designs.judge(name, doc)
        if judged.kind == "classic" and judged.ours and judged.standing == "current":
            return
        for view, definition in (doc.get("views") or {}).items():
            if isinstance(definition, dict) and designs.known_list(definition) != view:
                JavaScriptView(
                    f"{name}/{view}", str(definition.get("map", "")), str(definition.get("reduce") or "")
                )


class MapIndex:
    """The rows of a view that is a function, run on each document once for each of its versions.

    Args:
        name: what the view is called in messages.
    """

    def __init__(self, documents: SqliteDocuments, name: str, map_fun: str, reduce_fun: str) -> None:
        self._documents = documents
        self._view = JavaScriptView(name, map_fun, reduce_fun)
        self.reduce = self._view.reduce
        self._mapped: dict[int, tuple[int, list[Emitted]]] = {}  # by number: the version, and its rows
        self._rows: list[Emitted] = []

    def rows(self) -> list[Emitted]:
        """The rows as of now, in order."""
        now = self._documents.versions()
        gone = self._mapped.keys() - now.keys()
        for number in gone:
            del self._mapped[number]
        stale = [
            number
            for number, (version, doc_id) in now.items()
            if not doc_id.startswith("_design/") and self._mapped.get(number, (0,))[0] != version
        ]
        for start in range(0, len(stale), PAGE):
            found = list(self._documents.load(stale[start : start + PAGE]))
            mapped = self._view.map([token.document() for _, _, token in found])
            for (number, version, _), emitted in zip(found, mapped):
                self._mapped[number] = (version, emitted)
        if gone or stale:
            self._rows = in_order([row for _, emitted in self._mapped.values() for row in emitted])
        return self._rows
