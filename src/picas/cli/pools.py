"""Opening the pool that a command line means, and choosing tokens in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from picas.cli.options import OTHER
from picas.errors import PoolRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from picas.cli.options import Call
    from picas.pool import Pool
    from picas.selection import Selection
    from picas.tokens import Token


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
    """The pool, made if it is not there; closed when the verb is over."""
    from picas.pool import open_pool  # noqa: PLC0415 - start-up

    pool = open_pool(call.settings.pool)
    click.get_current_context().call_on_close(pool.close)
    return pool


def chosen(
    pool: Pool, states: Collection[str], where: Selection | None, older_than: float | None = None
) -> Iterator[Token]:
    """The tokens in any of these states, `OTHER` being one; all where none is named."""
    from picas.tokens import State  # noqa: PLC0415 - start-up

    wanted = None if not states or OTHER in states else {State(name) for name in states}
    found = pool.tokens(wanted, where, older_than=older_than)
    if OTHER not in states:
        return found
    return (token for token in found if state_name(token) in states)


def state_name(token: Token) -> str:
    """The token's state in a word, `OTHER` where it is in none."""
    return token.state.value if token.state else OTHER
