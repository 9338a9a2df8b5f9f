"""``picas hosts``: which machines fail, and keeping pilots off them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.pause import fleet_of
from picas.errors import InvalidInput
from picas.fleet.hosts import HostTally, tally
from picas.settings.config import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from picas.fleet.orders import Orders
    from picas.selection import Selection

_HEAD = ("HOST", "ATTEMPTS", "FAILED", "SHARE", "MEAN WALL", "LAST", "CLASSES")


class HostsView(output.View):
    """Hosts, the worst first."""

    def __init__(self, hosts: Sequence[HostTally] | None, barred: Mapping[str, str]) -> None:
        self.hosts = hosts
        self.barred = barred

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {
            "hosts": [
                {
                    "host": each.host,
                    "attempts": each.attempts,
                    "failed": each.failed,
                    "share": round(each.rate, 4),
                    "failures": each.failures,
                    "wall_mean": each.wall / each.attempts,
                    "last": each.last,
                    "barred": each.host in self.barred,
                }
                for each in self.hosts or ()
            ],
            "barred": dict(self.barred),
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each, then those that are barred."""
        if self.hosts is None:
            if not self.barred:
                yield "no host is barred"
        elif self.hosts:
            head, *rows = text.columns([_HEAD, *map(_cells, self.hosts)], right=(1, 2, 3, 4))
            yield screen.style(screen.fit(head), "dim")
            yield from map(screen.fit, rows)
        else:
            yield "no attempt has ended yet"
        for host, why in sorted(self.barred.items()):
            yield f"barred: {text.one_line(host)}" + (f": {text.one_line(why)}" if why else "")


def _cells(each: HostTally) -> tuple[str, ...]:
    classes = ", ".join(f"{count} {text.one_line(name)}" for name, count in sorted(each.failures.items()))
    return (
        text.one_line(each.host),
        text.number(each.attempts),
        text.number(each.failed),
        f"{each.rate:.1%}",
        text.duration(each.wall / each.attempts),
        f"{text.age(each.last)} ago",
        classes or "-",
    )


@verb("hosts")
@options.where
@click.option(
    "--since",
    callback=options.parsed(parse_duration),
    metavar="TIME",
    help="Only attempts that ended in the last so much time, such as 24h.",
)
@click.option("--bar", metavar="HOST", help="Have no pilot work there: those that run finish, and leave.")
@click.option("--unbar", metavar="HOST", help="Let pilots work there again.")
@click.option("--why", default="", metavar="TEXT", help="With --bar: what to tell those who wonder.")
@options.pass_call
def command(
    call: options.Call,
    *,
    where: Selection | None,
    since: float | None,
    bar: str | None,
    unbar: str | None,
    why: str,
) -> output.View:
    """Show on which hosts attempts fail, the worst first, from the tokens' own records; bar a host.

    All finished tokens are read for that, which takes a while in a large pool.
    """
    from picas.fleet import orders  # noqa: PLC0415 - start-up

    if bar and unbar:
        raise InvalidInput("--bar and --unbar do not go together", "Give one of them.")
    pool = pools.existing(call)
    fleet = fleet_of(pool)
    now = pool.store.now()
    if bar:
        return HostsView(
            None, _barred(orders.give(fleet, partial(orders.bar, host=bar, why=why, now=now), now))
        )
    if unbar:
        return HostsView(None, _barred(orders.give(fleet, partial(orders.unbar, host=unbar), now)))
    standing = orders.Orders(fleet.control()[0])
    found = tally(pool.tokens(None, where), now - since if since is not None else 0.0)
    return HostsView(found, _barred(standing))


def _barred(standing: Orders) -> dict[str, str]:
    table = standing.fields.get("barred")
    hosts = table if isinstance(table, dict) else {}
    return {host: standing.why_barred(host) or "" for host in hosts}
