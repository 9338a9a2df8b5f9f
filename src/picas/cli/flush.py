"""``picas flush``: send finished work that the pool could not take at the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.cli import options, output, pools, text
from picas.cli.group import verb

if TYPE_CHECKING:
    from collections.abc import Iterator


class FlushView(output.View):
    """What was sent."""

    def __init__(self, spool: str, sent: int, left: int) -> None:
        self.spool = spool
        self.sent = sent
        self.left = left
        self.exit_code = 1 if left else 0

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {"sent": self.sent, "left": self.left, "spool": self.spool}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """One line, two if something is left."""
        yield f"sent {text.counted(self.sent, 'result')}"
        if self.left:
            left = text.counted(self.left, "result")
            stay = "stays" if self.left == 1 else "stay"
            yield f"{left} could not be sent, and {stay} in {text.visible(self.spool)}"


@verb("flush")
@options.pass_call
def command(call: options.Call) -> output.View:
    """Send what pilots of this machine could not send to the pool. The next `picas run` does the same."""
    from picas.spool.spool import Spool, default_spool  # noqa: PLC0415 - start-up of the help

    pool = pools.existing(call)
    spool = Spool(default_spool(), pool.url)
    return FlushView(str(spool.directory), *spool.flush(pool))
