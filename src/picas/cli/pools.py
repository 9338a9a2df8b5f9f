"""Opening the pool that a command line means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from picas.errors import PoolRefused

if TYPE_CHECKING:
    from picas.cli.options import Call
    from picas.pool import Pool


def existing(call: Call) -> Pool:
    """The pool, for a verb that has no use for an empty one.

    Raises:
        PoolRefused: there is no such file; none is made.
    """
    url = call.settings.pool
    if url.startswith("sqlite:///") and not Path(unquote(url[len("sqlite:///") :])).exists():
        raise PoolRefused(
            f"there is no pool at {url}", "picas push FILE makes one; --pool URL names another."
        )
    return made(call)


def made(call: Call) -> Pool:
    """The pool, made if it is not there."""
    from picas.pool import open_pool  # noqa: PLC0415 - start-up

    return open_pool(call.settings.pool)
