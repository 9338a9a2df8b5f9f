"""``picas show``: tokens, all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.options import OTHER
from picas.text import deepjson
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from picas.tokens import Token


class ShowView(output.View):
    """Whole tokens."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self.tokens = tokens

    def json_lines(self) -> Iterator[str]:
        """The documents, one a line."""
        return (output.to_json(token.document()) for token in self.tokens)

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What matters first, then the document."""
        for place, token in enumerate(self.tokens):
            if place:
                yield ""
            yield from _lines(token, screen)


def _lines(token: Token, screen: output.Screen) -> Iterator[str]:
    state = token.state.value if token.state else OTHER
    yield f"{screen.style(text.visible(token.id), 'bold')}  {screen.state(state)}"
    if token.state is State.TODO and token.not_before:
        yield f"waits for its next try until {text.clock(token.not_before)}"
    attempts = [*token.history, *([token.run] if token.run else [])]
    if attempts:
        yield screen.style("attempts", "dim")
        yield from (screen.fit("  " + line) for line in _attempts(attempts))
    notes = list(_notes(attempts))
    if notes:
        yield screen.style("notes", "dim")
        yield from ("  " + line for line in notes)
    if token.attachments:
        yield screen.style("files", "dim")
        rows = [(text.visible(info.name), text.size(info.length)) for info in token.attachments.values()]
        yield from ("  " + line for line in text.columns(rows, right=(1,)))
    yield screen.style("document", "dim")
    document = token.document()
    document.pop("_attachments", None)
    shown = deepjson.dumps(document, indent=2, ensure_ascii=False)
    yield from (text.visible(line) for line in shown.split("\n"))


def _attempts(attempts: list[dict[str, Any]]) -> list[str]:
    rows = [("", "STARTED", "WALL", "CPU", "MEMORY", "HOST", "EXIT", "")]
    rows.extend(
        (
            text.one_line(entry.get("attempt", "?")),
            _shown(entry.get("started", entry.get("claimed")), text.clock),
            _shown(entry.get("wall"), text.duration),
            _shown(entry.get("cpu"), text.duration),
            _shown(entry.get("max_rss"), lambda count: text.size(int(count))),
            text.one_line(entry.get("host", "-")),
            text.one_line(entry.get("exit_code", "-")) or "-",
            _remark(entry),
        )
        for entry in attempts
    )
    return text.columns(rows)


def _notes(attempts: list[dict[str, Any]]) -> Iterator[str]:
    """What people should know of attempts beside how they went: a log that was cut, a file that is missing."""
    for entry in attempts:
        notes = entry.get("notes")
        told = [text.one_line(note) for note in notes] if isinstance(notes, list) else []
        if told and entry.get("kept"):
            told.append(
                f"its directory is kept on {text.one_line(entry.get('host', '?'))}: {text.one_line(entry['kept'])}"
            )
        for note in told:
            yield f"{text.one_line(entry.get('attempt', '?'))}  {note}"


def _shown(value: object, write: Any) -> str:
    return str(write(value)) if isinstance(value, (int, float)) else "-"


def _remark(entry: dict[str, Any]) -> str:
    if entry.get("superseded"):
        return "superseded"
    if "failure" in entry:
        why = text.one_line(entry["failure"])
        return f"{why}: {text.one_line(entry['message'])}" if entry.get("message") else why
    return "" if "ended" in entry else "running"


@verb("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.pass_call
def command(call: options.Call, ids: tuple[str, ...]) -> output.View:
    """Show tokens: their attempts, their files, their documents.

    With --json, the documents, one a line.
    """
    pool = pools.existing(call)
    return ShowView(pool.get(token_id) for token_id in ids)
