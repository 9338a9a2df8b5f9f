"""``picas errors``: what failed, in groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.report import MAX_EXAMPLES, Failures, failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from picas.report import FailureGroup
    from picas.selection import Selection

SHOWN_GROUPS = 50
"""Groups that people are shown; --json gives all."""


CLASSES = {
    "application": "the work ended with an exit code other than 0",
    "timeout": "stopped by --task-timeout",
    "signal": "killed by a signal that no pilot sent",
    "memory": "no memory was left",
    "infrastructure": "could not be started, or not be saved",
    "lost": "their pilots were not heard of any more",
    "preempted": "stopped because their batch jobs were to end",
    "released": "put back by their pilots",
    "untrusted": "nobody who is trusted has signed them",
    "cancelled": "stopped by a person",
    "": "of other clients, which tell no class",
}
"""What the classes of failures mean."""


class ErrorsView(output.View):
    """Failures in groups."""

    def __init__(self, found: Failures, *, retried: bool) -> None:
        self.found = found
        self.retried = retried

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {
            "failed": self.found.total,
            "classes": {name or "unknown": count for name, count in self.found.classes.items()},
            "groups": [asdict(group) for group in self.found.groups],
            "other": self.found.other,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """Class by class, in each the largest group first, with examples."""
        found = self.found
        what = "attempt" if self.retried else "token"
        if not found.total:
            yield "no attempt has failed and been made again" if self.retried else "no token has failed"
            return
        width = max(len(text.number(group.count)) for group in found.groups[:SHOWN_GROUPS])
        told = None
        for group in found.groups[:SHOWN_GROUPS]:
            if len(found.classes) > 1 and group.failure != told:
                told = group.failure
                yield _heading(group.failure or "", found.classes, what, screen)
            yield from _block(group, width, screen)
        hidden = found.total - sum(group.count for group in found.groups[:SHOWN_GROUPS])
        if hidden:
            yield f"and {text.counted(hidden, what)} that failed in other ways"
        example = text.visible(found.groups[0].examples[0])
        if self.retried:
            yield f"{text.counted(found.total, what)} failed and {'was' if found.total == 1 else 'were'} to be made again; picas show {example} shows those of one token"
        else:
            yield f"{text.counted(found.total, what)} failed; picas logs {example} shows one, picas reset error tries all again"


def _heading(name: str, classes: Mapping[str, int], what: str, screen: output.Screen) -> str:
    meaning = CLASSES.get(name, "")
    known = f" ({meaning})" if meaning else ""
    return screen.fit(f"{text.visible(name) or 'unknown'}: {text.counted(classes[name], what)}{known}")


def _block(group: FailureGroup, width: int, screen: output.Screen) -> Iterator[str]:
    code = "no exit code" if group.exit_code is None else f"exit {group.exit_code}"
    why = f" ({group.failure})" if group.failure not in (None, "application") else ""
    message = text.visible(group.message) or "no message"
    yield screen.fit(f"{text.number(group.count):>{width}} × {code}{why}: {message}")
    times = ""
    if group.first is not None and group.last is not None:
        same = text.clock(group.first) == text.clock(group.last)
        times = text.clock(group.first) + ("" if same else f" … {text.clock(group.last)}")
    more = ", …" if len(group.examples) == MAX_EXAMPLES < group.count else ""
    examples = ", ".join(text.visible(each) for each in group.examples) + more
    yield screen.style(screen.fit(" " * width + f"   {examples}  {times}".rstrip()), "dim")


@verb("errors")
@options.where
@click.option("--retried", is_flag=True, help="Attempts that failed and were made again, of all tokens.")
@options.pass_call
def command(call: options.Call, where: Selection | None, *, retried: bool) -> output.View:
    """Group the tokens in error by class, exit code and message, with counts and examples.

    Messages that differ only in numbers and paths are one group.
    """
    tokens = pools.existing(call).tokens(None if retried else "error", where)
    return ErrorsView(failures(tokens, retried=retried), retried=retried)
