"""``picas archive``: what ended a while ago, into a file and out of the pool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.export import Progress, left_out, told
from picas.cli.group import verb
from picas.moving.archiving import Archived, archive
from picas.settings.config import parse_duration
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.cli.options import Call
    from picas.selection import Selection


class ArchiveView(output.View):
    """What was archived."""

    def __init__(self, pool: str, file: str, found: Archived) -> None:
        self.pool = pool
        self.file = file
        self.found = found
        self.exit_code = 1 if found.stayed or found.exported.restless else 0

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        found = self.found
        return {
            "pool": self.pool,
            "file": self.file,
            **found.exported.content.as_dict(),
            "removed": found.removed,
            "stayed": found.stayed,
            "restless": found.exported.restless,
            "refusal": found.refusal,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What is in the file, and not in the pool any more."""
        found = self.found
        yield f"archived {told(found.exported)} in {text.visible(self.file)}"
        yield f"removed {text.counted(found.removed, 'token')} from {text.visible(self.pool)}"
        if found.stayed:
            stay = "stays" if found.stayed == 1 else "stay"
            yield f"{text.counted(found.stayed, 'token')} {stay} there: changed meanwhile, or not to be removed"
        if found.refusal:
            yield "  " + text.visible(found.refusal)
        found.exported.other_documents = 0  # nobody expects those to be archived
        yield from left_out(found.exported)


_HELP = """Move tokens that ended a while ago, with their files and history, to a new file and out of the pool.

The file is as of picas export: it is read back and checked before the first token is removed, and picas import
brings them back. Only tokens that are still as the file has them are removed.

\b
picas archive --older-than 30d 2026-10.jsonl.gz
"""


@verb("archive", help=_HELP)
@click.argument("file", metavar="FILE")
@click.option(
    "--older-than",
    required=True,
    callback=options.parsed(parse_duration),
    metavar="TIME",
    help="Only tokens that ended longer ago, such as 30d.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    callback=options.parsed(options.parse_state),
    shell_complete=options.completing("done", "error"),
    metavar="STATE",
    help="done (the default) or error. May be given twice.",
)
@options.where
@options.pass_call
def command(
    call: Call, file: str, older_than: float, states: tuple[str, ...], where: Selection | None
) -> output.View:
    """Run the verb; the help is `_HELP`."""
    wanted = frozenset(State(name) if name in options.STATES else None for name in states or ("done",))
    pool = pools.existing(call)
    with output.StatusLine() as line:

        def removed(found: Archived) -> None:
            line.update(
                f"removing: {text.number(found.removed)} of {text.number(found.exported.content.tokens)}"
            )

        found = archive(
            pool.store, Path(file), older_than, wanted, where, on_progress=Progress(line), on_removed=removed
        )
    return ArchiveView(pool.url, file, found)
