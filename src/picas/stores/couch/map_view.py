"""A map view of any design document, whoever wrote it, as a list of tokens' ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas.errors import InvalidInput, PoolRefused
from picas.stores.design import CLASSIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from picas.stores.couch.http import Server

    Document = dict[str, Any]

PAGE = 1_000
"""Ids read at a time."""


def split_name(name: str) -> tuple[str, str]:
    """Design document and view of ``SingleCore/todo``; a name alone is of `Monitor`, as it always was.

    Raises:
        InvalidInput: it names no view.
    """
    design, _, view = name.replace("_design/", "").replace("_view/", "").rpartition("/")
    if not view or name.startswith("/"):
        raise InvalidInput(
            f"'{name}' is not the name of a view",
            "Write the design document and the view, such as SingleCore/todo.",
        )
    return design or CLASSIC, view


class MapView:
    """The documents that a view lists. Its keys and values may be anything: a row's ``id`` is what counts.

    Args:
        database: the database's name, quoted.

    Every method may raise `PoolUnavailable` and `PoolRefused`.
    """

    def __init__(self, server: Server, database: str, design: str, view: str) -> None:
        self._server = server
        self.name = f"{design}/{view}"
        self._place = f"{server.url}/{database}"
        self._path = f"{database}/_design/{quote(design, safe='')}/_view/{quote(view, safe='')}"

    def exists(self) -> bool:
        """Whether there is such a view; it need not be built."""
        query = {"limit": 0, "reduce": False, "update": "false"}
        return self._server.request("GET", self._path, query=query, expect=(404,)).status != 404

    def total(self, update: str = "true") -> int:
        """How many rows it has.

        Args:
            update: when it takes in what was written last: ``true`` before it is read, ``lazy`` after.
        """
        return int(self._read({"limit": 0, "update": update})["total_rows"])

    def ids(self, start: int = 0) -> Iterator[list[str]]:
        """The ids of its rows, a page at a time, each once in a page; from the row of this number, and round."""
        yield from self._pages(start, None)
        if start:
            yield from self._pages(0, start)

    def _pages(self, skip: int, count: int | None) -> Iterator[list[str]]:
        query: dict[str, Any] = {"skip": skip}
        last: tuple[Any, str] | None = None
        same = 0  # a document may have many rows of one key
        while count is None or count > 0:
            limit = same + (PAGE if count is None else min(PAGE, count))
            rows = self._read({**query, "limit": limit})["rows"]
            # Rows of the last place are read again and not skipped: if they have left it, others are there.
            new = [row for row in rows if (row["key"], row["id"]) != last]
            if new:
                yield list(dict.fromkeys(row["id"] for row in new))
            if len(rows) < limit:
                return
            if count is not None:
                count -= len(new)
            last = (rows[-1]["key"], rows[-1]["id"])
            same = sum((row["key"], row["id"]) == last for row in rows)
            query = {"startkey": json.dumps(last[0]), "startkey_docid": last[1]}

    def _read(self, query: Mapping[str, Any]) -> Any:
        answer = self._server.request("GET", self._path, query={"reduce": False, **query}, expect=(404,))
        if answer.status == 404:
            raise self.missing()
        return answer.value

    def missing(self) -> PoolRefused:
        """The error for a view that is not there."""
        return PoolRefused(
            f"{self._place} has no view {self.name}",
            f"picas views list shows those there are: picas --pool {self._place} views list",
        )


def fetch_documents(server: Server, database: str, ids: Sequence[str]) -> list[Document]:
    """The documents of these ids, as they are now; without those that are gone."""
    if not ids:
        return []
    answer = server.request(
        "POST", f"{database}/_all_docs", {"keys": list(ids)}, query={"include_docs": True}
    )
    return [row["doc"] for row in answer.value["rows"] if row.get("doc")]
