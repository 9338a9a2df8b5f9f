"""``picas delete``: remove tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picas.cli import changing
from picas.cli.group import verb

if TYPE_CHECKING:
    from picas.cli.options import Call
    from picas.cli.output import View
    from picas.selection import Selection


_HELP = """Remove tokens with all their files: those of a state, or those named. A pilot that runs one goes on with it.

\b
picas delete done --older-than 7d
picas delete token_3 token_12
"""


@verb("delete", help=_HELP)
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
        words=("delete", "deleted"),
        act=lambda pool, tokens: pool.delete(tokens),
        ask_for="locked",
        yes=yes,
    )
