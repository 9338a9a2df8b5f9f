"""What ``reset`` and ``delete`` share: which tokens are meant, and whether they are really meant."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import click

from picas.cli import options, output, pools, text
from picas.errors import InvalidInput, PicasError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.cli.options import Call
    from picas.pool import Pool
    from picas.selection import Selection
    from picas.tokens import Token

ASKED_ABOVE = 10
"""So many tokens are changed without a question."""


@dataclass(frozen=True)
class Choice:
    """Which tokens a person means.

    Attributes:
        states, ids: from the arguments.
        everything: all tokens, which has to be said.
    """

    states: tuple[str, ...]
    ids: tuple[str, ...]
    where: Selection | None
    older_than: float | None
    everything: bool

    def tokens(self, pool: Pool) -> Iterator[Token]:
        """The tokens that are meant now, each once."""
        if self.states or not self.ids:
            yield from pools.chosen(pool, self.states, self.where, self.older_than)
        for token in pool.tokens(where=self.where, ids=self.ids, older_than=self.older_than):
            if pools.state_name(token) not in self.states:
                yield token


class ChangeView(output.View):
    """How many tokens were changed."""

    def __init__(self, word: str, count: int) -> None:
        self.word = word
        self.count = count

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {self.word: self.count}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """One line."""
        yield f"{self.word} {text.counted(self.count, 'token')}"


def arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options that say which tokens are meant."""
    for decorate in (
        options.pass_call,
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        click.option("--all", "everything", is_flag=True, help="All tokens."),
        options.older_than,
        options.where,
        click.argument(
            "chosen",
            nargs=-1,
            metavar="[STATE|ID]...",
            shell_complete=options.completing(*options.STATES),
        ),
    ):
        function = decorate(function)
    return function


def choice(
    chosen: tuple[str, ...], where: Selection | None, older_than: float | None, *, everything: bool
) -> Choice:
    """What the arguments mean.

    Raises:
        InvalidInput: they mean nothing, or everything without saying so.
    """
    known = {"failed": "error", **{name: name for name in (*options.STATES, options.OTHER)}}
    states = tuple(known[each] for each in chosen if each in known)
    ids = tuple(dict.fromkeys(each for each in chosen if each not in known))
    if everything and (chosen or where or older_than is not None):
        raise InvalidInput("--all and a choice do not go together", "Leave one of them out.")
    if not (everything or chosen or where or older_than is not None):
        raise InvalidInput(
            "which tokens?", "Name states or ids, or give --where or --older-than; --all means every token."
        )
    return Choice(states, ids, where, older_than, everything)


def change(
    call: Call,
    meant: Choice,
    *,
    words: tuple[str, str],
    act: Callable[[Pool, Iterator[Token]], int],
    is_meant: Callable[[Token], bool] = lambda _: True,
    ask_for: str = "",
    yes: bool,
) -> ChangeView:
    """Change the tokens that are meant, after a question where there are many.

    Args:
        words: what is done, and has been done: ``("reset", "reset")``.
        act: does it; how many were changed.
        is_meant: tells of a token whether it is touched.
        ask_for: a state of which even one token is worth a question.
        yes: do not ask.

    Raises:
        TokenNotFound: an id that was named is not there.
        InvalidInput: there is a question, and nobody to ask.
    """
    pool = pools.existing(call)
    for token_id in meant.ids:
        pool.get(token_id)
    if not yes:
        counts = Counter(pools.state_name(token) for token in meant.tokens(pool) if is_meant(token))
        if sum(counts.values()) > ASKED_ABOVE or counts.get(ask_for):
            _ask(words[0], counts)
    return ChangeView(words[1], act(pool, filter(is_meant, meant.tokens(pool))))


def _ask(word: str, counts: Counter[str]) -> None:
    by_state = ", ".join(f"{text.number(count)} {name}" for name, count in sorted(counts.items()))
    question = f"{word} {text.counted(sum(counts.values()), 'token')} ({by_state})?"
    if not output.can_ask():
        raise InvalidInput(f"not done without a yes: {question}", "--yes says it.")
    if not output.confirm(question):
        raise PicasError("nothing was changed")
