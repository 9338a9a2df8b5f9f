"""How hosts have fared with tokens: attempts by host, from the tokens' own records. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from picas.tokens import Failure, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from picas.tokens import Token

MOST_SECONDS = 1e12
"""A time is less than this, or no time at all."""

NOT_A_FAILURE = frozenset((Failure.RELEASED.value, Failure.CANCELLED.value, Failure.PREEMPTED.value))
"""Ends of attempts that say nothing of a host."""

MAX_HOSTS = 100_000
"""So many hosts are told apart; memory is bounded."""


@dataclass
class HostTally:
    """What became of the attempts on one host.

    Attributes:
        attempts: those that ended by themselves or failed.
        failures: by class.
        wall: seconds of all that tell.
        last: when the last of them ended, Unix seconds; None if none tells.
    """

    host: str
    attempts: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    wall: float = 0.0
    last: float | None = None

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(self.failures.values())

    @property
    def rate(self) -> float:
        """Share of failures, 0 to 1."""
        return self.failed / self.attempts if self.attempts else 0.0


def tally(tokens: Iterable[Token], since: float = 0.0) -> list[HostTally]:
    """Hosts, those with the highest share of failures first.

    Args:
        since: only attempts that ended after that, Unix seconds.
    """
    found: dict[str, HostTally] = {}
    for token in tokens:
        for entry in _ended(token):
            host = entry.get("host")
            ended: Any = entry.get("ended")
            if not isinstance(host, str) or not host or not _is_time(ended) or ended < since:
                continue
            mine = found.get(host)
            if mine is None:
                if len(found) >= MAX_HOSTS:
                    continue
                mine = found[host] = HostTally(host)
            _count(mine, entry, float(ended))
    return sorted(found.values(), key=lambda each: (-each.rate, -each.failed, each.host))


def _ended(token: Token) -> Iterator[Mapping[str, Any]]:
    entries = token.history if token.state in (State.TODO, State.LOCKED) else [*token.history, token.run]
    yield from (entry for entry in entries if str(entry.get("failure")) not in NOT_A_FAILURE)


def _count(mine: HostTally, entry: Mapping[str, Any], ended: float) -> None:
    mine.attempts += 1
    failure = entry.get("failure")
    if failure is not None:
        mine.failures[str(failure)] = mine.failures.get(str(failure), 0) + 1
    wall: Any = entry.get("wall")
    mine.wall += wall if _is_time(wall) else 0.0
    mine.last = max(mine.last or 0.0, ended)


def _is_time(value: Any) -> bool:
    """Whether it is a time, or a length of it: anybody may have written a number there that no float can be."""
    return isinstance(value, (int, float)) and abs(value) < MOST_SECONDS
