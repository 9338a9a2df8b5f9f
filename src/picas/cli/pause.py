"""``picas pause`` and ``picas resume``: have pilots claim nothing for a while."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import PicasError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.fleet.orders import Orders
    from picas.pool import Pool
    from picas.selection import Selection
    from picas.stores.base import Fleet


class OrdersView(output.View):
    """What is paused after an order."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        paused = self.orders.fields.get("paused")
        return {"paused": paused if isinstance(paused, list) else []}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What is, and what that means."""
        paused = self.data()["paused"]
        if not paused:
            yield "nothing is paused"
        for each in paused:
            what = f"tokens where {text.one_line(each['where'])}" if each.get("where") else "the whole pool"
            why = f": {text.one_line(each['why'])}" if each.get("why") else ""
            yield f"paused: {what}{why}"
        if paused:
            yield "what runs goes on; pilots hear of it within seconds"


def fleet_of(pool: Pool) -> Fleet:
    """The pilots of the pool.

    Raises:
        PicasError: nobody can be ordered anything there.
    """
    if pool.store.fleet is None:
        raise PicasError(f"{pool.url} has no pilots that could be ordered anything")
    return pool.store.fleet


@verb("pause")
@options.where
@click.option("--why", default="", metavar="TEXT", help="What to tell those who wonder.")
@options.pass_call
def command(call: options.Call, where: Selection | None, why: str) -> output.View:
    """Have no pilot claim tokens any more, or none that fit --where, until `picas resume`.

    What runs is finished. Pilots without --wait leave when the whole pool is paused.
    """
    from picas.fleet import orders  # noqa: PLC0415 - start-up

    pool = pools.existing(call)
    now = pool.store.now()
    return OrdersView(orders.give(fleet_of(pool), partial(orders.pause, where=where, why=why, now=now), now))
