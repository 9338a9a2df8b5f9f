"""What is wrong with the file of an embedded pool: damage, room that is wasted."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Callable

from picas.stores.finding import FAILURE, OK, WARNING, Ailment, Finding
from picas.stores.sqlite.file import open_file, translated_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WASTEFUL_BYTES = 50_000_000
"""So much room may be wasted without a word."""

MOST_TOLD = 3
"""Of what is damaged."""


class SqliteDoctor:
    """A look at one file.

    Args:
        path: absolute; it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def checks(self) -> Mapping[str, Callable[[], Iterator[Ailment]]]:
        """What can be looked at, by name."""
        return {"file": self._file, "size": self._size}

    def _file(self) -> Iterator[Ailment]:
        with closing(open_file(self._path)) as db, translated_errors(self._path):
            said = [str(row[0]) for row in db.execute(f"PRAGMA quick_check({MOST_TOLD})")]
        if said == ["ok"]:
            yield Ailment(Finding("file", OK, "whole"))
            return
        yield Ailment(
            Finding(
                "file",
                FAILURE,
                f"{self._path} is damaged: {'; '.join(said)}",
                "Stop its pilots, keep a copy of the file, and save what can be read: picas copy it to a new pool.",
                {"damage": said},
            )
        )

    def _size(self) -> Iterator[Ailment]:
        with closing(open_file(self._path)) as db, translated_errors(self._path):
            page, pages, free = (
                int(db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_size", "page_count", "freelist_count")
            )
        data = {"file": page * pages, "content": page * (pages - free)}
        if page * free < WASTEFUL_BYTES or free * 2 < pages:
            yield Ailment(Finding("size", OK, f"{data['file'] / 1e6:,.0f} MB", data=data))
            return
        text = f"{data['file'] / 1e6:,.0f} MB, of which {page * free / 1e6:,.0f} MB are empty"
        advice = "New tokens fill that. To make the file smaller its pilots wait, and as much room is needed beside it."
        yield Ailment(Finding("size", WARNING, text, advice, data), self._shrink)

    def _shrink(self) -> str:
        with closing(open_file(self._path)) as db, translated_errors(self._path):
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return f"the file has {self._path.stat().st_size / 1e6:,.0f} MB now"
