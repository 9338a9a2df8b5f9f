"""``picas views``: the design documents of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import VERBS, VerbGroup
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.selection import Selection
    from picas.stores.classic_designs import ClassicDesigns, Found, Made

MONITOR = "Monitor"

GUARD = "picas-guard"

BEHIND = 500
"""So many changes that an index does not have yet are told; fewer are a matter of moments."""

_HELP = """The views of a pool.

Pilots find their tokens by design documents of PiCaS's own, which are written into an empty database by
themselves. People and older programs look at the classic views: todo, locked, done, error and overview_total, in
the design document Monitor, or in one of another name for a part of the tokens.
"""

_CREATE = """Make the classic views, and bring those of PiCaS itself up to date.

\b
picas views create                                         Monitor, of all tokens
picas views create --name SingleCore --where 'cores == 1'  of those that fit

What is there and current is left as it is. New views are built beside the old ones before they take their
place, which takes a while in a large pool; nobody has to stop for it.
"""

_LIST = """Every design document: whose it is, whether it is current, and how many rows its views have."""

_REMOVE = """Remove a design document with its views. The tokens stay."""


class CreatedView(output.View):
    """What became of the design documents."""

    def __init__(self, pool: str, made: Sequence[Made]) -> None:
        self.pool = pool
        self.made = made

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        designs = [{"name": each.name, "outcome": each.outcome, "where": each.where} for each in self.made]
        return {"pool": self.pool, "designs": designs}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each."""
        for each in self.made:
            where = f", where {text.visible(each.where)}" if each.where else ""
            kept = (
                " as it is: not of this version of PiCaS, --force replaces it"
                if each.outcome == "kept"
                else ""
            )
            yield f"{text.visible(each.name)}{where}: {each.outcome}{kept}"


class ListView(output.View):
    """The design documents that there are."""

    def __init__(self, pool: str, found: Sequence[Found]) -> None:
        self.pool = pool
        self.found = found

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"pool": self.pool, "designs": [_as_data(each) for each in self.found]}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """Two lines for each, and what to do where something is not as it should be."""
        yield screen.style(text.visible(self.pool), "bold")
        width = max((len(each.name) for each in self.found), default=0)
        for each in self.found:
            yield screen.fit(f"  {text.visible(each.name):<{width}}  {', '.join(_about(each))}")
            rows = [
                f"{text.visible(view)} {'?' if count is None else text.number(count)}"
                for view, count in each.rows.items()
            ]
            if rows:
                yield screen.fit(f"  {'':<{width}}  {'  '.join(rows)}")
        if not any(each.judged.kind == "classic" for each in self.found):
            yield "picas views create makes those that people and older programs look at"
        if any(
            each.judged.kind != "building" and each.judged.standing in ("older", "edited")
            for each in self.found
        ):
            yield "picas views create --name NAME brings one up to date; with --force one that somebody edited"
        if any(each.slow for each in self.found):
            yield "overview_total is summed in JavaScript: picas views create --force has the server sum, at a fifth of the cost"


def _as_data(found: Found) -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.judged.kind,
        "by_picas": found.judged.ours,
        "standing": found.judged.standing or None,
        "where": found.judged.where,
        "views": dict(found.rows),
        "pending": found.pending,
        "slow_reduce": found.slow,
    }


def _about(found: Found) -> Iterator[str]:
    judged = found.judged
    if judged.kind == "other":
        yield "another program's"
        return
    yield {
        "own": "PiCaS's own",
        "fields": "PiCaS's own, for autopilot",
        "guard": "PiCaS's rules for members",
        "building": "being built to replace another",
        "classic": "classic",
    }[judged.kind]
    if judged.where:
        yield f"where {text.visible(judged.where)}"
    if judged.kind == "classic" and not judged.ours:
        yield "of another program"
    if judged.standing:
        yield {
            "current": "current",
            "older": "of an older version",
            "newer": "of a newer version",
            "edited": "edited by somebody",
        }[judged.standing]
    if found.pending is not None and found.pending > BEHIND:
        yield f"{text.counted(found.pending, 'change')} behind"


class RemovedView(output.View):
    """What was removed."""

    def __init__(self, pool: str, name: str) -> None:
        self.pool = pool
        self.name = name

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"pool": self.pool, "removed": self.name}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """One line."""
        yield f"removed {text.visible(self.name)}"


@click.group("views", cls=VerbGroup, short_help=VERBS["views"], help=_HELP, no_args_is_help=False)
def command() -> None:
    """Only the verbs below do something; the help is `_HELP`."""


@command.command("create", help=_CREATE, short_help="Make the classic views; update those of PiCaS itself.")
@click.option("--name", metavar="NAME", help=f"The design document that the views are in; {MONITOR}.")
@options.where
@click.option(
    "--force", is_flag=True, help="Replace the five views also where somebody else wrote or edited them."
)
@click.option(
    "--guard", is_flag=True, help="Also rules by which members change no locks of others; for CouchDB."
)
@options.pass_call
def create(
    call: options.Call, /, *, name: str | None, where: Selection | None, force: bool, guard: bool
) -> output.View:
    """Make views; the help is `_CREATE`."""
    if where is not None and name in (None, MONITOR):
        raise InvalidInput(
            f"the views in {MONITOR} are of all tokens",
            "Give those of a part a name: --name SingleCore --where …",
        )
    pool, designs = _opened(call)
    with output.StatusLine() as line:

        def tell(building: str, pending: int) -> None:
            line.update(f"building {text.visible(building)}: {text.counted(pending, 'change')} to go")

        made = []
        if guard or designs.get(GUARD) is not None:
            made.append(designs.create_guard(force=force))
        made += designs.create_own(tell)
        made.append(designs.create_classic(name or MONITOR, where, force=force, on_progress=tell))
    return CreatedView(pool, made)


@command.command("list", help=_LIST, short_help="Every design document and how it stands.")
@options.pass_call
def list_(call: options.Call, /) -> output.View:
    """Show what is there; the help is `_LIST`."""
    pool, designs = _opened(call)
    return ListView(pool, designs.survey())


@command.command("remove", help=_REMOVE)
@click.argument("name", metavar="NAME")
@click.option("--force", is_flag=True, help="Also one of another program's, or one that pilots need.")
@options.pass_call
def remove(call: options.Call, /, *, name: str, force: bool) -> output.View:
    """Remove a design document; the help is `_REMOVE`."""
    pool, designs = _opened(call)
    designs.remove(name, force=force)
    return RemovedView(pool, name)


def _opened(call: options.Call) -> tuple[str, ClassicDesigns]:
    """The pool's URL and its design documents."""
    from picas.stores.couch.store import CouchStore  # noqa: PLC0415 - start-up
    from picas.stores.sqlite.designs import SqliteDesigns  # noqa: PLC0415
    from picas.stores.sqlite.store import SqliteStore  # noqa: PLC0415

    store = pools.existing(call).store
    if isinstance(store, SqliteStore):
        return store.url, SqliteDesigns(store)
    assert isinstance(store, CouchStore)
    return store.url, store.designs
