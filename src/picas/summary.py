"""What a pilot tells while it works, and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from picas.pool import Verdict
    from picas.tokens import Outcome, Token


@dataclass(frozen=True)
class Event:
    """Something that a person watching the pilot may want to know.

    Attributes:
        kind: ``started``, ``finished``, ``released``, ``waiting`` or ``problem``.
        message: for ``waiting`` and ``problem``.
    """

    kind: str
    token: Token | None = None
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    message: str = ""


@dataclass
class Summary:
    """What a pilot did.

    Attributes:
        done, error, retried, superseded: attempts by what became of them.
        released: tokens put back because the pilot had to go.
        seconds: how long it ran.
        reason: why it ended: ``empty``, ``max-tasks``, ``max-time``, ``stopped`` or ``signal``.
        signal: the signal's number, if that was the reason.
        unsent: results that wait in the spool, see `picas.spool`.
        unfit: of the oldest tokens left in todo, those that need more cores than this pilot has workers.
    """

    done: int = 0
    error: int = 0
    retried: int = 0
    superseded: int = 0
    released: int = 0
    seconds: float = 0.0
    reason: str = "empty"
    signal: int | None = None
    unsent: int = 0
    unfit: int = 0
