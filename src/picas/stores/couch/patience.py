"""How long one goes on asking a server that does not answer, before it is said that it does not."""

from __future__ import annotations

import time
from copy import copy
from typing import Callable, TypeVar

from picas.backoff import Backoff
from picas.errors import PoolUnavailable
from picas.stores.couch.http_errors import NotSent

T = TypeVar("T")

FIRST_SECONDS = 2.0
"""How long a server is asked again that has not answered once: its address may be wrong."""

PAUSE_SECONDS = (0.1, 2.0)
"""Shortest and longest pause between two tries."""


def persist(ask: Callable[[], T], patience: Callable[[], float], *, repeatable: bool) -> T:
    """Ask until there is an answer or patience has run out.

    Args:
        patience: for how many seconds to ask again, from the first time on; asked after each try.
        repeatable: asking twice does no harm, also if the first time was heard and only its answer lost.

    Raises:
        PoolUnavailable: there is no answer, for so long.
    """
    begun = time.monotonic()
    pause = Backoff(*PAUSE_SECONDS)
    tries = 0
    while True:
        tries += 1
        try:
            return ask()
        except PoolUnavailable as error:
            wait = max(pause.seconds(), error.after)
            spent = time.monotonic() - begun
            if spent + wait > patience() or not (repeatable or isinstance(error, NotSent)):
                raise _with_tries(error, tries, spent) from error
        time.sleep(wait)


def _with_tries(error: PoolUnavailable, tries: int, spent: float) -> PoolUnavailable:
    told = copy(error)
    if error.after:
        told.message += f"; it asks to be left alone for {error.after:.0f} s"
    if tries > 1:
        told.message += f"; tried {tries} times in {spent:.0f} s"
    return told
