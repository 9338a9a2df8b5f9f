"""``picas resume``: take a pause back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from picas.cli import options, output, pools
from picas.cli.group import verb
from picas.cli.pause import OrdersView, fleet_of

if TYPE_CHECKING:
    from picas.selection import Selection


@verb("resume")
@options.where
@click.option("--all", "everything", is_flag=True, help="Every pause, of the pool and of selections.")
@options.pass_call
def command(call: options.Call, where: Selection | None, *, everything: bool) -> output.View:
    """Let pilots claim again: the pool, or what was paused with this --where."""
    from picas.fleet import orders  # noqa: PLC0415 - start-up

    pool = pools.existing(call)
    change = partial(orders.resume, where=where, everything=everything)
    return OrdersView(orders.give(fleet_of(pool), change, pool.store.now()))
