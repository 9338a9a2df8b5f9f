"""The file of an embedded pool as a place of documents: tokens, and what other programs keep beside them.

Its design documents are data: a view of one is a list of tokens in a state, for which there is an index, or it is
somebody else's function, which nothing here can run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from picas.errors import PicasError
from picas.selection import Selection
from picas.stores import design
from picas.stores.design import CLASSIC, CLASSIC_VIEWS, TOTALS
from picas.tokens import TOKEN_TYPE, State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from picas.tokens import Token

IS_OTHER = f"json_extract(doc, '$.type') IS NOT '{TOKEN_TYPE}'"
"""The SQL condition for a document that is no token, where its column ``state`` is NULL."""

LATER = "later"
"""In the column ``state``: todo, but no claim takes the token yet. It is one of `State.TODO` for whoever looks."""

PAGE = 200
"""Documents read at a time."""


def column_values(states: Collection[State]) -> list[str]:
    """What the column ``state`` has for tokens in these states."""
    return sorted({state.value for state in states} | ({LATER} if State.TODO in states else set()))


class SqliteDocuments:
    """The documents of a pool's file.

    Args:
        read: gives a connection in a transaction.
        load: makes tokens of rows ``seq, id, rev, doc``.
    """

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[sqlite3.Connection]],
        load: Callable[[sqlite3.Connection, Sequence[tuple[int, str, int, str]]], list[Token]],
    ) -> None:
        self._read = read
        self._load = load

    def others(self) -> int:
        """How many are no tokens, design documents not counted."""
        with self._read() as db:
            sql = f"SELECT count(*) FROM token WHERE state IS NULL AND {IS_OTHER} AND id NOT LIKE '!_design/%' ESCAPE '!'"
            found: int = db.execute(sql).fetchone()[0]
        return found

    def versions(self) -> dict[int, tuple[int, str]]:
        """The version and the id of every document, by a number that is never used again."""
        with self._read() as db:
            return {seq: (rev, doc_id) for seq, rev, doc_id in db.execute("SELECT seq, rev, id FROM token")}

    def load(self, numbers: Sequence[int]) -> Iterator[tuple[int, int, Token]]:
        """The documents of these numbers that are there, each with its number and version."""
        for start in range(0, len(numbers), PAGE):
            part = numbers[start : start + PAGE]
            with self._read() as db:
                marks = ",".join("?" * len(part))
                rows = db.execute(
                    f"SELECT seq, id, rev, doc FROM token WHERE seq IN ({marks})", part
                ).fetchall()
                tokens = self._load(db, rows)
            for row, token in zip(rows, tokens):
                yield row[0], row[2], token

    def ids(
        self,
        state: State,
        where: Selection | None,
        *,
        low: str | None = None,
        high: str | None = None,
        inclusive: bool = True,
        descending: bool = False,
        limit: int | None = None,
        skip: int = 0,
    ) -> list[str]:
        """The ids of the tokens in a state that fit, in their order.

        Args:
            low, high: only ids from the one to the other, ``high`` among them if ``inclusive``.
        """
        condition, params = where.sql() if where else ("1", [])
        names = column_values([state])
        values: list[Any] = [*names, *params]
        if low is not None:
            condition += " AND id >= ?"
            values.append(low)
        if high is not None:
            condition += f" AND id {'<=' if inclusive else '<'} ?"
            values.append(high)
        order = "DESC" if descending else "ASC"
        marks = ",".join("?" * len(names))
        sql = f"SELECT id FROM token WHERE state IN ({marks}) AND {condition} ORDER BY id {order} LIMIT ? OFFSET ?"
        with self._read() as db:
            rows = db.execute(sql, [*values, -1 if limit is None else limit, skip]).fetchall()
        return [row[0] for row in rows]

    # --- Design documents ---

    def design(self, name: str) -> dict[str, Any] | None:
        """The design document of this name that was written into the file."""
        with self._read() as db:
            rows = db.execute(
                "SELECT seq, id, rev, doc FROM token WHERE id = ?", (f"_design/{name}",)
            ).fetchall()
            return self._load(db, rows)[0].document() if rows else None

    def design_names(self) -> list[str]:
        """The names of the design documents that were written into the file."""
        with self._read() as db:
            rows = db.execute("SELECT id FROM token WHERE id LIKE '!_design/%' ESCAPE '!'").fetchall()
        return [row[0].partition("/")[2] for row in rows]

    def listed(self, view: str) -> tuple[State | None, Selection | None] | None:
        """What a view lists that is one of the classic five: tokens in a state, or in any; and those that fit.

        None for a view that is not there, or is a function of somebody.

        Args:
            view: design document and view, such as ``Monitor/todo``.
        """
        name, _, view = view.rpartition("/")
        if view not in CLASSIC_VIEWS:
            return None
        state = None if view == TOTALS else State(view)
        doc = self.design(name)
        if doc is None or view not in (doc.get("views") or {}):
            return (state, None) if name == CLASSIC else None
        known = design.known_list(doc["views"][view])
        if known == view:
            return state, None
        judged = design.judge(name, doc)
        if judged.kind != "classic" or judged.standing != "current":
            return None
        try:
            return state, Selection.parse(judged.where) if judged.where else None
        except PicasError:  # a condition of a later version
            return None
