"""What a pool's tokens amount to: counts with rates, and failures in groups. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from picas.tokens import State, finished_at, js_parse_int

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from picas.stores.base import Progress
    from picas.tokens import Token

MAX_GROUPS = 1000
"""Groups of failures that are told apart; what comes beyond is only counted, so memory is bounded."""

MAX_EXAMPLES = 3

MAX_MESSAGE = 300
"""Characters of a message that count when messages are compared."""

# What differs between messages that say the same: where a file is, which line, how many bytes, at what address.
_PATH = re.compile(r"(?<![\w.])~?(?:/[\w.@%+=:,~-]*[\w@%+=~-])+/?")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|(?<![A-Za-z_])\d+(?:[.:]\d+)*(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Status:
    """Where a pool stands.

    Attributes:
        counts: tokens by state, and ``other`` for documents that are in none.
        rate: tokens finished per second lately; None if it is not known.
        window: the seconds that "lately" means; None without a rate.
        seconds_left: until all that is todo or locked will be finished at this rate; None if there is no
            telling.
        wall_mean: mean wall time in seconds of the tokens finished lately; None if none tells it.
    """

    counts: dict[str, int]
    rate: float | None
    window: float | None
    seconds_left: float | None
    wall_mean: float | None

    @property
    def total(self) -> int:
        """All tokens."""
        return sum(self.counts.values())


def status(counts: Mapping[State | None, int], progress: Progress | None = None) -> Status:
    """The status that counts and recent progress amount to.

    Args:
        progress: None where it is not known; then there is no rate either.
    """
    named = {state.value: counts.get(state, 0) for state in State}
    named["other"] = counts.get(None, 0)
    if progress is None or not progress.finished or progress.seconds <= 0:
        return Status(named, None, None, None, progress.wall if progress else None)
    rate = progress.finished / progress.seconds
    left = named["todo"] + named["locked"]
    return Status(named, rate, progress.seconds, left / rate if left else None, progress.wall)


@dataclass
class FailureGroup:
    """Failures that look alike.

    Attributes:
        exit_code: of the work; None where the document has none.
        failure: the value of a `picas.tokens.Failure`; None where only other clients touched the token.
        message: the message of all of them; if they differ in numbers or paths, with ``N`` and ``PATH`` there.
        count: how many tokens.
        examples: ids of the first few.
        first, last: when the first and the last of them ended, Unix seconds; None where no token tells.
    """

    exit_code: int | None
    failure: str | None
    message: str
    count: int = 0
    examples: list[str] = field(default_factory=list)
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True)
class Failures:
    """All failures of a pool.

    Attributes:
        total: how many tokens.
        groups: the largest group first.
        other: tokens that are in none of the groups, because there were too many groups.
    """

    total: int
    groups: list[FailureGroup]
    other: int


def failures(tokens: Iterable[Token]) -> Failures:
    """Failed tokens in groups of equal exit code, cause, and last message but for numbers and paths."""
    groups: dict[tuple[int | None, str | None, str], FailureGroup] = {}
    total = other = 0
    for token in tokens:
        total += 1
        exit_code = js_parse_int(token.get("exit_code"))
        failure = token.run.get("failure")
        failure = failure if isinstance(failure, str) else None
        message = last_message(token)
        key = (exit_code, failure, normalised(message))
        group = groups.get(key)
        if group is None:
            if len(groups) == MAX_GROUPS:
                other += 1
                continue
            group = groups[key] = FailureGroup(exit_code, failure, message)
        elif group.message != message:
            group.message = key[2]
        _add(group, token)
    return Failures(total, sorted(groups.values(), key=lambda group: -group.count), other)


def _add(group: FailureGroup, token: Token) -> None:
    group.count += 1
    if len(group.examples) < MAX_EXAMPLES:
        group.examples.append(token.id)
    ended = finished_at(token.body)
    if ended is not None:
        group.first = ended if group.first is None else min(group.first, ended)
        group.last = ended if group.last is None else max(group.last, ended)


def last_message(token: Token) -> str:
    """The message of a token's newest error, cut to `MAX_MESSAGE`; empty if there is none."""
    entries: Any = token.get("error")
    newest = entries[-1] if isinstance(entries, list) and entries else None
    message = newest.get("message") if isinstance(newest, dict) else newest
    return message[:MAX_MESSAGE] if isinstance(message, str) else ""


def normalised(message: str) -> str:
    """The message with ``PATH`` for paths and ``N`` for numbers."""
    return _NUMBER.sub("N", _PATH.sub("PATH", message))
