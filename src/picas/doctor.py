"""What is wrong with the tokens of a pool, of whatever kind: locks that nobody holds, failures that left no logs.

What is wrong with the database or the file that they are in, `picas.stores.couch.doctor` and
`picas.stores.sqlite.doctor` look for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from picas import machine
from picas.budgets import Budgets
from picas.errors import PicasError, PoolError
from picas.fleet.reaping import Reaper, lease_of
from picas.stores.finding import FAILURE, OK, WARNING, Ailment, Finding
from picas.tokens import Failure, State, log_names
from picas.transitions import logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from picas.pool import Pool
    from picas.stores.base import PilotRecord
    from picas.tokens import Token

    Checks = Mapping[str, Callable[[], Iterator[Ailment]]]

OLD_SECONDS = 86_400.0
"""A lock without a lease, which only people may take back, is worth a word when it is this old."""

MOST_NAMED = 3
"""Tokens that are named."""

LEAVES_LOGS = frozenset(
    each.value for each in (Failure.APPLICATION, Failure.TIMEOUT, Failure.SIGNAL, Failure.MEMORY)
)
"""Failures of work that has run, so that it has logs."""


class Tokens:
    """A look at the tokens of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def checks(self) -> Checks:
        """What can be looked at, by name."""
        return {"locks": self._locks, "logs": self._logs, "documents": self._documents}

    # --- Locks ---

    def _locks(self) -> Iterator[Ailment]:
        lost, old, count = [], [], 0
        for token, why in self._locked():
            count += 1
            if why == "lost":
                lost.append(token.id)
            elif why == "old":
                old.append(token.id)
        if lost:
            text = f"{_many(lost)} locked by pilots that are dead or have fallen silent"
            advice = "Pilots take them back by themselves, and so does picas reap."
            finding = Finding("locks", WARNING, text, advice, {"lost": len(lost)})
            yield Ailment(finding, self._reap)
        if old:
            text = f"{_many(old)} locked for more than a day by a program that gives no sign of life"
            advice = "Nobody but you knows whether it lives: picas reset locked --older-than 1d"
            finding = Finding("locks", WARNING, text, advice, {"old": len(old)})
            yield Ailment(finding, self._reset_old, harmless=False)
        if not lost and not old:
            yield Ailment(Finding("locks", OK, f"{count:,} locked, each by somebody", data={"locked": count}))

    def _locked(self) -> Iterator[tuple[Token, str]]:
        """The locked tokens, each with what is wrong with its lock."""
        fleet = self._pool.store.fleet
        records = {record.id: record for record in fleet.pilots()} if fleet is not None else {}
        now = self._pool.store.now()
        for token in self._pool.tokens(State.LOCKED):
            yield token, _wrong_with(token, records.get(str(token.run.get("pilot"))), now)

    def _reap(self) -> str:
        done = Reaper(self._pool, Budgets()).reap(orphans=True)
        told = f"took {len(done.tokens):,} back"
        if done.unsure or done.others:
            raise PoolError(
                f"{told}; {len(done.unsure):,} pilots are silent, which may be the pool's fault, and "
                f"{len(done.others):,} are of another account",
                "picas reap waits for the silent ones.",
            )
        return told

    def _reset_old(self) -> str:
        return f"made {self._pool.reset(token for token, why in self._locked() if why == 'old'):,} free"

    # --- Logs and documents ---

    def _logs(self) -> Iterator[Ailment]:
        without = [token.id for token in self._pool.tokens(State.ERROR) if lacks_logs(token)]
        if not without:
            yield Ailment(Finding("logs", OK, "every failure has those that it should have"))
            return
        text = f"{_many(without)} failed and without logs that tell why"
        advice = "What was not kept cannot be brought back. Run them again: picas reset ID"
        finding = Finding("logs", WARNING, text, advice, {"without": len(without)})
        yield Ailment(finding, self._reset_without, harmless=False)

    def _reset_without(self) -> str:
        chosen = (token for token in self._pool.tokens(State.ERROR) if lacks_logs(token))
        return f"made {self._pool.reset(chosen):,} free, to be run again"

    def _documents(self) -> Iterator[Ailment]:
        count = self._pool.counts()[None]
        data = {"stateless": count}
        if not count:
            yield Ailment(Finding("documents", OK, "every token is in a state", data=data))
            return
        text = f"{count:,} whose lock and done fit no state: no pilot takes them, no count has them"
        advice = "See them by picas list --state other; picas reset ID makes one todo."
        yield Ailment(Finding("documents", WARNING, text, advice, data))


def lacks_logs(token: Token) -> bool:
    """Whether a failed token has not the logs that its last attempt must have left."""
    listed = logs_of(token.run)
    if listed:
        return any(name not in token.attachments for name in listed)
    if token.run and token.run.get("failure") not in LEAVES_LOGS:
        return False
    return not any(name in token.attachments for name in log_names(token.id))


def _wrong_with(token: Token, record: PilotRecord | None, now: float) -> str:
    run = token.run
    claimed = run.get("claimed", token.get("lock"))
    age = now - claimed if isinstance(claimed, (int, float)) and abs(claimed) < now * 2 else 0.0
    if not run.get("lease"):
        return "old" if age > OLD_SECONDS else ""
    if record is not None:
        dead = machine.is_gone(record.fields.get("process")) or record.silent > lease_of(record)
        return "lost" if dead else ""
    lease = run["lease"]
    return "lost" if isinstance(lease, (int, float)) and age > lease else ""


def _many(ids: list[str]) -> str:
    """``3 tokens are`` …, with the names of the first of them."""
    named = ", ".join(ids[:MOST_NAMED]) + (", …" if len(ids) > MOST_NAMED else "")
    return f"1 token ({named}) is" if len(ids) == 1 else f"{len(ids):,} tokens ({named}) are"


def examine(checks: Checks, names: tuple[str, ...] = ()) -> Iterator[Ailment]:
    """What is found, as it is found: of all there is to look at, or of what has one of these names."""
    for name, look in checks.items():
        if names and name not in names:
            continue
        try:
            yield from look()
        except (
            PicasError
        ) as error:  # one thing that cannot be looked at is no reason not to look at the others
            yield Ailment(Finding(name, FAILURE, error.message, error.advice))
