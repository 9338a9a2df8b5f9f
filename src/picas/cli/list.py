"""``picas list``: tokens, one a line."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.options import OTHER
from picas.text.jsvalues import js_parse_int
from picas.tokens import State, finished_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from picas.selection import Selection
    from picas.tokens import Token

LOOK_AHEAD = 500
"""Rows that are read before the first is printed, to see how wide the columns have to be."""

WIDEST_NAME = 40

_HEAD = ("ID", "STATE", "AGE", "HOST", "EXIT", "INPUT")


class ListView(output.View):
    """Tokens as they come, in constant memory."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self.tokens = tokens

    def json_lines(self) -> Iterator[str]:
        """One JSON object a line."""
        return (output.to_json(summary(token)) for token in self.tokens)

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """Aligned columns; the last one is cut to the screen."""
        rows = ((_cells(token), token.state) for token in self.tokens)
        first = list(islice(rows, LOOK_AHEAD))
        if not first:
            yield "no tokens"
            return
        widths = [
            max(text.width_of(row[place]) for row in (_HEAD, *(cells for cells, _ in first)))
            for place in range(6)
        ]
        yield screen.style(screen.fit(_row(_HEAD, widths)), "dim")
        for cells, state in chain(first, rows):
            line = screen.fit(_row(cells, widths))
            if state is not None and screen.colour:
                before = max(widths[0], text.width_of(cells[0])) + 2
                line = _coloured(line, before, state.value, screen)
            yield line


def summary(token: Token) -> dict[str, Any]:
    """A token in the shape of ``list --json``."""
    state = token.state
    return {
        "id": token.id,
        "state": state.value if state else OTHER,
        "time": since(token),
        "host": token.get("hostname") or None,
        "exit_code": js_parse_int(token.get("exit_code")),
        "attempt": token.attempt,
        "input": token.input,
    }


def since(token: Token) -> float | None:
    """When the token was finished, or else claimed; None if it is todo."""
    if token.state is State.LOCKED:
        claimed = token.run.get("claimed", token.get("lock"))
        return float(claimed) if isinstance(claimed, (int, float)) else None
    return finished_at(token.body)


def _cells(token: Token) -> tuple[str, ...]:
    row = summary(token)
    return (
        text.cut(text.visible(row["id"]), WIDEST_NAME),
        row["state"],
        text.age(row["time"]),
        text.cut(text.one_line(row["host"] or "-"), WIDEST_NAME),
        "-" if row["exit_code"] is None else str(row["exit_code"]),
        text.one_line("" if row["input"] is None else row["input"]),
    )


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [text.pad(cell, width) for cell, width in zip(cells[:-1], widths)]
    return "  ".join([*padded, cells[-1]]).rstrip()


def _coloured(line: str, before: int, state: str, screen: output.Screen) -> str:
    """The line with the name of the state, which begins after so many columns, in its colour."""
    columns, place = 0, 0
    while place < len(line) and columns < before:
        columns += text.width_of(line[place])
        place += 1
    if line[place : place + len(state)] != state:
        return line
    return line[:place] + screen.state(state) + line[place + len(state) :]


@verb("list")
@options.states
@options.where
@options.older_than
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="No more than so many.")
@options.pass_call
def command(
    call: options.Call,
    states: tuple[str, ...],
    where: Selection | None,
    older_than: float | None,
    limit: int | None,
) -> output.View:
    """List tokens, oldest first: id, state, time since they were claimed or finished, host, exit code, input.

    With --json, one JSON object a line.
    """
    found = pools.chosen(pools.existing(call), states, where, older_than)
    return ListView(islice(found, limit))
