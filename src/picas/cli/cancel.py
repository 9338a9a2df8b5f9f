"""``picas cancel``: stop the work of running tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.pause import fleet_of
from picas.errors import InvalidInput
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator


class CancelView(output.View):
    """Which tokens are cancelled."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"cancelled": self.ids}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """How many, and what becomes of them."""
        yield f"cancelled {text.counted(len(self.ids), 'token')}: stopped within seconds, and then in error"


@verb("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.pass_call
def command(call: options.Call, ids: tuple[str, ...]) -> output.View:
    """Stop the work of running tokens. They end in error, with what they printed, and are not tried again."""
    from picas.fleet import orders  # noqa: PLC0415 - start-up

    pool = pools.existing(call)
    claims = []
    for token_id in ids:
        token = pool.get(token_id)
        if token.state is not State.LOCKED:
            state = pools.state_name(token)
            advice = (
                "picas pause keeps it from being started, picas delete removes it." if state == "todo" else ""
            )
            raise InvalidInput(f"{token_id} is not running, it is {state}; nothing was cancelled", advice)
        if token.claim_id is None or not token.run.get("lease"):
            raise InvalidInput(
                f"{token_id} was claimed by a program that hears no orders; nothing was cancelled",
                "Stop that program; picas reset makes the token free again.",
            )
        claims.append(token.claim_id)
    now = pool.store.now()
    orders.give(fleet_of(pool), lambda fields: orders.cancel(fields, claims, now), now)
    return CancelView(list(ids))
