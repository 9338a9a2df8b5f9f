"""Token files: lines, tables, JSON Lines and JSON become drafts. The formats are told in `picas.tokenfile`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, TokenFileError
from picas.text.template import compiled
from picas.tokenfile import strict_json
from picas.tokenfile.draft import Draft, SeenIds, check_fields, draft_of, value_of_text
from picas.tokenfile.source import Source
from picas.tokenfile.table import check_header, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Callable

    from picas.tokenfile.source import Report

FORMATS = ("lines", "csv", "jsonl", "json")
"""What a token file can be."""

FORMAT_OF_ENDING = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
"""What the ending of a file's name says; any other says ``lines``."""

MAX_PROBLEMS = 20
"""Mistakes that one message tells; who has more has understood by then."""

_VERBATIM_COLUMNS = frozenset(("input", "_id"))
"""Columns whose cells are strings even where they look like numbers."""


class TokenFile:
    """The drafts in a file, read anew each time it is iterated. A context manager that closes the file.

    Args:
        path: the file; ``-`` is standard input, which is copied to a temporary file first.
        format: one of `FORMATS`; None: what the file's ending says.
        template: makes the ``input`` of each token from its fields (see `picas.text.template`).
        fields: fields for every token; they go before those of the file, as a command line goes before one.

    Attributes:
        source: the file's name, for messages.

    Raises:
        InvalidInput: the format or a field is none.
        TokenFileError: the file cannot be read. While iterating: a line in it cannot become a token.

    Example:
        >>> with TokenFile("tokens.csv", template="run -q {q}") as drafts:
        ...     drafts.check()
        ...     for draft in drafts:
        ...         print(draft.line, draft.fields)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - the word for it on the command line
        template: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        ending = Path(path).suffix.lower()
        chosen = format if format is not None else FORMAT_OF_ENDING.get(ending, "lines")
        if chosen not in FORMATS:
            raise InvalidInput(f"there is no format '{format}'", f"The formats are: {', '.join(FORMATS)}.")
        self._fields = dict(fields or {})
        check_fields(self._fields)
        self._template = None if template is None else compiled(template)
        self._plain = not self._fields and template is None
        self._tabs = ending == ".tsv"
        self._file = Source(path)
        self.source = self._file.name
        readers: dict[str, Callable[[Report], Iterator[Draft]]] = {
            "lines": self._read_lines,
            "csv": self._read_csv,
            "jsonl": self._read_jsonl,
            "json": self._read_json,
        }
        self._read = readers[chosen]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.size

    @property
    def position(self) -> int:
        """Bytes of the file that the newest iteration has read."""
        return self._file.position

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TokenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Draft]:
        return self._drafts(_raise)

    def check(self, each: Callable[[Draft], None] | None = None) -> int:
        """Read the whole file; see `DraftSource.check`.

        Raises:
            TokenFileError: it has mistakes; up to `MAX_PROBLEMS` of them, each with its line.
        """
        problems: list[TokenFileError] = []

        def note(problem: TokenFileError) -> None:
            problems.append(problem)
            if len(problems) == MAX_PROBLEMS:
                raise problem

        count = 0
        try:
            for draft in self._drafts(note):
                count += 1
                if each is not None:
                    try:
                        each(draft)
                    except InvalidInput as problem:
                        note(self._file.at(draft.line, problem))
        except TokenFileError as problem:
            # what ended the reading; after other mistakes, that no token was left is no news
            if problem not in problems and (problem.line or not problems):
                problems.append(problem)
        if problems:
            raise _together(problems)
        return count

    def _drafts(self, report: Report) -> Iterator[Draft]:
        with closing(SeenIds()) as seen:
            draft = None
            for draft in self._read(report):
                if draft.id is not None:
                    try:
                        first = seen.first_line(draft.id, draft.line)
                    except InvalidInput as problem:
                        raise self._file.at(draft.line, problem) from None
                    if first is not None:
                        why = InvalidInput(
                            f"the id {draft.id!r} is on line {first} already", "An id is for one token."
                        )
                        report(self._file.at(draft.line, why))
                        continue
                yield draft
        self._file.check_unchanged()
        if draft is None:
            raise TokenFileError(self.source, 0, "there are no tokens in it")

    # --- The formats ---------------------------------------------------------------------------------

    def _read_lines(self, report: Report) -> Iterator[Draft]:
        source, finished = self.source, None if self._plain else self._finished
        for number, line in self._file.lines(report):
            if line[0] == "#" or line.isspace():
                continue
            draft = Draft({"input": _without_end(line)}, None, source, number)
            if finished is None:
                yield draft
                continue
            try:
                draft = finished(draft)
            except InvalidInput as problem:
                report(self._file.at(number, problem))
            else:
                yield draft

    def _read_jsonl(self, report: Report) -> Iterator[Draft]:
        lines = self._file.lines(report)
        work = ((number, line) for number, line in lines if not line.isspace())
        return self._each(
            work, lambda line, number: self._of_value(strict_json.loads(line.rstrip()), number), report
        )

    def _read_json(self, report: Report) -> Iterator[Draft]:
        return self._each(strict_json.stream(self._file.reader(), self.source), self._of_value, report)

    def _read_csv(self, report: Report) -> Iterator[Draft]:
        table = rows(self._file, report, tabs=self._tabs)
        first = next(table, None)
        if first is None:
            return iter(())
        header = self._header(first[1], first[0])
        return self._each(table, lambda row, number: self._of_row(header, row, number), report)

    def _each(
        self, records: Iterator[tuple[int, Any]], make: Callable[[Any, int], Draft], report: Report
    ) -> Iterator[Draft]:
        """What ``make`` makes of each record; of one that it refuses, a report."""
        for number, record in records:
            try:
                draft = make(record, number)
            except InvalidInput as problem:
                report(self._file.at(number, problem))
            else:
                yield draft

    def _of_value(self, value: Any, number: int) -> Draft:
        return self._finished(draft_of(value, self.source, number))

    def _header(self, cells: list[str], line: int) -> list[str]:
        names = [cell.strip() for cell in cells]
        try:
            check_header(names, self._template)
            if self._template is None and "input" not in names and "input" not in self._fields:
                raise InvalidInput(
                    f"there is no column 'input', only {', '.join(names)}", _input_advice(names[0])
                )
        except InvalidInput as problem:
            raise self._file.at(line, problem) from None
        return names

    def _of_row(self, header: list[str], cells: list[str], line: int) -> Draft:
        if len(cells) != len(header):
            raise InvalidInput(
                f"the row has {len(cells)} cells, the header {len(header)}",
                "A cell with the separator in it is quoted.",
            )
        texts = {name: cell for name, cell in zip(header, cells) if cell}
        document: dict[str, Any] = {}
        for name, cell in texts.items():
            value = cell if name in _VERBATIM_COLUMNS else value_of_text(cell)
            document[name] = value
            if value is not cell:
                texts[name] = cell.strip()  # blanks around a number mean nothing
        return self._finished(draft_of(document, self.source, line), texts)

    def _finished(self, draft: Draft, texts: Mapping[str, str] | None = None) -> Draft:
        """The draft with the fields for all, and its input.

        Args:
            texts: what the template has for the file's own fields, if not their values.
        """
        fields = draft.fields
        fields.update(self._fields)
        if self._template is not None:
            known = fields if texts is None else {**texts, **self._fields}
            fields["input"] = self._template.render(known, draft.id)
        elif "input" not in fields:
            raise InvalidInput("it has no 'input'", _input_advice(next(iter(fields), "name")))
        return draft


def _input_advice(name: str) -> str:
    return f"Give it one, or make it from the fields, for instance: --input 'process {{{name}}}'"


def _without_end(line: str) -> str:
    if line.endswith("\n"):
        return line[:-2] if line.endswith("\r\n") else line[:-1]
    return line


def _raise(problem: TokenFileError) -> None:
    raise problem


def _together(problems: list[TokenFileError]) -> TokenFileError:
    """One error that tells several: the first, with what the others say on lines of their own."""
    first = problems[0]
    messages = [problem.message for problem in problems]
    if len(problems) == MAX_PROBLEMS:
        messages.append("More may follow.")
    first.message = "\n".join(messages)
    first.advice = "\n".join(dict.fromkeys(problem.advice for problem in problems if problem.advice))
    return first
