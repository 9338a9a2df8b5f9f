"""``picas push``: a token file or a sweep into the pool."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import InvalidInput, MissingExtra, PicasError
from picas.intake import DEFAULT_PREFIX
from picas.tokenfile import FORMATS, Sweep, TokenFile, parse_assignment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.intake import PushResult
    from picas.tokenfile import Draft, DraftSource
    from picas.trust.signing import Signer

SHOWN_IN_DRY_RUN = 5

BAR_COLUMNS = 20


class PushView(output.View):
    """What was pushed."""

    def __init__(self, pool: str, result: PushResult) -> None:
        self.pool = pool
        self.result = result

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        result = self.result
        return {
            "pool": self.pool,
            "pushed": result.pushed,
            "skipped": result.skipped,
            "first": result.first,
            "last": result.last,
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """One line."""
        result = self.result
        names = [text.visible(name) for name in (result.first, result.last) if name]
        which = f" ({' … '.join(dict.fromkeys(names))})" if names else ""
        line = f"pushed {text.counted(result.pushed, 'token')}{which} to {text.visible(self.pool)}"
        if result.skipped:
            were = "was" if result.skipped == 1 else "were"
            more = "it" if result.skipped == 1 else "them"
            line += f"; {text.number(result.skipped)} {were} there already (--again adds {more} once more)"
        yield line


class DryRunView(output.View):
    """What would be pushed."""

    def __init__(self, count: int, first: list[Draft]) -> None:
        self.count = count
        self.first = first

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {"tokens": self.count, "first": [_item(draft) for draft in self.first]}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """How many, and the first of them."""
        yield f"{text.counted(self.count, 'token')}, and nothing wrong with {'it' if self.count == 1 else 'them'}"
        yield from (screen.fit("  " + text.one_line(_item(draft))) for draft in self.first)
        if self.count > len(self.first):
            yield "  …"


class _Items:
    """The drafts of a source as `Pool.push` takes them, as often as it likes, with a bar that tells how far it is."""

    def __init__(self, source: DraftSource, line: output.StatusLine) -> None:
        self.source = source
        self.line = line
        self.named = False
        self.first: list[Draft] = []
        self._began = time.monotonic()
        self._seen = 0

    def check(self) -> int:
        """Read all of it, so that nothing is pushed of a source with mistakes; how many tokens there are."""
        count = self.source.check(self._look)
        self._began = time.monotonic()
        return count

    def _look(self, draft: Draft) -> None:
        if draft.id is not None:
            self.named = True
        if self._seen < SHOWN_IN_DRY_RUN:
            self.first.append(draft)
        self._seen += 1
        if not self._seen % 5000:
            self.line.update(f"reading {text.visible(self.source.source)} {self._bar()}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (_item(draft) for draft in self.source)

    def pushed(self, count: int) -> None:
        """So many have been dealt with."""
        rate = count / max(time.monotonic() - self._began, 0.001)
        self.line.update(f"pushing {self._bar()} {text.number(count)} tokens, {rate:,.0f}/s")

    def _bar(self) -> str:
        done = min(1.0, self.source.position / self.source.size) if self.source.size else 1.0
        full = int(done * BAR_COLUMNS)
        return f"[{'#' * full}{'.' * (BAR_COLUMNS - full)}] {done:4.0%}"


def _item(draft: Draft) -> dict[str, Any]:
    return draft.fields if draft.id is None else {"_id": draft.id, **draft.fields}


@verb("push")
@click.argument("file", required=False, metavar="[FILE]")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    help="What FILE is, where its ending does not say it (.csv, .tsv, .jsonl, .json; else lines).",
)
@click.option(
    "--input", "template", metavar="TEMPLATE", help="Makes the input of the fields: 'draw -q {q} -d {d}'."
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUES",
    help="A grid, for FILE: q=0.1:0.9:0.1 or d=256,512.",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A field for all tokens: cores=4."
)
@click.option(
    "--priority", type=float, metavar="N", help="The higher, the sooner they are run; 0 if not given."
)
@click.option(
    "--id-prefix", default=DEFAULT_PREFIX, metavar="P", help=f"What their ids begin with: {DEFAULT_PREFIX}."
)
@click.option("--again", is_flag=True, help="Push also what was pushed before.")
@click.option("--sign-with", metavar="KEY", help="Sign with this key of yours; else with the newest, if any.")
@click.option("--no-sign", is_flag=True, help="Do not sign, also if you have a key.")
@click.option("--dry-run", is_flag=True, help="Only look for mistakes, and show the first tokens.")
@options.pass_call
def command(
    call: options.Call,
    /,
    *,
    again: bool,
    dry_run: bool,
    id_prefix: str,
    sign_with: str | None,
    no_sign: bool,
    **given: Any,
) -> output.View:
    """Put tokens into the pool: one for each line of FILE, row of a table, object of a JSON file, or point of a grid.

    FILE is - for standard input. What was pushed before is left out. If there is a mistake anywhere in FILE,
    nothing of it is pushed.
    """
    _check_prefix(id_prefix)
    signer = _signer(sign_with, no_sign=no_sign)
    with ExitStack() as stack:
        source = _source(stack, given)
        line = stack.enter_context(output.StatusLine())
        items = _Items(source, line)
        count = items.check()
        if dry_run:
            return DryRunView(count, items.first)
        pool = pools.made(call)
        done = 0

        def progress(so_far: int) -> None:
            nonlocal done
            done = so_far
            items.pushed(so_far)

        try:
            # Named ids may be taken; an iterable that can be read twice makes the pool look at all of them first.
            result = pool.push(
                items if items.named else iter(items),
                prefix=id_prefix,
                again=again,
                on_progress=progress,
                on_wait=lambda who: output.note(
                    f"waiting for another push to this pool, by {text.visible(who)}"
                ),
                sign=signer,
            )
        except (PicasError, KeyboardInterrupt):
            line.clear()
            # Of what is under way nobody knows yet whether it is in the pool.
            after = f" after {text.counted(done, 'token')}" if done else ""
            output.note(f"stopped{after}; the same push again adds the rest")
            raise
        return PushView(pool.url, result)


def _signer(name: str | None, *, no_sign: bool) -> Signer | None:
    """What to sign with, if anything.

    Raises:
        InvalidInput: there is no such key.
        MissingExtra: there is a key, and not the package that can use it.
    """
    if no_sign:
        if name:
            raise InvalidInput("--sign-with and --no-sign contradict each other", "Give one of them.")
        return None
    from picas.trust.keys import KeyFiles  # noqa: PLC0415 - start-up

    try:
        return KeyFiles().signer(name)
    except MissingExtra as error:
        raise MissingExtra(error.message, f"{error.advice}; or push without: --no-sign") from error


def _source(stack: ExitStack, given: dict[str, Any]) -> DraftSource:
    fields = dict(_assignment(each) for each in given["assignments"])
    priority = given["priority"]
    if priority is not None:
        fields["priority"] = int(priority) if priority.is_integer() else priority
    file, sweeps = given["file"], given["sweeps"]
    if sweeps and file:
        raise InvalidInput("a file and --sweep are two ways to say what to push", "Give one of them.")
    if sweeps:
        return Sweep(sweeps, template=given["template"], fields=fields)
    if not file:
        raise InvalidInput(
            "there is nothing to push", "Give a file, - for standard input, or --sweep NAME=VALUES."
        )
    source = TokenFile(file, format=given["file_format"], template=given["template"], fields=fields)
    return stack.enter_context(source)


def _assignment(written: str) -> tuple[str, Any]:
    try:
        return parse_assignment(written)
    except InvalidInput as error:
        raise InvalidInput(f"--set: {error.message}", error.advice) from None


def _check_prefix(prefix: str) -> None:
    if not prefix or prefix.startswith("_") or not prefix.isprintable():
        raise InvalidInput(
            f"--id-prefix: no id can begin with {prefix!r}", "Give letters and digits, such as run7_."
        )
