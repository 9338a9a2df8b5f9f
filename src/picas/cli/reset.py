"""``picas reset``: make tokens free again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.cli import changing
from picas.cli.group import verb
from picas.transitions import is_worth_a_reset

if TYPE_CHECKING:
    from picas.cli.options import Call
    from picas.cli.output import View
    from picas.selection import Selection


_HELP = """Make tokens todo again: those of a state, or those named. Logs and history of earlier attempts are kept.

\b
picas reset error                       try again what failed
picas reset locked --older-than 24h     what a pilot that was killed left behind
picas reset token_3 token_12
"""


@verb("reset", help=_HELP)
@changing.arguments
def command(
    call: Call,
    chosen: tuple[str, ...],
    where: Selection | None,
    older_than: float | None,
    *,
    everything: bool,
    yes: bool,
) -> View:
    """Run the verb; the help is `_HELP`."""
    meant = changing.choice(chosen, where, older_than, everything=everything)
    return changing.change(
        call,
        meant,
        words=("reset", "reset"),
        act=lambda pool, tokens: pool.reset(tokens),
        is_meant=is_worth_a_reset,
        yes=yes,
    )
