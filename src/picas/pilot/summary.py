"""What a pilot tells while it works, and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from picas.finishing import Verdict
from picas.tokens import Failure

if TYPE_CHECKING:
    from picas.tokens import Outcome, Token


@dataclass(frozen=True)
class Event:
    """Something that a person watching the pilot may want to know.

    Attributes:
        kind: ``started``, ``finished``, ``released``, ``note``, ``waiting`` or ``problem``.
        message: for ``note``, ``waiting`` and ``problem``.
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
        reason: why it ended: ``empty``, ``max-tasks``, ``max-time``, ``walltime``, ``probe``, ``quick-failures``,
            ``stopped`` or ``signal``.
        because: a sentence on that, where there is more to say.
        signal: the signal's number, if that was the reason.
        unsent: results that wait in the spool, see `picas.spool.spool`.
        spool: the directory where they wait; "" if none do.
        unfit: of the oldest tokens left in todo, those that need more cores than this pilot has workers.
        too_long: of these, those that take more time than the pilot had left.
        next_try: when the first token comes that waits for its next try, Unix seconds by the pool's clock; None if
            none does, as far as the pilot has looked.
    """

    done: int = 0
    error: int = 0
    retried: int = 0
    superseded: int = 0
    released: int = 0
    seconds: float = 0.0
    reason: str = "empty"
    because: str = ""
    signal: int | None = None
    unsent: int = 0
    spool: str = ""
    unfit: int = 0
    too_long: int = 0
    next_try: float | None = None

    def count(self, outcome: Outcome, verdict: Verdict) -> None:
        """Count an attempt whose end is in the pool."""
        failure = outcome.failure
        if failure is Failure.RELEASED or (failure is Failure.PREEMPTED and verdict is Verdict.RETRY):
            self.released += 1
        elif verdict is Verdict.DONE:
            self.done += 1
        elif verdict is Verdict.ERROR:
            self.error += 1
        elif verdict is Verdict.RETRY:
            self.retried += 1
        else:
            self.superseded += 1
