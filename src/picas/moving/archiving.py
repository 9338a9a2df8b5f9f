"""Moving what has been finished for a while out of a pool: into an export, and only then out of the pool.

A token goes only if it is still as the file has it. Whatever stops this half-way, each token is in the file, in the
pool, or in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, TokenRefused
from picas.moving import copying
from picas.moving.exportfile import Reader, opened
from picas.moving.exporting import Exported, export, new_file
from picas.moving.likeness import alike
from picas.tokens import State, finished_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from picas.selection import Selection
    from picas.stores.base import Store
    from picas.tokens import Token

FINISHED = frozenset((State.DONE, State.ERROR))
"""Only such tokens are archived."""


@dataclass
class Archived:
    """What was archived.

    Attributes:
        exported: what the file has.
        removed: tokens that are not in the pool any more.
        stayed: tokens that changed meanwhile, or that the pool does not let go: they are in both.
        refusal: what the pool said of such.
    """

    exported: Exported
    removed: int = 0
    stayed: int = 0
    refusal: str = ""


def archive(
    store: Store,
    path: Path,
    older_than: float,
    states: Collection[State | None] = frozenset((State.DONE,)),
    where: Selection | None = None,
    *,
    on_progress: Callable[[Exported], object] = lambda _: None,
    on_removed: Callable[[Archived], object] = lambda _: None,
) -> Archived:
    """Write finished tokens to a new file, read that back, and remove them from the pool.

    Args:
        older_than: only those that ended more than so many seconds ago.
        states: of `FINISHED`.

    Raises:
        InvalidInput: tokens in these states cannot be archived, or the file is there already.
        PicasError: the file cannot be written; then nothing was removed.
    """
    if not FINISHED.issuperset(states):
        raise InvalidInput("only tokens that have ended can be archived", "Those are done or in error.")
    limit = store.now() - older_than

    def fits(token: Token) -> bool:
        ended = finished_at(token.body)
        return token.state in states and ended is not None and ended < limit

    with new_file(path) as out:
        found = (token for token in copying.chosen(store, states, where) if fits(token))
        exported = export(store, out, found, fits, on_progress=on_progress)
    archived = Archived(exported)
    with open(path, "rb") as file, Reader(opened(file), str(path), keep=False) as reader:
        for batch in _batches(reader.tokens()):
            _remove(store, batch, archived)
            on_removed(archived)
    return archived


def _batches(tokens: Iterator[Token]) -> Iterator[list[Token]]:
    while batch := list(islice(tokens, copying.BATCH)):
        yield batch


def _remove(store: Store, batch: Sequence[Token], archived: Archived) -> None:
    """Remove those that are still as they were written."""
    now = store.fetch([token.id for token in batch])
    same = [current for token, current in zip(batch, now) if current is not None and alike(token, current)]
    try:
        gone = store.delete(same) if same else []
    except TokenRefused as error:
        gone = [bool(answer) for answer in error.answers] or [False] * len(same)
        archived.refusal = error.message
    archived.removed += sum(gone)
    archived.stayed += sum(current is not None for current in now) - sum(gone)
