"""``picas keys``: the keys that tokens are signed with, and those that are trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import VERBS, VerbGroup
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.selection import Selection
    from picas.trust.keys import OwnKey
    from picas.trust.signing import PublicKey

_HELP = """The keys that tokens are signed with, and those that are trusted.

Who has a key signs what he pushes; picas run --require-signed runs only what a trusted key has signed.

\b
picas keys new              on the machine that tokens are pushed from
picas keys list             shows the public key, one line
picas keys trust FILE       on the machines that pilots run on
"""


class KeysView(output.View):
    """Keys: those that sign, and those that are trusted."""

    def __init__(self, own: Sequence[OwnKey], trusted: Sequence[PublicKey]) -> None:
        self.own = own
        self.trusted = trusted

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        newest = self.own[-1].public.id if self.own else None
        known = {key.id for key in self.trusted}
        own = [
            {
                "name": key.public.name,
                "id": key.public.id,
                "public": key.public.line,
                "file": str(key.path),
                "signs": key.public.id == newest,
                "trusted": key.public.id in known,
            }
            for key in self.own
        ]
        trusted = [{"name": key.name, "id": key.id, "public": key.line} for key in self.trusted]
        return {"own": own, "trusted": trusted}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """Ours first, each with the line that others need."""
        if not self.own and not self.trusted:
            yield "no keys; picas keys new makes one, picas keys trust FILE takes that of somebody else"
            return
        ours = {key.public.id for key in self.own}
        for key in self.own:
            marks = ["signs what is pushed"] if key is self.own[-1] else []
            marks += [] if any(each.id == key.public.id for each in self.trusted) else ["not trusted here"]
            more = f"  ({', '.join(marks)})" if marks else ""
            yield f"{key.public.id}  yours: {text.visible(key.public.name)}{more}"
            yield f"  {text.visible(key.public.line)}"
        for each in self.trusted:
            if each.id not in ours:
                yield f"{each.id}  trusted: {text.visible(each.name) or '-'}"


class NewView(output.View):
    """The key that was made."""

    def __init__(self, key: OwnKey) -> None:
        self.key = key

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        key = self.key
        return {
            "name": key.public.name,
            "id": key.public.id,
            "public": key.public.line,
            "file": str(key.path),
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """Where it is, and what others need."""
        yield f"made the key {text.visible(self.key.public.name)} in {text.visible(str(self.key.path))}"
        yield "what is pushed from here is signed with it from now on; whoever runs pilots for it trusts this line:"
        yield text.visible(self.key.public.line)


class ChangedView(output.View):
    """Keys that are trusted now, or are not any more."""

    def __init__(self, what: str, keys: Sequence[PublicKey]) -> None:
        self.what = what
        self.keys = keys

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {self.what: [{"name": key.name, "id": key.id} for key in self.keys]}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each."""
        if not self.keys:
            yield f"nothing is new: they were {self.what} already"
        for key in self.keys:
            yield f"{self.what}: {key.id}  {text.visible(key.name) or '-'}"


class SignedView(output.View):
    """How many tokens were signed."""

    def __init__(self, pool: str, key: PublicKey, count: int) -> None:
        self.pool = pool
        self.key = key
        self.count = count

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"pool": self.pool, "key": self.key.id, "signed": self.count}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """One line."""
        yield f"signed {text.counted(self.count, 'token')} with {text.visible(self.key.name)} ({self.key.id})"


@click.group("keys", cls=VerbGroup, short_help=VERBS["keys"], help=_HELP, no_args_is_help=False)
def command() -> None:
    """Only the verbs below do something; the help is `_HELP`."""


@command.command("new", short_help="Make a key to sign with.")
@click.argument("name", required=False, metavar="[NAME]")
def new(*, name: str | None) -> output.View:
    """Make a key; what is pushed is signed with the newest one. Older keys stay, so that they can be exchanged."""
    from picas.trust.keys import KeyFiles  # noqa: PLC0415 - start-up

    return NewView(KeyFiles().new(name))


@command.command("list", short_help="Your keys, and those that are trusted.")
def list_() -> output.View:
    """Show your keys with the line that others need to trust them, and the keys that you trust."""
    from picas.trust.keys import KeyFiles  # noqa: PLC0415 - start-up

    files = KeyFiles()
    return KeysView(files.own(), files.trusted())


@command.command("trust", short_help="Trust the public keys in a file.")
@click.argument("file", metavar="FILE")
def trust(*, file: str) -> output.View:
    """Trust the public keys in FILE, one a line; - for standard input."""
    from picas.trust.keys import KeyFiles, parse_lines  # noqa: PLC0415 - start-up

    try:
        written = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    keys = parse_lines(written.splitlines(), "<stdin>" if file == "-" else file)
    if not keys:
        raise InvalidInput(f"{file} has no key", "picas keys list shows the line that it should have.")
    return ChangedView("trusted", KeyFiles().trust(keys))


@command.command("distrust", short_help="Trust a key no more.")
@click.argument("key", metavar="KEY")
def distrust(*, key: str) -> output.View:
    """Trust a key no more, by its id or name: what it has signed is not run any more."""
    from picas.trust.keys import KeyFiles  # noqa: PLC0415 - start-up

    return ChangedView("distrusted", KeyFiles().distrust(key))


@command.command("sign", short_help="Sign tokens that are in the pool.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@options.where
@click.option("--key", metavar="KEY", help="Which key, by its name or its file; the newest.")
@click.option("--all", "everything", is_flag=True, help="All that are todo or failed.")
@options.pass_call
def sign(
    call: options.Call,
    /,
    *,
    ids: tuple[str, ...],
    where: Selection | None,
    key: str | None,
    everything: bool,
) -> output.View:
    """Sign tokens as they are in the pool, when you have looked at them: what they say is run in your name.

    Of those that --where or --all choose, only such are signed as are todo or failed.
    """
    from picas.trust.keys import KeyFiles  # noqa: PLC0415 - start-up

    if not (ids or where or everything):
        raise InvalidInput("which tokens?", "Name some, choose them with --where, or give --all.")
    signer = KeyFiles().signer(key)
    if signer is None:
        raise InvalidInput("you have no key", "picas keys new makes one.")
    pool = pools.existing(call)
    chosen = pool.tokens(where=where, ids=ids) if ids else pool.tokens(("todo", "error"), where)
    return SignedView(pool.url, signer.public, pool.sign(chosen, signer))
