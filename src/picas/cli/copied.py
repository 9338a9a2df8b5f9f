"""What the verbs tell that bring tokens from one place to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from picas.cli import output, text
from picas.moving.copying import Left

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.moving.copying import Copied

WHY = {
    Left.DIFFERS: "differ from those of the same id in the target, which were left as they are",
    Left.PUSHED: "are in the target under other ids, pushed from the same lines",
    Left.REFUSED: "are not taken by the target",
    Left.CHANGED: "changed while they were copied; the same copy again takes them as they are then",
    Left.DAMAGED: "have files in the target whose bytes differ",
}
"""What is said of tokens that were not copied."""


class CopiedView(output.View):
    """What was brought over, and what was not.

    Args:
        done: what was done with tokens, such as ``imported``.
    """

    def __init__(self, found: Copied, done: str) -> None:
        self.found = found
        self.done = done
        self.exit_code = 1 if found.left else 0

    def facts(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        found = self.found
        return {
            self.done: found.copied,
            "there": found.there,
            "files": found.files,
            "bytes": found.size,
            "left": {why.value: found.left.get(why, 0) for why in Left},
            "examples": {why.value: ids for why, ids in found.examples.items()},
            "refusals": found.refusals,
        }

    def done_line(self, where: str) -> str:
        """How many tokens were brought there, with what."""
        found = self.found
        line = f"{self.done} {text.counted(found.copied, 'token')} {where}"
        if found.files:
            line += f", with {text.counted(found.files, 'file')} ({text.size(found.size)})"
        if found.there:
            line += f"; {text.number(found.there)} {'was' if found.there == 1 else 'were'} there already"
        return line

    def left_lines(self) -> Iterator[str]:
        """What was not, and why."""
        for why, count in self.found.left.items():
            examples = ", ".join(text.visible(each) for each in self.found.examples[why])
            more = ", …" if count > len(self.found.examples[why]) else ""
            yield f"not {self.done}: {text.number(count)} that {WHY[why]} ({examples}{more})"
        yield from ("  " + text.visible(message) for message in self.found.refusals)
