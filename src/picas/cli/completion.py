"""``picas completion``: what a shell needs to complete verbs, options and states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from picas.cli import output
from picas.cli.group import verb

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS: dict[str, Any] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

VARIABLE = "_PICAS_COMPLETE"
"""By which the shell's script asks picas itself."""


class ScriptView(output.View):
    """A shell script."""

    def __init__(self, shell: str, script: str) -> None:
        self.shell = shell
        self.script = script

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {"shell": self.shell, "script": self.script}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """The script."""
        yield self.script


_HELP = """Print a script for bash, zsh or fish that completes commands, options and states.

\b
bash:  eval "$(picas completion bash)"             in ~/.bashrc
zsh:   eval "$(picas completion zsh)"              in ~/.zshrc
fish:  picas completion fish > ~/.config/fish/completions/picas.fish
"""


@verb("completion", help=_HELP)
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> output.View:
    """Run the verb; the help is `_HELP`."""
    complete = SHELLS[shell](ctx.find_root().command, {}, "picas", VARIABLE)
    # Not complete.source(): that would first start a shell to see how old it is.
    return ScriptView(shell, complete.source_template % complete.source_vars())
