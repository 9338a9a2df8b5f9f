"""Taking back what dead pilots hold.

Anybody may, and any number at the same time: each token goes back by a compare-and-set write on the claim that
held it. A pilot is believed to be dead if it ran on this machine and is gone, or if it has not given a sign of life
for longer than its lease. It may be alive all the same, on a laptop that slept: its result is then kept beside the
newer one, see `picas.pool.Pool.finish_many`.

A pool that was out of reach makes all its pilots look dead. So silence counts only for those who have been in touch
with the pool for as long as any living pilot needs to give a sign after that. A request that is lost now and then is
no such trouble: nobody would ever be sure on a bad network.
"""

from __future__ import annotations

import math
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from picas import machine, tokens, transitions
from picas.errors import InfrastructureError, PoolUnavailable, TokenRefused
from picas.finishing import Result
from picas.payload import capped_log
from picas.spool.spool import Spool, default_spool
from picas.stores.base import Change
from picas.tokens import Failure, Outcome, State, log_names
from picas.work.children import kill_left_over
from picas.work.scratch import is_left_over, is_own_file, remove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from picas.budgets import Budgets
    from picas.payload import Payload
    from picas.pool import Pool
    from picas.stores.base import PilotRecord
    from picas.tokens import Token

EXIT_LOST = 137
"""Exit code of a token whose pilot was lost: it was killed, for all that is known."""

TOUCH_FACTOR = 1.5
"""After so many of a pilot's intervals in touch with the pool, one that is silent is silent by itself."""

LOG_CAP = 16 << 20
"""Bytes of each log of a dead attempt that are kept."""

UNSEEN_FACTOR = 10
"""A token that was only claimed, as far as is known, is handed out again so many times more often."""

UNSEEN = "unseen"
"""Under this name in ``picas.spent`` it is counted how often that was."""

MOST_SECONDS = 1e12
"""A time, or a length of it, is less than this, or no time at all."""

GAPS = 100
"""So many of the times in which the pool did not answer are kept in mind."""

BATCH = 100
"""Tokens taken back in one step."""

UNANSWERED = 3
"""After so many tokens that could not be given back the pool is away."""

ORPHAN_SECONDS = 600.0
"""How often it is looked for tokens whose pilot has no record."""


@dataclass
class Reaped:
    """What was done.

    Attributes:
        tokens: ids of those that were taken back.
        pilots: ids of the pilots that are dead.
        unsure: pilots that are silent for longer than their lease, which may be the pool's fault.
        others: dead pilots whose tokens the pool does not let us take back: they are another account's.
    """

    tokens: list[str] = field(default_factory=list)
    pilots: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


class Reaper:
    """Takes back what dead pilots hold.

    Args:
        budgets: how often a token may lose its pilot.
        on_reaped: called with what was done, if anything was.
        spool: where pilots of this machine may have left results; the default one if None.
    """

    def __init__(
        self,
        pool: Pool,
        budgets: Budgets,
        on_reaped: Callable[[Reaped], None] = lambda _: None,
        spool: Spool | None = None,
    ) -> None:
        self._pool = pool
        self._spool = spool or Spool(default_spool(), pool.url)
        self._budgets = budgets
        self._on_reaped = on_reaped
        self._gaps: deque[tuple[float, float]] = deque(maxlen=GAPS)  # when one ended, how long it was
        self._answered_at = -math.inf
        self._missed = False
        self._unanswered: list[PoolUnavailable] = []
        # Not all at once, where many pilots begin at the same time.
        self._orphans_at = machine.clock()[1] + ORPHAN_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311

    def in_touch(self) -> None:
        """Note that the pool has answered."""
        now = machine.clock()[1]
        if self._missed or not self._gaps:
            self._gaps.append((now, now - self._answered_at))
        self._answered_at, self._missed = now, False

    def out_of_touch(self) -> None:
        """Note that it has not."""
        self._missed = True

    def reap(self, *, sure: bool = False, orphans: bool | None = None) -> Reaped:
        """Take back what dead pilots hold now.

        Args:
            sure: the pool has not been out of reach: whoever is silent is so by himself.
            orphans: look also for tokens whose pilot has no record at all, for which all locked ones are read; None:
                now and then.

        Raises:
            PoolUnavailable, PoolRefused: as the pool does; what was done is done.
        """
        fleet = self._pool.store.fleet
        done = Reaped()
        if fleet is None:
            return done
        records = {record.id: record for record in fleet.pilots()}
        self.in_touch()
        dead = {}
        for record in records.values():
            if _is_here(record):
                dead[record.id] = record
            elif record.silent <= lease_of(record):
                continue
            elif sure or fleet.steady or self._is_certain(record):
                dead[record.id] = record
            else:
                done.unsure.append(record.id)
        self._send_what_is_left(dead)
        if dead or (self._is_time_for_orphans() if orphans is None else orphans):
            self._take_back(records, dead, done)
        for record in dead.values():
            _clear_up(record)
            if record.id not in done.others:
                fleet.forget(record.id)
        done.pilots += [pilot for pilot in dead if pilot not in done.others]
        if done.tokens or done.pilots:
            self._on_reaped(done)
        return done

    def _send_what_is_left(self, dead: dict[str, PilotRecord]) -> None:
        """Bring home what pilots of this machine have finished and could not tell any more: it is not run again."""
        if any(_is_here(record) for record in dead.values()):
            with suppress(InfrastructureError):
                self._spool.flush(self._pool)

    def _is_certain(self, record: PilotRecord) -> bool:
        lease = lease_of(record)
        interval = min(lease, _seconds(record.fields.get("interval"), lease / 2))
        # A request that is lost now and then keeps no living pilot silent for as long as its lease.
        harmless = (lease - interval) / 2
        since = [end for end, seconds in self._gaps if seconds > harmless] or [self._gaps[0][0]]
        return machine.clock()[1] - since[-1] >= TOUCH_FACTOR * interval

    def _is_time_for_orphans(self) -> bool:
        """Whether to look for tokens whose pilot has no record."""
        now = machine.clock()[1]
        if now < self._orphans_at:
            return False
        self._orphans_at = now + ORPHAN_SECONDS
        return True

    def _take_back(self, records: dict[str, PilotRecord], dead: dict[str, PilotRecord], done: Reaped) -> None:
        now = self._pool.store.now()
        self._unanswered = []
        batch: list[tuple[Token, PilotRecord | None]] = []
        for token in self._pool.tokens(State.LOCKED):
            run = token.run
            pilot = str(run.get("pilot"))
            if not run.get("lease") or pilot in records.keys() - dead.keys():
                continue
            if pilot not in dead and now - _seconds(run.get("claimed"), now) < _seconds(run["lease"], 0.0):
                continue  # its record may come any moment
            batch.append((token, dead.get(pilot)))
            if len(batch) == BATCH:
                self._try_to_give_back(batch, now, done)
                batch = []
        self._try_to_give_back(batch, now, done)
        if self._unanswered:
            raise self._unanswered[-1]

    def _try_to_give_back(
        self, batch: Sequence[tuple[Token, PilotRecord | None]], now: float, done: Reaped
    ) -> None:
        """Give tokens back, and pass over those that the pool does not let us change."""
        try:
            done.tokens += self._give_back(batch, now)
        except TokenRefused:
            if len(batch) > 1:
                for one in batch:
                    self._try_to_give_back([one], now, done)
            else:
                done.others.add(str(batch[0][0].run.get("pilot")))
        except PoolUnavailable as error:
            # A step has many requests: where one in a hundred is lost, a large step would never come to its end.
            if len(batch) > 1:
                self._try_to_give_back(batch[: len(batch) // 2], now, done)
                self._try_to_give_back(batch[len(batch) // 2 :], now, done)
            else:
                self._unanswered.append(error)
                if len(self._unanswered) >= UNANSWERED:
                    raise

    def _give_back(self, batch: Sequence[tuple[Token, PilotRecord | None]], now: float) -> list[str]:
        gone = {token.claim_id or "" for token, record in batch if record is not None and _is_here(record)}
        if gone:
            kill_left_over(gone - {""})
        begun = [(token, record) for token, record in batch if self._has_begun(token, record)]
        unseen = [token for token, record in batch if not self._has_begun(token, record)]
        results = [_lost(token, record, now) for token, record in begun]
        if results:
            self._finish(results)
        if unseen:
            # Whoever changed one meanwhile knows more of it.
            self._pool.store.replace([Change(_unseen(token, now)) for token in unseen])
        return [token.id for token, _ in batch]

    def _finish(self, results: Sequence[Result]) -> None:
        try:
            self._pool.finish_many(results, budgets=self._budgets)
        except OSError:  # a pilot that was only believed dead has removed its directory just now
            if len(results) > 1:
                for one in results:
                    self._finish([one])
            else:
                self._pool.finish_many([replace(results[0], logs=())], budgets=self._budgets)

    def _has_begun(self, token: Token, record: PilotRecord | None) -> bool:
        """Whether the work of a token had begun, or has to be taken for it."""
        if record is None or _is_here(record):
            return record is None or Path(str(token.run.get("scratch"))).is_dir()
        running = record.fields.get("running")
        listed = running if isinstance(running, list) else []
        claims = [each.get("claim") for each in listed if isinstance(each, dict)]
        return token.claim_id in claims or _unseen_before(token) >= UNSEEN_FACTOR * max(1, self._budgets.lost)


def lease_of(record: PilotRecord) -> float:
    """For how many seconds a pilot may be silent."""
    return _seconds(record.fields.get("lease"), 0.0)


def _is_here(record: PilotRecord) -> bool:
    """Whether the pilot ran on this machine, and is gone."""
    return machine.is_gone(record.fields.get("process"))


def _lost(token: Token, record: PilotRecord | None, now: float) -> Result:
    """The result of an attempt whose pilot is dead."""
    run = token.run
    host = run.get("host") or "a machine that is not known"
    since = (
        "has ended without a word"
        if record is not None and _is_here(record)
        else _silence(token, record, now)
    )
    message = f"its pilot {run.get('pilot')} on {host} {since}"
    started = _seconds(run.get("claimed"), now)
    logs = tuple(_logs(token))
    return Result(token, Outcome(EXIT_LOST, started, now, Failure.LOST, message), logs)


def _silence(token: Token, record: PilotRecord | None, now: float) -> str:
    silent = record.silent if record is not None else now - _seconds(token.run.get("claimed"), now)
    return (
        f"has not given a sign of life for {silent:,.0f} s"
        if silent < 1e9
        else "was there before this machine was started"
    )


def _logs(token: Token) -> list[Payload]:
    """What a dead attempt has written so far, where that can be read from here."""
    scratch = token.run.get("scratch")
    if not isinstance(scratch, str) or not token.claim_id or not scratch.endswith(f"/{token.claim_id}"):
        return []
    # Whoever writes to the pool can name any directory there: what is behind a link is not put into the pool.
    directory = Path(scratch)
    if not is_left_over(str(directory.parent)) or not directory.is_dir() or directory.is_symlink():
        return []
    found = []
    for name, path in zip(log_names(token.id), ("stdout", "stderr")):
        try:
            if is_own_file(f"{scratch}/{path}"):
                found.append(capped_log(name, directory / path, LOG_CAP))
        except OSError:
            continue
    return found


def _unseen(token: Token, now: float) -> Token:
    """The token given back, as one whose work had not begun for all that is known."""
    free = transitions.release(token, now)
    spent = dict(free.picas.get("spent") or {})
    spent[UNSEEN] = _unseen_before(token) + 1
    return tokens.Token(
        free.id, {**free.body, "picas": {**free.picas, "spent": spent}}, free.rev, free.attachments
    )


def _unseen_before(token: Token) -> int:
    spent: Any = token.picas.get("spent")
    count = spent.get(UNSEEN) if isinstance(spent, dict) else 0
    return count if isinstance(count, int) else 0


def _clear_up(record: PilotRecord) -> None:
    """Remove the directory of a pilot that ran here, with what its attempts left there."""
    scratch = record.fields.get("scratch")
    if _is_here(record) and isinstance(scratch, str) and is_left_over(scratch):
        remove(scratch)


def _seconds(value: object, otherwise: float) -> float:
    # Whoever writes to the pool can put any number there, also one that no float can be.
    return float(value) if isinstance(value, (int, float)) and abs(value) < MOST_SECONDS else otherwise
