"""The rows of a view, as couchdb-python gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class StoredDocument(dict[str, Any]):
    """A document as it was read: a dictionary that knows its id and revision."""

    @property
    def id(self) -> str:
        """The document's id."""
        found: str = self["_id"]
        return found

    @property
    def rev(self) -> str:
        """The revision that was read."""
        found: str = self["_rev"]
        return found

    @property
    def value(self) -> dict[str, Any]:
        """The fields, under the name that `picas.documents.Document` has for them."""
        return self

    doc = value


class Row(dict[str, Any]):
    """A row of a view."""

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"<Row {told}>"

    @property
    def id(self) -> str | None:
        """The id of the document that the row is of; None for a row of a reduced view."""
        return self.get("id")

    @property
    def key(self) -> Any:
        """What the row is sorted by."""
        return self["key"]

    @property
    def value(self) -> Any:
        """What the view tells of the document."""
        return self.get("value")

    @property
    def error(self) -> Any:
        """Why there is no document for a key; None if there is."""
        return self.get("error")

    @property
    def doc(self) -> StoredDocument | None:
        """The document, if it was asked for by ``include_docs=True`` and is there."""
        found = self.get("doc")
        return None if found is None else StoredDocument(found)


class ViewResults:
    """The rows of a view. They are asked for when they are first looked at.

    ``results[key]`` are those of one key, ``results[first:last]`` those of a range of keys.

    Args:
        ask: how to ask; it takes options of the view and returns the database's answer.
        options: what is asked for.
        wrapper: makes of a row what is wanted in its place.
    """

    def __init__(
        self,
        ask: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        options: Mapping[str, Any],
        wrapper: Callable[[Row], Any] = lambda row: row,
    ) -> None:
        self._ask = ask
        self.options = dict(options)
        self._wrapper = wrapper
        self._answer: Mapping[str, Any] | None = None

    def __getitem__(self, key: Any) -> ViewResults:
        wanted = {"key": key}
        if isinstance(key, slice):
            ends = {"startkey": key.start, "endkey": key.stop}
            wanted = {name: value for name, value in ends.items() if value is not None}
        return ViewResults(self._ask, {**self.options, **wanted}, self._wrapper)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self._found["rows"])

    @property
    def rows(self) -> list[Any]:
        """The rows."""
        return [self._wrapper(Row(row)) for row in self._found["rows"]]

    @property
    def total_rows(self) -> int | None:
        """How many rows the view has; None for a reduced one."""
        return self._found.get("total_rows")

    @property
    def offset(self) -> int | None:
        """How many rows of the view are before the first of these; None for a reduced one."""
        return self._found.get("offset")

    @property
    def _found(self) -> Mapping[str, Any]:
        if self._answer is None:
            self._answer = self._ask(self.options)
        return self._answer
