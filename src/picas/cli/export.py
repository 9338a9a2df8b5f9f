"""``picas export``: tokens with their files, into one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.options import OTHER
from picas.errors import InvalidInput
from picas.moving.exporting import Exported, export_chosen, new_file
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.cli.options import Call
    from picas.selection import Selection

STREAM = "-"
"""In place of a file: the standard output."""


class ExportView(output.View):
    """What was written."""

    def __init__(self, pool: str, file: str, found: Exported) -> None:
        self.pool = pool
        self.file = file
        self.found = found
        self.exit_code = 1 if found.restless else 0

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        found = self.found
        return {
            "pool": self.pool,
            "file": self.file,
            **found.content.as_dict(),
            "restless": found.restless,
            "other_documents": found.other_documents,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What is in the file, and what is not."""
        yield f"exported {told(self.found)} to {text.visible(self.file)}"
        yield from left_out(self.found)


def told(found: Exported) -> str:
    """How much was written, in a few words."""
    content = found.content
    line = text.counted(content.tokens, "token")
    return (
        f"{line} with {text.counted(content.files, 'file')} ({text.size(content.size)})"
        if content.files
        else line
    )


def left_out(found: Exported) -> Iterator[str]:
    """What was not written, and why."""
    if found.restless:
        names = ", ".join(map(text.visible, found.restless[:3]))
        yield f"not exported: {text.counted(len(found.restless), 'token')} that changed all the time ({names})"
    if found.other_documents:
        yield f"{text.counted(found.other_documents, 'document')} of the pool are no tokens, and were not exported"


class Progress:
    """The line that tells how far an export is."""

    def __init__(self, line: output.StatusLine) -> None:
        self._line = line

    def __call__(self, found: Exported) -> None:
        """Show it."""
        content = found.content
        self._line.update(
            f"exporting: {text.number(content.tokens)} tokens, {text.size(content.size)} of files"
        )


@verb("export")
@click.argument("file", metavar="FILE")
@options.states
@options.where
@options.pass_call
def command(call: Call, file: str, states: tuple[str, ...], where: Selection | None) -> output.View | None:
    """Write tokens with their files, states and history to a new file: all of them, or those that fit.

    It is one line of JSON per token, compressed if the name ends with .gz; "-" is the standard output. Pilots may be
    at work. The file is read back and checked before it gets its name. picas import FILE brings the tokens back.
    """
    pool = pools.existing(call)
    wanted = [None if name == OTHER else State(name) for name in states] if states else None
    with output.StatusLine() as line:
        if file != STREAM:
            with new_file(Path(file)) as out:
                found = export_chosen(pool.store, out, wanted, where, on_progress=Progress(line))
            return ExportView(pool.url, file, found)
        if sys.stdout.isatty():
            raise InvalidInput(
                "files of tokens are not for a terminal", "Name a file, or a program: … | gzip."
            )
        found = export_chosen(pool.store, sys.stdout.buffer, wanted, where, on_progress=Progress(line))
        sys.stdout.buffer.flush()
    for said in left_out(found):
        output.note(said)
    return None
