"""``picas stop``: have pilots finish what runs and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.pause import fleet_of
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator


class StopView(output.View):
    """Who was told to stop."""

    def __init__(self, pilots: list[str]) -> None:
        self.pilots = pilots

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"stopped": self.pilots}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """How many, and what happens now."""
        yield f"told {text.counted(len(self.pilots), 'pilot')} to finish what runs and leave: picas pilots"


@verb("stop")
@click.option("--all", "everything", is_flag=True, help="All pilots that there are now.")
@click.argument("pilots", nargs=-1, metavar="[PILOT]...")
@options.pass_call
def command(call: options.Call, pilots: tuple[str, ...], *, everything: bool) -> output.View:
    """Have pilots finish the tokens that they run, start no more, and leave. They hear of it within seconds.

    PILOT is an id as `picas pilots` shows it, or a host's name for all pilots there.
    """
    from picas.fleet import orders  # noqa: PLC0415 - start-up

    if everything == bool(pilots):
        raise InvalidInput("which pilots?", "Name some, or give --all; picas pilots shows those there are.")
    pool = pools.existing(call)
    fleet = fleet_of(pool)
    records = [record for record in fleet.pilots() if record.fields.get("state") != "ended"]
    meant: list[str] = []
    for name in pilots:
        found = [record.id for record in records if name in (record.id, record.fields.get("host"))]
        if not found:
            raise InvalidInput(f"there is no pilot '{name}'", "picas pilots shows those there are.")
        meant += found
    now = pool.store.now()

    def change(fields: dict[str, Any]) -> None:
        for pilot in meant or [orders.ALL]:
            orders.stop(fields, pilot, now)

    orders.give(fleet, change, now)
    return StopView(list(dict.fromkeys(meant)) or [record.id for record in records])
