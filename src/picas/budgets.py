"""How often a token is tried again after an attempt that failed, and after which pause.

What the application does wrong is charged to ``scrub_count``. What it can do nothing about (a pilot that was lost,
a batch job that was to end, a machine that cannot start work) has limits of its own, and is counted apart, under
``picas.spent`` in the token. So is an exit code by which the application says itself that it is worth another try.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from picas import tokens, transitions
from picas.errors import InvalidInput
from picas.tokens import Failure, Outcome, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AGAIN = "again"
"""Under this name attempts are counted that ended with an exit code that means "try again"."""

COUNTED_APART = (
    Failure.LOST.value,
    Failure.INFRASTRUCTURE.value,
    Failure.PREEMPTED.value,
    AGAIN,
)
"""What has a limit of its own: the names in ``picas.spent``, and of the fields of `Budgets`."""

MOST = 1e9
"""A pause of so many seconds, and a factor like that, are meant by nobody."""

DOUBLINGS = 30
"""After so many the pause grows no more: it is a number of seconds that nobody waits."""


@dataclass(frozen=True)
class Budgets:
    """How often a token is tried again, by the class of its failures.

    Attributes:
        scrub: after the application failed: a non-zero exit code, its time limit, a signal, no memory left.
        lost: after its pilot was not heard of any more.
        infrastructure: after its work could not even be started.
        preempted: after it was stopped because its batch job was to end.
        again: after an exit code of ``retry_on``.
        retry_on: exit codes by which the application says "try again".
        pause: seconds before the first and, at the most, before any further try of one class; each pause is twice
            the one before. 0 and 0 for none. After `Failure.PREEMPTED` there is none.
        spread: what was lost with its pilot waits up to so many times longer, each token differently: one that kills
            its pilots is not to meet the same others again and again, and have them in error with it.

    Raises:
        InvalidInput: one of them cannot be meant.
    """

    scrub: int = 0
    lost: int = 3
    infrastructure: int = 3
    preempted: int = 20
    again: int = 20
    retry_on: tuple[int, ...] = ()
    pause: tuple[float, float] = (1.0, 600.0)
    spread: float = 3.0

    def __post_init__(self) -> None:
        for name in ("scrub", *COUNTED_APART):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"the budget '{name}' is {getattr(self, name)}; it cannot be less than 0")
        for code in self.retry_on:
            if not 1 <= code <= 255:
                raise InvalidInput(f"{code} is no exit code that a failure has", "They go from 1 to 255.")
        if not 0 <= self.pause[0] <= self.pause[1] < MOST:
            raise InvalidInput(f"{self.pause} are no shortest and longest pause")
        if not 1 <= self.spread < MOST:
            raise InvalidInput(f"a spread of {self.spread} makes no pause longer; it is at least 1")

    def charged_to(self, outcome: Outcome) -> str:
        """What a failed attempt is charged to: one of `COUNTED_APART`, or "" for ``scrub_count``."""
        failure = outcome.failure
        if failure is Failure.APPLICATION and outcome.exit_code in self.retry_on:
            return AGAIN
        return failure.value if failure is not None and failure.value in COUNTED_APART else ""

    def pause_before(self, token: Token, outcome: Outcome) -> float | None:
        """Seconds until the token may be tried again after this attempt; None if it may not be."""
        never = (None, Failure.RELEASED, Failure.UNTRUSTED, Failure.CANCELLED)
        if outcome.final or outcome.failure in never:
            return None
        charged = self.charged_to(outcome)
        used = tokens.spent(token, charged)
        if used >= (getattr(self, charged) if charged else self.scrub):
            return None
        if outcome.failure is Failure.PREEMPTED:  # nothing is wrong that would need time to get better
            return 0.0
        shortest, longest = self.pause
        pause = shortest * 2 ** min(used, DOUBLINGS)
        if outcome.failure is Failure.LOST:
            pause *= 1 + (self.spread - 1) * _share(f"{token.id} {token.claim_id}")
        return float(min(longest, pause))

    def after(self, token: Token, outcome: Outcome, logs: Iterable[str], now: float) -> Token:
        """The token after an attempt: done, error, or todo for another try, if its budgets have one left.

        Args:
            token: as its claim holds it.
            logs: names of the attachments that hold this attempt's logs.
            now: the time by the store's clock.
        """
        if outcome.failure is Failure.RELEASED:
            return transitions.release(
                token,
                outcome.ended,
                started=outcome.started,
                logs=logs,
                checkpoint=outcome.checkpoint,
                notes=outcome.notes,
            )
        pause = self.pause_before(token, outcome)
        if pause is None:
            return transitions.finish(token, outcome, logs)
        not_before = now + pause if pause else None
        return transitions.retry(
            token, outcome, logs, charged_to=self.charged_to(outcome), not_before=not_before
        )

    @classmethod
    def of_scrub(cls, max_scrub: int) -> Budgets:
        """Of a program that says only how often a token is handed out again: that, at once, and nothing else."""
        return cls(max_scrub, lost=0, infrastructure=0, preempted=0, again=0, pause=(0.0, 0.0))

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; `from_dict` reads it."""
        return {
            each.name: list(value) if isinstance(value := getattr(self, each.name), tuple) else value
            for each in fields(self)
        }

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Budgets:
        """What `as_dict` has written, by this version or another one.

        Raises:
            InvalidInput, TypeError, ValueError: it is nothing of the kind.
        """
        known = {each.name for each in fields(cls)}
        given = {name: value for name, value in written.items() if name in known}
        for name in ("retry_on", "pause"):
            if name in given:
                given[name] = tuple(given[name])
        return cls(**given)


def _share(text: str) -> float:
    """A number from 0 to 1, the same for the same text."""
    return zlib.crc32(text.encode("utf-8", "replace")) / 0xFFFFFFFF
