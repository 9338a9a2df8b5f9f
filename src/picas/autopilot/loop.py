"""One look after another at a pool, by one process at a time: what waits, which pilots there are, how many more to start."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable

from picas import machine
from picas.autopilot import record
from picas.autopilot.decide import decide
from picas.autopilot.demand import LATEST, Demand, demand
from picas.autopilot.needs import body_of
from picas.errors import LaunchError, PoolRefused
from picas.fleet.orders import Orders
from picas.launchers.base import Phase
from picas.launchers.execute import NotHeard
from picas.launchers.submit import status
from picas.selection import fields_of
from picas.tokens import State, finished_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.autopilot.decide import Decision
    from picas.autopilot.profiles import Plan, Profile
    from picas.launchers.book import Book, Job
    from picas.launchers.submit import Progress
    from picas.pool import Pool
    from picas.selection import Selection
    from picas.stores.base import Fleet, Tally
    from picas.tokens import Token

    Start = Callable[[Profile, int], Sequence[Job]]

HELD = "autopilot"
"""What one process has while it looks after a pool."""

LEASE_SECONDS = 600.0
"""Who has not prolonged that for so long is gone: longer than a batch system may take to answer."""

HOUR = 3600.0


@dataclass(frozen=True)
class Look:
    """What one look found, and what was done.

    Attributes:
        at: when, Unix seconds.
        demand: what waits.
        decisions: of each kind of pilots.
        started: jobs that were submitted.
        refused: by kind of pilots, what its batch system said that did not take a job.
        problem: what batch systems said that do not tell how far their jobs are; "" if all did.
        busy: who looks after this pool instead; None if nobody else does.
        left: pilots that are queued or running, those among them that were started now.
        over: there is nothing to do any more for the pilots that are offered, and none of them left.
    """

    at: float
    demand: Demand = field(default_factory=Demand)
    decisions: tuple[Decision, ...] = ()
    started: tuple[Job, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    busy: Mapping[str, Any] | None = None
    left: int = 0
    over: bool = False


class Autopilot:
    """Looks after a pool.

    Args:
        start: submits so many pilots of a kind, notes them in the book, and returns the jobs.
        book: the jobs that were submitted for this pool.
        patience: seconds that a batch system may take to answer.
        forgiving: starts that failed before do not count.
        lease: for so many seconds after each look nobody else may look after the pool.

    Raises:
        PoolRefused: no two processes can work on this pool, so there is nothing to look after.
    """

    def __init__(
        self,
        pool: Pool,
        plan: Plan,
        start: Start,
        book: Book,
        *,
        patience: float,
        forgiving: bool = False,
        lease: float = LEASE_SECONDS,
    ) -> None:
        fleet = pool.store.fleet
        if fleet is None:
            raise PoolRefused(f"{pool.url} is no pool that several pilots can work on")
        self._fleet: Fleet = fleet
        self._pool = pool
        self._plan = plan
        self._start = start
        self._book = book
        self._patience = patience
        self._forgiving = forgiving
        self._lease = lease
        host = socket.gethostname()
        self._who = {
            "id": f"{host}-{os.getpid()}-{os.urandom(3).hex()}",
            "host": host,
            "process": machine.this_process(),
            "began": round(time.time()),
        }

    def close(self) -> None:
        """Let another process look after the pool."""
        self._fleet.hold(HELD, self._who, 0.0)

    def look(self, *, dry: bool = False) -> Look:
        """Look once, and start what is to be started.

        Args:
            dry: start nothing, and let whoever looks after the pool do so.

        Raises:
            PoolUnavailable, PoolRefused: as the pool does.
        """
        held = self._fleet.hold(HELD, self._who, 0.0 if dry else self._lease)
        if not (dry or held.mine):
            return Look(time.time(), busy=held.who)
        problems: list[LaunchError] = []
        found = status(self._book, seconds=self._patience, on_problem=problems.append)
        orders = Orders(self._fleet.control()[0])
        latest = self._pool.store.latest(LATEST)
        wanted = demand(self._plan, self._claimable(orders.held_back), latest)
        remembered = self._remembered(held.fields, found, latest, wanted)
        now = time.time()
        names = [profile.name for profile in self._plan.profiles]
        standing = record.standing(names, found, self._started(now), remembered)
        decisions = decide(
            self._plan, wanted, standing, now, orders.paused, _silent(found) if problems else ()
        )
        problem = "\n".join(map(str, problems))
        look = Look(now, wanted, tuple(decisions), problem=problem, left=standing.alive)
        if not dry:
            look = self._act(look, remembered)
        return replace(look, over=self._nothing_left(look))

    def _claimable(self, held_back: Sequence[Selection]) -> list[Tally]:
        """What waits and runs, without what people have paused, as far as the fields that are counted by tell that."""
        fields = self._plan.fields
        known = [each for each in held_back if fields_of(each) <= set(fields)]
        return [
            each
            for each in self._pool.store.tally(fields)
            if each.state is not State.TODO
            or not any(paused.matches(*body_of(fields, each.values)) for paused in known)
        ]

    def _remembered(
        self, before: Mapping[str, Any], found: Sequence[Progress], latest: Sequence[Token], wanted: Demand
    ) -> dict[str, Any]:
        forgiven, self._forgiving = self._forgiving, False
        seen = record.seen_at_work(self._fleet.pilots(), latest)
        ends = {name: 0.0 for name, waiting in wanted.of.items() if waiting.tokens and not waiting.running}
        for token in latest:
            profile = self._plan.profile_for(token.id, token.body)
            if profile is not None and profile.name in ends:
                ends[profile.name] = max(ends[profile.name], finished_at(token.body) or 0.0)
        return record.updated({} if forgiven else before, found, seen, time.time(), ends)

    def _started(self, now: float) -> int:
        """Pilots that were started within the last hour."""
        return sum(job.pilots for job in self._book.jobs(ended=True) if now - job.asked < HOUR)

    def _act(self, look: Look, remembered: dict[str, Any]) -> Look:
        """Start what was decided."""
        started: list[Job] = []
        refused: dict[str, str] = {}
        busy = None
        for each in look.decisions:
            if not each.start:
                continue
            # A batch system may have taken its time: is it still for this process to start pilots?
            held = self._fleet.hold(HELD, self._who, self._lease, remembered)
            if not held.mine:
                busy = held.who
                break
            try:
                started += self._start(each.profile, each.start)
            except LaunchError as error:
                refused[each.profile.name] = str(error)
                if not isinstance(error, NotHeard):
                    remembered = record.refused(remembered, each.profile.name, error.message, time.time())
        if busy is None:
            self._fleet.hold(HELD, self._who, self._lease, remembered)
        left = look.left + sum(job.pilots for job in started)
        return replace(look, started=tuple(started), refused=refused, busy=busy, left=left)

    def _nothing_left(self, look: Look) -> bool:
        waiting = look.demand.todo - sum(each.count for each in look.demand.unfit)
        if waiting or look.demand.locked or look.left or look.busy is not None:
            return False
        return self._pool.store.next_due() is None


def _silent(found: Sequence[Progress]) -> set[str]:
    """Batch systems that say nothing of any of their jobs."""
    said = {each.job.launcher for each in found if set(each.counts) - {Phase.UNKNOWN}}
    return {each.job.launcher for each in found} - said
