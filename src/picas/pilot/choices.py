"""What the choices that users make for a pilot amount to, or why they cannot be meant."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from picas.budgets import Budgets
from picas.errors import InvalidInput
from picas.settings.config import ORDERS
from picas.work.command import CommandWork, Stager
from picas.work.functions import FunctionWork
from picas.work.inprocess import OwnWork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.staging.plan import Staging
    from picas.trust.signing import Verifier
    from picas.work.containers import Container
    from picas.work.functions import WorkLike


def make_work(
    work: WorkLike | OwnWork,
    pool_url: str,
    hidden: Sequence[str],
    staging: Staging | None = None,
    container: Container | None = None,
    *,
    signed: bool = False,
) -> CommandWork | FunctionWork | OwnWork:
    """What is run for each token.

    Args:
        hidden: patterns of variables that the work does not see.
        staging: what is fetched and brought away for it.
        container: what commands run in.
        signed: only tokens are run that a trusted key has signed.

    Raises:
        InvalidInput: nothing can be run by that.
    """
    is_command = not callable(work) and not isinstance(work, OwnWork)
    if container is not None and not is_command:
        raise InvalidInput(
            "a function cannot run in a container", "Make it a command: python3 work.py {input}."
        )
    if isinstance(work, OwnWork):
        if staging is not None:
            raise InvalidInput("for this work nothing can be staged", "It knows best what it needs.")
        return work
    # A token that says what is run on this machine could copy files anyway.
    stager = Stager(staging, pool_url, hidden, trusted=signed or (work is None and container is None))
    if callable(work):
        return FunctionWork(work, pool_url, hidden, stager)
    if isinstance(work, str):
        raise InvalidInput(
            "a command is a list of strings, so that no shell reads it",
            'Write ["bash", "-c", "…"] if a shell is wanted.',
        )
    return CommandWork(work, pool_url, hidden, container, stager)


def make_verifier(required: bool | str | os.PathLike[str]) -> Verifier | None:  # noqa: FBT001 - the option
    """What checks signatures; None where none is wanted.

    Raises:
        PicasError: there are no such keys, or they cannot be checked here.
    """
    if required is False:
        return None
    from picas.trust.keys import KeyFiles  # noqa: PLC0415 - most pilots check nothing

    return KeyFiles().verifier(None if required is True else os.fspath(required))


def make_budgets(budgets: Budgets | None, max_scrub: int | None, retry_on: Sequence[int]) -> Budgets:
    """How often tokens are tried again: what is given by itself goes before what is given together."""
    found = budgets or Budgets()
    if max_scrub is not None:
        found = replace(found, scrub=max_scrub)
    return replace(found, retry_on=tuple(retry_on)) if retry_on else found


def checked_pattern(pattern: str) -> str:
    """A pattern of files to collect, which stays inside of the token's own directory.

    Raises:
        InvalidInput: it does not, or is none.
    """
    if not pattern or pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
        raise InvalidInput(
            f"'{pattern}' cannot be collected", "Patterns are relative to the token's own directory: '*.png'."
        )
    try:
        list(Path(os.devnull).glob(pattern))  # matches nothing, but says whether it is a pattern
    except (ValueError, IndexError) as error:
        raise InvalidInput(
            f"'{pattern}' is no pattern: {error}", "Write one like '*.png' or '**/*.txt'."
        ) from error
    return pattern


def check(counts: Mapping[str, int | None], times: Mapping[str, float | None], order: str) -> None:
    """Refuse numbers, times in seconds and an order that cannot be meant.

    Raises:
        InvalidInput: one of them cannot.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InvalidInput(f"{name} is {value}; it must be at least 1")
    for name, seconds in times.items():
        if seconds is not None and not seconds > 0:
            raise InvalidInput(f"{name} is {seconds}; it must be more than 0 seconds")
    if order not in ORDERS:
        raise InvalidInput(f"there is no order '{order}'", f"Choose one of: {', '.join(ORDERS)}.")
