"""``picas import``: tokens with their files, from a file that ``picas export`` made."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.copied import CopiedView
from picas.cli.export import STREAM
from picas.cli.group import verb
from picas.errors import InvalidInput, PicasError
from picas.moving.copying import LOCKED_CHOICES, Copied
from picas.moving.importing import import_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.cli.options import Call
    from picas.pool import Pool


class ImportView(CopiedView):
    """What was brought in."""

    def __init__(self, pool: str, file: str, found: Copied) -> None:
        super().__init__(found, "imported")
        self.pool = pool
        self.file = file

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"pool": self.pool, "file": self.file, **self.facts()}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What was done, and what was not."""
        yield self.done_line(f"into {text.visible(self.pool)}")
        yield from self.left_lines()


@verb("import")
@click.argument("file", metavar="FILE")
@click.option(
    "--locked",
    type=click.Choice(LOCKED_CHOICES),
    default="free",
    help="What becomes of tokens that were locked: free them (the default), refuse to import, or leave them as-is.",
)
@click.option("--verify", is_flag=True, help="Read all files back from the pool, and compare them.")
@options.pass_call
def command(call: Call, file: str, *, locked: str, verify: bool) -> output.View:
    """Add the tokens of an export to the pool, with their files, states and history; "-" is the standard input.

    Nothing that is in the pool is changed. A file is checked as a whole first, a stream while it is read. After a cut,
    the same command goes on where it was. The exit code is 1 if tokens were left out.
    """
    if file == STREAM:
        if sys.stdin.isatty():
            raise InvalidInput(
                "an export is not typed in", "Name a file, or have a program write it: … | picas import -"
            )
        return _import(pools.made(call), sys.stdin.buffer, "the standard input", locked=locked, verify=verify)
    try:
        source = open(file, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    with source:
        return _import(pools.made(call), source, file, locked=locked, verify=verify)


def _import(pool: Pool, source: IO[bytes], name: str, *, locked: str, verify: bool) -> ImportView:
    seen = Copied()

    def progress(found: Copied) -> None:
        nonlocal seen
        seen = found
        line.update(
            f"importing: {text.number(found.seen)} tokens, {text.size(found.size + found.moving)} of files"
        )

    with output.StatusLine() as line:
        try:
            found = import_from(
                source,
                name,
                pool.store,
                locked=locked,
                verify=verify,
                on_progress=progress,
                on_wait=lambda who: output.note(f"waiting for a push to {pool.url}, by {who}"),
            )
        except (PicasError, KeyboardInterrupt):
            line.clear()
            if seen.seen:
                done = text.counted(seen.seen, "token")
                output.note(f"stopped after {done}; the same import again goes on from there")
            raise
    return ImportView(pool.url, name, found)
