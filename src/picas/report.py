"""What a pool's tokens amount to: counts with rates, and failures in groups. Pure functions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from picas.text.jsvalues import js_parse_int
from picas.tokens import Failure, State, finished_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
        count: how many tokens, or attempts.
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
        total: how many tokens, or attempts.
        classes: how many of each class, the largest first; "" for those that only other clients know.
        groups: those of the largest class first, and of each class the largest first.
        other: failures that are in none of the groups, because there were too many groups.
    """

    total: int
    classes: dict[str, int]
    groups: list[FailureGroup]
    other: int


class _Failed(NamedTuple):
    """One failure."""

    token_id: str
    exit_code: int | None
    failure: str | None
    message: str
    ended: float | None


def failures(tokens: Iterable[Token], *, retried: bool = False) -> Failures:
    """Failures in groups of equal class, exit code, and message but for numbers and paths.

    Args:
        tokens: tokens in error; with ``retried`` tokens in any state.
        retried: count the attempts that failed and were made again, in place of tokens that ended in error.
    """
    groups: dict[tuple[int | None, str | None, str], FailureGroup] = {}
    classes: Counter[str] = Counter()
    other = 0
    for token in tokens:
        for failed in _retried(token) if retried else [_ended_in_error(token)]:
            classes[failed.failure or ""] += 1
            key = (failed.exit_code, failed.failure, normalised(failed.message))
            group = groups.get(key)
            if group is None:
                if len(groups) == MAX_GROUPS:
                    other += 1
                    continue
                group = groups[key] = FailureGroup(failed.exit_code, failed.failure, failed.message)
            elif group.message != failed.message:
                group.message = key[2]
            _add(group, failed)
    ranked = sorted(
        groups.values(), key=lambda group: (-classes[group.failure or ""], group.failure or "", -group.count)
    )
    return Failures(sum(classes.values()), dict(classes.most_common()), ranked, other)


def _ended_in_error(token: Token) -> _Failed:
    failure = token.run.get("failure")
    return _Failed(
        token.id,
        js_parse_int(token.get("exit_code")),
        failure if isinstance(failure, str) else None,
        last_message(token),
        finished_at(token.body),
    )


def _retried(token: Token) -> Iterator[_Failed]:
    """The attempts in a token's history that failed."""
    for entry in token.history:
        failure, ended, message = entry.get("failure"), entry.get("ended"), entry.get("message")
        if isinstance(failure, str) and failure != Failure.RELEASED.value:
            yield _Failed(
                token.id,
                js_parse_int(entry.get("exit_code")),
                failure,
                message[:MAX_MESSAGE] if isinstance(message, str) else "",
                float(ended) if isinstance(ended, (int, float)) else None,
            )


def _add(group: FailureGroup, failed: _Failed) -> None:
    group.count += 1
    if len(group.examples) < MAX_EXAMPLES and failed.token_id not in group.examples:
        group.examples.append(failed.token_id)
    ended = failed.ended
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
