"""``picas reap``: take back what dead pilots hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.fleet.reaping import Reaped

STEP_SECONDS = 5.0
"""How often it is looked again whether a silent pilot gives a sign."""


class ReapView(output.View):
    """What was taken back."""

    def __init__(self, done: Reaped) -> None:
        self.done = done

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"tokens": self.done.tokens, "pilots": self.done.pilots, "unsure": self.done.unsure}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """How many, and from whom."""
        count = len(self.done.pilots)
        dead = f" of {text.counted(count, 'dead pilot')}" if count else ""
        yield f"took back {text.counted(len(self.done.tokens), 'token')}{dead}"
        yield from (f"  {text.one_line(pilot)}" for pilot in self.done.pilots)
        for pilot in self.done.unsure:
            yield f"{text.one_line(pilot)} is silent, but the pool may have been out of reach: try again in a while"


@verb("reap")
@click.option("--now", is_flag=True, help="Do not wait for silent pilots: the pool was never out of reach.")
@options.pass_call
def command(call: options.Call, *, now: bool) -> output.View:
    """Take back the tokens of pilots that are dead.

    A pilot is dead if it ran on this machine and is gone, or if it has not given a sign of life for longer than its
    lease. Its tokens are todo again, or, when that has happened too often, in error; the logs written so far are kept
    where they are within reach. Pilots do this by themselves all the time.

    A server that was away makes all its pilots look dead, so silent ones get a minute and a half to give a sign.
    """
    from picas.budgets import Budgets  # noqa: PLC0415 - start-up
    from picas.fleet.reaping import Reaper  # noqa: PLC0415

    reaper = Reaper(pools.existing(call), Budgets())
    done = reaper.reap(sure=now, orphans=True)
    told = False
    while done.unsure:
        if not told:
            count = text.counted(len(done.unsure), "silent pilot")
            output.warn(
                f"waiting whether {count} give a sign of life; --now does not wait", as_json=call.as_json
            )
            told = True
        time.sleep(STEP_SECONDS)
        more = reaper.reap()
        done.tokens += more.tokens
        done.pilots += more.pilots
        done.unsure = more.unsure
    return ReapView(done)
