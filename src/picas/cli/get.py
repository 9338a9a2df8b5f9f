"""``picas get``: tokens' files, from the pool to a directory."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.cli.saving import check_free, place_of, save
from picas.errors import InvalidInput, TokenNotFound
from picas.tokens import log_names
from picas.transitions import logs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from picas.pool import Pool
    from picas.selection import Selection
    from picas.tokens import Token


class GetView(output.View):
    """What is saved, as it is saved."""

    def __init__(self, saved: Iterable[dict[str, Any]]) -> None:
        self.saved = saved

    def json_lines(self) -> Iterator[str]:
        """One JSON object per file."""
        return (output.to_json(each) for each in self.saved)

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A path each."""
        nothing = True
        for each in self.saved:
            nothing = False
            yield f"{text.visible(each['path'])}  {text.size(each['bytes'])}"
        if nothing:
            yield "there are no files but logs; --logs saves those too"


@verb("get")
@click.argument("arguments", nargs=-1, metavar="[ID]... [NAME]...")
@click.option(
    "-o", "--output", "directory", default=".", metavar="DIR", help="Where to; made if it is not there."
)
@options.states
@options.where
@click.option("--logs", is_flag=True, help="The logs as well.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@options.pass_call
def command(
    call: options.Call,
    arguments: tuple[str, ...],
    directory: str,
    states: tuple[str, ...],
    where: Selection | None,
    *,
    logs: bool,
    force: bool,
) -> output.View:
    """Save the files that belong to tokens: all but the logs, or those named.

    An argument that is the name of a file of the first token, or has * or ? in it, says which files; any other
    is a token. A single token's files go into DIR itself; of several, or with --state or --where, each token
    has a directory of its own in DIR.
    """
    pool = pools.existing(call)
    if states or where:
        tokens, names = pools.chosen(pool, states, where), list(arguments)
    elif arguments:
        first = pool.get(arguments[0])
        names = [each for each in arguments[1:] if each in first.attachments or set("*?[") & set(each)]
        tokens = iter([first, *_others(pool, [each for each in arguments[1:] if each not in names])])
    else:
        raise InvalidInput("whose files?", "Name a token, or choose some with --state or --where.")
    apart = bool(states or where or len(arguments) - len(names) > 1)
    return GetView(_saved(pool, tokens, names, Path(directory), apart=apart, logs=logs, force=force))


def _others(pool: Pool, ids: Sequence[str]) -> list[Token]:
    others = []
    for token_id, token in zip(ids, pool.store.fetch(ids)):
        if token is None:
            raise TokenNotFound(
                f"'{token_id}' is neither a file of the first token nor a token",
                "picas show ID lists a token's files.",
            )
        others.append(token)
    return others


def _saved(
    pool: Pool,
    tokens: Iterable[Token],
    names: Sequence[str],
    directory: Path,
    *,
    apart: bool,
    logs: bool,
    force: bool,
) -> Iterator[dict[str, Any]]:
    found = dict.fromkeys(names, False)
    refused: InvalidInput | None = None
    for token in tokens:
        wanted = _wanted(token, names, logs=logs)
        for name in names:
            found[name] = found[name] or any(fnmatchcase(each, name) or each == name for each in wanted)
        above = (token.id,) if apart else ()
        places = []
        for name in wanted:
            try:
                places.append((name, place_of(directory, *above, name)))
            except InvalidInput as error:
                if not apart:
                    raise
                refused = refused or error  # one bad name is not to keep the files of all others
        for _, place in places:
            check_free(place, force=force)
        for name, place in places:
            count = save(place, pool.read_attachment(token.id, name), force=force)
            yield {"id": token.id, "name": name, "path": str(place), "bytes": count}
    if refused is not None:
        raise refused
    missing = [name for name, there in found.items() if not there]
    if missing:
        raise TokenNotFound(f"there is no file {missing[0]}", "picas show ID lists a token's files.")


def _wanted(token: Token, names: Sequence[str], *, logs: bool) -> list[str]:
    if names:
        return [
            each
            for each in token.attachments
            if any(fnmatchcase(each, name) or each == name for name in names)
        ]
    kept = set(log_names(token.id))
    for attempt in (token.run, *token.history):
        kept.update(logs_of(attempt))
    return [each for each in token.attachments if logs or each not in kept]
