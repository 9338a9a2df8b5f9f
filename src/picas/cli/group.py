"""The verbs, and how click finds and runs them. A verb's module is loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from picas._version import __version__
from picas.cli import output
from picas.cli.options import Call, common
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

VERBS = {
    "init": "Say which pool it is, and try the way to it.",
    "check": "Look whether the pool can be reached and used.",
    "doctor": "Look for what is wrong with a pool, and mend it.",
    "push": "Put tokens into the pool.",
    "run": "Be a pilot: take tokens and run them.",
    "submit": "Start pilots on a cluster or grid, by its batch system.",
    "autopilot": "Keep as many pilots as the work is worth.",
    "bundle": "Make a pilot in one file, for machines that have only Python.",
    "status": "How many tokens are in which state, rate and time left.",
    "list": "List tokens.",
    "show": "One token, all of it.",
    "logs": "What a token's work printed.",
    "get": "Save a token's files.",
    "errors": "Failures, grouped.",
    "pilots": "Who works on the pool, where, at what.",
    "hosts": "Which machines fail; keep pilots off them.",
    "pause": "Have pilots claim nothing for a while.",
    "resume": "Take a pause back.",
    "stop": "Have pilots finish what runs and leave.",
    "cancel": "Stop the work of running tokens.",
    "reap": "Take back what dead pilots hold.",
    "reset": "Make tokens free again.",
    "delete": "Remove tokens.",
    "copy": "Copy tokens to another pool.",
    "export": "Write tokens with their files to a file.",
    "import": "Add the tokens of such a file.",
    "archive": "Move what ended long ago to a file.",
    "passwd": "Change your password on the pool's server.",
    "keys": "Keys to sign tokens with, and to trust.",
    "config": "The configuration file: make it of that of 1.x.",
    "views": "The views of a pool: make, list, remove them.",
    "flush": "Send finished work that the pool could not take at the time.",
    "completion": "Completion for bash, zsh or fish.",
}
"""Each verb and its line in the help; the module of the same name beside this one has it as ``command``."""

# The \b keeps click from filling the lines after it into a paragraph.
HELP = """Run very many independent pieces of work: put them into a pool as tokens, and run pilots that take them.

\b
picas push tasks.txt        one token per line
picas run --workers 4       run them, until nothing is left
picas status                see how far it is
"""


class PipeClosed(Exception):
    """Whoever read the output does not want more of it."""


class Verb(click.Command):
    """A command whose function returns a `View`, or nothing, which is then printed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common())

    def invoke(self, ctx: click.Context) -> int:
        """Run it, print what it returns; the exit code."""
        try:
            view = super().invoke(ctx)
            if view is None:
                return 0
            output.show(view, as_json=ctx.ensure_object(Call).as_json)
        except BrokenPipeError:  # click would make an exit code of 1 of it
            raise PipeClosed from None
        return int(view.exit_code)


class VerbGroup(click.Group):
    """A verb that has verbs of its own; they are made by ``@command.command(name)``."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common())


def verb(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Verb]:
    """Make a function the verb of this name; its docstring is the help."""
    return click.command(name, cls=Verb, short_help=VERBS[name], **settings)


class Verbs(click.Group):
    """All verbs, each loaded only when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        if cmd_name not in VERBS:
            return None
        found: click.Command = import_module(f"picas.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that the arguments begin with.

        Raises:
            InvalidInput: there is none of that name.
        """
        name = args[0]
        if name not in VERBS and not ctx.resilient_parsing and not name.startswith("-"):
            import difflib  # noqa: PLC0415 - start-up

            alike = difflib.get_close_matches(name, VERBS, 1)
            advice = f"Did you mean: picas {alike[0]}?" if alike else "picas --help shows those there are."
            raise InvalidInput(f"there is no command '{name}'", advice)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs for the help, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, params=common(), help=HELP)
@click.version_option(__version__, message="picas %(version)s")
def picas() -> None:
    """Only the verbs do something."""


def invoke(args: list[str]) -> int:
    """Run a command line; its exit code.

    Raises:
        PicasError: also for what click finds wrong with the arguments.
        BrokenPipeError: nobody reads the output any more.
    """
    try:
        return int(picas.main(args, prog_name="picas", standalone_mode=False) or 0)
    except click.Abort:  # click's word for Ctrl-C
        raise KeyboardInterrupt from None
    except PipeClosed:
        raise BrokenPipeError from None
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "picas"
        message = error.format_message().rstrip(".")
        raise InvalidInput(message[:1].lower() + message[1:], f"{path} --help shows what there is.") from None
