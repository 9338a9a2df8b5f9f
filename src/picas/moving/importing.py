"""Reading tokens from an export into a pool: as a copy between pools does, and never over what is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from picas.moving import copying
from picas.moving.copying import Copied, Copier
from picas.moving.exportfile import Reader, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from picas.stores.base import Store


def import_from(
    source: IO[bytes],
    name: str,
    target: Store,
    *,
    locked: str = "free",
    verify: bool = False,
    on_progress: Callable[[Copied], object] = lambda _: None,
    on_wait: Callable[[str], object] | None = None,
) -> Copied:
    """Add the tokens of an export to a pool, each in one write with its files. What is there stays as it is.

    A file that cannot be read twice, such as a pipe, is checked only while it is read: what came before the damage is
    then in the pool.

    Args:
        source: the export; compressed or not.
        name: what people call it.
        locked: one of `picas.moving.copying.LOCKED_CHOICES`: what becomes of tokens that were locked.
        verify: read all files back from the pool, and compare them.
        on_progress: called now and then with what was done so far.
        on_wait: called once, if another large push to the pool is waited for, with what is known of it.

    Raises:
        InvalidInput: it is no export, damaged, or cut short.
        PoolRefused: a token was locked, and such are to be refused.
    """
    if source.seekable():
        with Reader(opened(source), name, keep=False) as reader:
            for _ in reader.tokens():
                pass
        source.seek(0)
    result = Copied()
    threads = ThreadPoolExecutor(copying.READERS, "picas-import")
    with Reader(opened(source), name) as reader, threads as readers, target.filling(on_wait) as filling:
        copier = Copier(reader, target, filling, result, readers, verify=verify, on_progress=on_progress)
        for batch in copying.batches(reader.tokens()):
            copier.copy([copying.prepared(reader, token, locked) for token in batch])
            reader.forget()
            on_progress(result)
    return result
