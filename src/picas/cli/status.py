"""``picas status``: the four counts, the rate, the time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import PicasError
from picas.report import Status, status
from picas.settings.config import parse_duration
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.fleet.reaping import Reaped, Reaper
    from picas.pool import Pool
    from picas.selection import Selection
    from picas.stores.base import Progress

WINDOWS_SECONDS = (20.0, 60.0, 600.0)
"""Stretches of time to take the rate over: the shortest in which enough happened, so that a pilot that has
just begun is not judged by the minutes before it."""

ENOUGH_FINISHED = 20


class StatusView(output.View):
    """The status of a pool."""

    def __init__(self, pool: str, found: Status, reaped: Reaped | None = None) -> None:
        self.pool = pool
        self.found = found
        self.reaped = reaped

    def data(self) -> dict[str, object]:
        """See docs/reference/cli.md."""
        found = self.found
        return {
            "pool": self.pool,
            **found.counts,
            "total": found.total,
            "rate": found.rate,
            "rate_window": found.window,
            "seconds_left": found.seconds_left,
            "wall_mean": found.wall_mean,
            "taken_back": len(self.reaped.tokens) if self.reaped else 0,
            "silent": self.reaped.unsure if self.reaped else [],
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A short table, then what the numbers mean."""
        yield screen.style(text.visible(self.pool), "bold")
        counts = {name: count for name, count in self.found.counts.items() if count or name != "other"}
        width = max(len(text.number(self.found.total)), 1)
        for name, count in counts.items():
            yield f"  {screen.state(name, f'{name:<7}')}{text.number(count):>{width + 2}}"
        yield f"  {'total':<7}{text.number(self.found.total):>{width + 2}}"
        yield from self._pace()
        if counts.get("other"):
            yield "other: documents whose lock and done fit no state; picas list --state other"
        if counts["error"]:
            yield "picas errors tells what failed"
        if self.reaped and self.reaped.tokens:
            taken = text.counted(len(self.reaped.tokens), "token")
            yield f"took back {taken} of dead pilots: {', '.join(map(text.one_line, self.reaped.pilots))}"
        if self.reaped and self.reaped.unsure:
            silent = text.counted(len(self.reaped.unsure), "pilot")
            yield f"{silent} not heard of for longer than the lease: picas pilots, picas reap"

    def _pace(self) -> Iterator[str]:
        found = self.found
        if found.rate is None or found.window is None:
            return
        parts = [f"{text.rate(found.rate * 60)} tokens/min in the last {text.duration(found.window)}"]
        if found.wall_mean is not None:
            parts.append(f"{text.duration(found.wall_mean)} each")
        if found.seconds_left is not None:
            parts.append(f"about {text.duration(found.seconds_left)} left")
        yield ", ".join(parts)


@verb("status")
@options.where
@click.option(
    "--watch",
    callback=options.parsed(parse_duration),
    is_flag=False,
    flag_value="2",
    metavar="[SECONDS]",
    help="Look again every so many seconds (2), until Ctrl-C.",
)
@options.pass_call
def command(call: options.Call, where: Selection | None, watch: float | None) -> output.View | None:
    """Show how many tokens are todo, locked, done and in error, the rate and the time left."""
    look = _Look(pools.existing(call), where)
    if watch is None:
        return look()
    while True:
        view = look()
        if not call.as_json:
            output.clear()
        output.show(view, as_json=call.as_json)
        time.sleep(max(watch, 0.1))


class _Look:
    """One look after the other at a pool."""

    def __init__(self, pool: Pool, where: Selection | None) -> None:
        self._pool = pool
        self._where = where
        self._reaper: Reaper | None = None

    def __call__(self) -> StatusView:
        """How it stands now; what dead pilots held is taken back first."""
        pool, where = self._pool, self._where
        counts = pool.counts(where)
        reaped = self._reap() if counts[State.LOCKED] else None
        if reaped and reaped.tokens:
            counts = pool.counts(where)
        # Where nothing has finished there is no rate to ask for: a pool that was just filled answers at once.
        has_rate = where is None and (counts[State.DONE] or counts[State.ERROR])
        return StatusView(pool.url, status(counts, _progress(pool) if has_rate else None), reaped)

    def _reap(self) -> Reaped | None:
        """What was taken back; None where that cannot be done, since nobody asked for it."""
        from picas.budgets import Budgets  # noqa: PLC0415 - start-up
        from picas.fleet.reaping import Reaper  # noqa: PLC0415

        self._reaper = self._reaper or Reaper(self._pool, Budgets())
        try:
            return self._reaper.reap(orphans=False)
        except PicasError:
            return None


def _progress(pool: Pool) -> Progress:
    """Of the shortest time in which enough happened, else of the longest; few requests to a server tell which."""
    shortest, middle, longest = WINDOWS_SECONDS
    found = pool.progress(shortest)
    if found.finished >= ENOUGH_FINISHED:
        return found
    whole = pool.progress(longest)
    if whole.finished < ENOUGH_FINISHED:
        return whole
    found = pool.progress(middle)
    return found if found.finished >= ENOUGH_FINISHED else whole
