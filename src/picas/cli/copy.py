"""``picas copy``: tokens from one pool to another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.copied import CopiedView
from picas.cli.group import verb
from picas.cli.options import OTHER
from picas.errors import PicasError
from picas.moving.copying import LOCKED_CHOICES, Copied, copy
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from picas.pool import Pool
    from picas.selection import Selection


class CopyView(CopiedView):
    """What a copy did.

    Args:
        counts: of the source and of the target, when it was over.
    """

    def __init__(self, source: str, target: str, found: Copied, counts: list[dict[str, int]]) -> None:
        super().__init__(found, "copied")
        self.source = source
        self.target = target
        self.counts = counts

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {
            "source": {"pool": self.source, **self.counts[0]},
            "target": {"pool": self.target, **self.counts[1]},
            **self.facts(),
            "other_documents": self.found.other_documents,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What was done, what was not, and both pools as they are now."""
        yield self.done_line(f"to {text.visible(self.target)}")
        yield from ("  " + line for line in text.columns(self._table(), right=(1, 2)))
        yield from self.left_lines()
        if self.found.other_documents:
            yield f"{text.counted(self.found.other_documents, 'document')} of the source are no tokens, and were not copied"

    def _table(self) -> Iterator[tuple[str, ...]]:
        yield "", "SOURCE", "TARGET"
        for name in self.counts[0]:
            numbers = [each[name] for each in self.counts]
            if any(numbers) or name != OTHER:
                yield name, *map(text.number, numbers)


class _Progress:
    """The line that tells how far a copy is.

    Args:
        total: how many tokens there are; None if that is not known.
    """

    def __init__(self, line: output.StatusLine, total: int | None) -> None:
        self.line = line
        self.total = total
        self.seen = 0
        self._began = time.monotonic()

    def __call__(self, found: Copied) -> None:
        """Show it."""
        self.seen = found.seen
        rate = found.seen / max(time.monotonic() - self._began, 0.001)
        whole = f" of {text.number(self.total)}" if self.total else ""
        shown = f"copying: {text.number(found.seen)}{whole} tokens, {rate:,.0f}/s"
        if found.size or found.moving:
            shown += f", {text.size(found.size + found.moving)} of files"
        self.line.update(shown)


@verb("copy")
@click.argument("source_url", metavar="SRC")
@click.argument("target_url", metavar="DST")
@options.states
@options.where
@click.option(
    "--locked",
    type=click.Choice(LOCKED_CHOICES),
    default=LOCKED_CHOICES[0],
    help="What happens if tokens are locked: refuse to copy (the default), free them in the copy, copy them as-is.",
)
@click.option("--verify", is_flag=True, help="Read all files back from DST, and compare them.")
def command(
    source_url: str,
    target_url: str,
    states: tuple[str, ...],
    where: Selection | None,
    *,
    locked: str,
    verify: bool,
) -> output.View:
    """Copy tokens from one pool to another, with their files, states and history.

    Nothing that is in DST is changed, and SRC only read. After a cut, the same command goes on where it was.
    The exit code is 1 if tokens were left out.
    """
    source = pools.at(source_url, "SRC", exists=True)
    target = pools.at(target_url, "DST")
    total = sum(source.counts().values()) if not states and where is None else None
    with output.StatusLine() as line:
        progress = _Progress(line, total)
        try:
            found = copy(
                source.store,
                target.store,
                states=[None if name == OTHER else State(name) for name in states] if states else None,
                where=where,
                locked=locked,
                verify=verify,
                on_progress=progress,
                on_wait=lambda who: output.note(f"waiting for a push to {target.url}, by {who}"),
            )
        except (PicasError, KeyboardInterrupt):
            line.clear()
            if progress.seen:
                done = text.counted(progress.seen, "token")
                output.note(f"stopped after {done}; the same copy again goes on from there")
            raise
    return CopyView(source.url, target.url, found, [_counts(source), _counts(target)])


def _counts(pool: Pool) -> dict[str, int]:
    counted: Mapping[State | None, int] = pool.counts()
    return {**{state.value: counted[state] for state in State}, OTHER: counted[None]}
