"""Options that several verbs share, and the types of values: states, conditions, times, sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.errors import InvalidInput
from picas.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from picas.selection import Selection

STATES = ("todo", "locked", "done", "error")

OTHER = "other"
"""What documents are called that fit none of the states."""


class Call:
    """What holds for this call of the command line, whether it was said before or after the verb.

    Attributes:
        pool: the pool's URL if an option gave it.
        as_json: whether ``--json`` was given.
        given: settings of the file's ``[couchdb]`` that options gave.
    """

    def __init__(self) -> None:
        self.pool: str | None = None
        self.as_json = False
        self.given: dict[str, Any] = {}
        self._settings: config.Settings | None = None

    @property
    def settings(self) -> config.Settings:
        """Options, environment and configuration file together.

        Raises:
            ConfigError: one of them cannot be used.
        """
        if self._settings is None:
            self._settings = config.load(self.pool, given=self.given)
        return self._settings


def _note_pool(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Call).pool = value


def _note_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's way
    if value:
        ctx.ensure_object(Call).as_json = True


def _note_given(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        ctx.ensure_object(Call).given[str(param.name)] = value


def common() -> list[click.Parameter]:
    """The options of every verb, which stand before or after it."""
    return [
        click.Option(
            ["--pool"],
            metavar="URL",
            expose_value=False,
            callback=_note_pool,
            help=f"The pool. Else {config.POOL_VARIABLE}, else the configuration file, else {config.DEFAULT_POOL}.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_note_json,
            help="Answer in JSON, for programs.",
        ),
        click.Option(
            ["--ca"],
            metavar="FILE",
            expose_value=False,
            callback=_note_given,
            help="Certificate authorities to trust in place of the system's.",
        ),
        click.Option(
            ["--insecure"],
            is_flag=True,
            expose_value=False,
            callback=_note_given,
            help="Take any certificate of the server.",
        ),
    ]


def parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """The callback of an option or argument whose value is read by a function that raises `InvalidInput`.

    The message then begins with the option's name.
    """

    def read(param: click.Parameter, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except InvalidInput as error:
            name = param.opts[-1] if isinstance(param, click.Option) else param.metavar
            raise type(error)(f"{name}: {error.message}", error.advice) from None

    def callback(_ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        return tuple(read(param, each) for each in value) if isinstance(value, tuple) else read(param, value)

    return callback


def completing(*words: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What offers the shell these words."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only when completing

        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    return complete


def parse_state(text: str) -> str:
    """The name of a state, or ``other`` for documents that are in none.

    Raises:
        InvalidInput: there is no such state.
    """
    from picas.tokens import State  # noqa: PLC0415 - start-up

    return text if text == OTHER else State.parse(text).value


def _selection(text: str) -> Selection:
    from picas.selection import Selection  # noqa: PLC0415 - start-up

    return Selection.parse(text)


pass_call = click.make_pass_decorator(Call, ensure=True)

states = click.option(
    "--state",
    "states",
    multiple=True,
    callback=parsed(parse_state),
    shell_complete=completing(*STATES, OTHER),
    metavar="STATE",
    help="Only tokens in this state: todo, locked, done, error. May be given several times.",
)
where = click.option(
    "--where",
    callback=parsed(_selection),
    metavar="EXPR",
    help="Only tokens that fit, such as 'cores == 4 and site == \"a\"'.",
)
older_than = click.option(
    "--older-than",
    callback=parsed(config.parse_duration),
    metavar="TIME",
    help="Only tokens claimed or finished longer ago, such as 24h.",
)
