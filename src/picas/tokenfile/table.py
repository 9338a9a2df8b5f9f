"""Rows of a table in CSV, with the line that each starts on."""

from __future__ import annotations

import csv
from itertools import chain
from typing import TYPE_CHECKING

from picas.errors import InvalidInput
from picas.text.template import is_name
from picas.tokenfile.source import MAX_LINE_BYTES, too_long

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.text.template import Template
    from picas.tokenfile.source import Report, Source

TAB = "\t"
SEPARATORS = (",", ";", TAB)
"""What may separate cells: the first of these that is in the header."""


def rows(source: Source, report: Report, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows, the header first. Those in which every cell is empty are left out.

    Args:
        report: is told of lines that are no text.
        tabs: cells are separated by tabs, whatever the header looks like.

    Raises:
        TokenFileError: it is not CSV; from there on no row can be told from the next.
    """
    lines = _Lines(source, report)
    separator = TAB if tabs else _separator(lines.peek())
    # strict, or else a quote in the wrong place would move cells without a word
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        lines.row_chars = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise source.at(lines.row_start, _explained(error)) from None
        if any(cells):
            yield lines.row_start, cells


def check_header(names: list[str], template: Template | None) -> None:
    """Make sure that a header names fields, each once, and that the template means what it says.

    Raises:
        InvalidInput: it does not.
    """
    for number, name in enumerate(names, 1):
        if not name:
            raise InvalidInput(f"column {number} has no name", "The first row names the fields.")
        if names.index(name) != number - 1:
            raise InvalidInput(f"two columns are called '{name}'", "Rename or remove one of them.")
        if name.startswith("_") and name != "_id":
            raise InvalidInput(
                f"the column '{name}' begins with an underscore, as only '_id' may", "Give it another name."
            )
        if template is not None and not is_name(name) and f"{{{name}}}" in template.text:
            raise InvalidInput(
                f"the column '{name}' cannot stand in a template",
                "Rename it: letters, digits, _ and -, beginning with a letter.",
            )


class _Lines:
    """The lines of a file for `csv.reader`, which does not tell where a row of several lines starts.

    Attributes:
        row_start: the line on which the row that is being read starts.
        row_chars: characters of that row so far; set it to 0 before each row.
    """

    def __init__(self, source: Source, report: Report) -> None:
        self.row_start = 0
        self.row_chars = 0
        self._source = source
        self._lines = source.lines(report)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, text = next(self._lines)
        if not self.row_chars:
            self.row_start = number
        self.row_chars += len(text)
        # each line is short enough, but a quote that is never closed takes in one after the other
        if self.row_chars > MAX_LINE_BYTES:
            raise self._source.at(self.row_start, too_long())
        return text

    def peek(self) -> str:
        """The first line that is not empty; it is still to come."""
        for number, text in self._lines:
            if not text.isspace():
                self._lines = chain([(number, text)], self._lines)
                return text
        return ""


def _separator(header: str) -> str:
    return next((separator for separator in SEPARATORS if separator in header), ",")


def _explained(error: csv.Error) -> InvalidInput:
    why = str(error)
    if "field limit" in why:
        return InvalidInput(
            f"a cell has more than {csv.field_size_limit():,} characters",
            "Is a quote not closed? Text that long belongs into a file, with its name in the table.",
        )
    if "unexpected end" in why:
        return InvalidInput(
            "a quote is opened and never closed", 'A quote within a quoted cell is doubled: "".'
        )
    return InvalidInput(
        f"this is not CSV: {why}", "A cell with a separator, a quote or a line end is quoted."
    )
