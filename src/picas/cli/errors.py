"""``picas errors``: what failed, in groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.report import Failures, failures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.report import FailureGroup
    from picas.selection import Selection

SHOWN_GROUPS = 50
"""Groups that people are shown; --json gives all."""


class ErrorsView(output.View):
    """Failures in groups."""

    def __init__(self, found: Failures) -> None:
        self.found = found

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {
            "failed": self.found.total,
            "groups": [asdict(group) for group in self.found.groups],
            "other": self.found.other,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """The largest group first, with examples."""
        found = self.found
        if not found.total:
            yield "no token has failed"
            return
        width = len(text.number(found.groups[0].count))
        for group in found.groups[:SHOWN_GROUPS]:
            yield from _block(group, width, screen)
        hidden = found.total - sum(group.count for group in found.groups[:SHOWN_GROUPS])
        if hidden:
            yield f"and {text.counted(hidden, 'token')} that failed in other ways"
        example = text.visible(found.groups[0].examples[0])
        yield f"{text.counted(found.total, 'token')} failed; picas logs {example} shows one, picas reset error tries all again"


def _block(group: FailureGroup, width: int, screen: output.Screen) -> Iterator[str]:
    code = "no exit code" if group.exit_code is None else f"exit {group.exit_code}"
    why = f" ({group.failure})" if group.failure not in (None, "application") else ""
    message = text.visible(group.message) or "no message"
    yield screen.fit(f"{text.number(group.count):>{width}} × {code}{why}: {message}")
    times = ""
    if group.first is not None and group.last is not None:
        same = text.clock(group.first) == text.clock(group.last)
        times = text.clock(group.first) + ("" if same else f" … {text.clock(group.last)}")
    more = ", …" if group.count > len(group.examples) else ""
    examples = ", ".join(text.visible(each) for each in group.examples) + more
    yield screen.style(screen.fit(" " * width + f"   {examples}  {times}".rstrip()), "dim")


@verb("errors")
@options.where
@options.pass_call
def command(call: options.Call, where: Selection | None) -> output.View:
    """Group the tokens in error by exit code and message, with counts and examples.

    Messages that differ only in numbers and paths are one group.
    """
    return ErrorsView(failures(pools.existing(call).tokens("error", where)))
