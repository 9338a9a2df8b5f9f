"""Opening the pool that a command line means, and choosing tokens in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from picas.cli import output
from picas.cli.options import OTHER, Call
from picas.errors import PoolRefused
from picas.settings import config
from picas.settings.credentials import split_login
from picas.stores import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from picas.pool import Pool
    from picas.selection import Selection
    from picas.tokens import Token


def existing(call: Call, *, patience: float = PATIENCE_SECONDS) -> Pool:
    """The pool, for a verb that has no use for an empty one; see `made`.

    Raises:
        PoolRefused: there is no such file; none is made.
    """
    _check_there(call.settings.pool, "picas push FILE makes one; --pool URL names another.")
    return made(call, patience=patience)


def made(call: Call, *, patience: float = PATIENCE_SECONDS) -> Pool:
    """The pool, made if it is not there; closed when the verb is over.

    Args:
        patience: see `picas.pool.open_pool`.
    """
    return _open(call, call.pool, call.settings, patience)


def _open(call: Call, url: str | None, settings: config.Settings, patience: float = PATIENCE_SECONDS) -> Pool:
    from picas.pool import open_pool  # noqa: PLC0415 - start-up

    warn(call, url, settings)
    pool = open_pool(url, **call.given, patience=patience)
    click.get_current_context().call_on_close(pool.close)
    return pool


def warn(call: Call, url: str | None, settings: config.Settings) -> None:
    """Say what is unsafe about the way in which a pool is reached.

    Args:
        url: as it was written on the command line, if it was.
        settings: what holds for it.
    """
    if split_login(url or "")[2]:
        output.warn(
            "others on this machine can read a password on the command line, in the list of processes; "
            "picas init keeps it where only you can",
            as_json=call.as_json,
        )
    if settings.access.insecure and settings.pool.startswith("https:"):
        output.warn(
            f"the certificate of {settings.pool} is not checked: whoever is in between can read the password",
            as_json=call.as_json,
        )


def at(url: str, name: str, *, exists: bool = False) -> Pool:
    """The pool at a URL that was given as an argument of this name; closed when the verb is over.

    Args:
        exists: it must be there already.

    Raises:
        ConfigError: that is no pool's URL.
        PoolRefused: there is no such file, and there should be.
    """
    call = click.get_current_context().ensure_object(Call)
    config.check_url(url, name)
    if exists:
        _check_there(url, "")
    return _open(call, url, config.load(url, given=call.given))


def _check_there(url: str, advice: str) -> None:
    if url.startswith("sqlite:///") and not Path(unquote(url[len("sqlite:///") :])).exists():
        raise PoolRefused(f"there is no pool at {url}", advice)


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
