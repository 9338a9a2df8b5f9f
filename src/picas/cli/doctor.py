"""``picas doctor``: what is wrong with a pool, and putting it right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import InvalidInput, PicasError
from picas.stores.finding import FAILURE, OK, WARNING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.doctor import Checks
    from picas.pool import Pool
    from picas.stores.finding import Ailment

NAMES = ("locks", "logs", "documents", "conflicts", "views", "size", "tombstones", "compaction", "file")

_STYLES = {OK: "green", WARNING: "yellow", FAILURE: "red"}
_NAMES_WIDTH = max(map(len, NAMES))
_LEVELS_WIDTH = max(map(len, _STYLES))


_HELP = """Look for what is wrong with a pool, and offer to mend it: all there is, or the checks that are named.

\b
locks       tokens that are locked by nobody
logs        failures without logs
documents   tokens in no state
conflicts   several versions of one token
views       design documents that are stale, edited or broken
size        files that are too large for what is in them
tombstones  what deleted documents leave
compaction  whether the server does it by itself
file        damage to the file of an embedded pool

Exit code 0 if nothing is wrong, or all of it was mended.
"""


class DoctorView(output.View):
    """What was found and done, shown as it is.

    Args:
        found: is looked for while it is shown.
        fix: mend what is wrong.
        named: also where somebody has to want it by name, since it was named.
        ask: whether there is somebody to ask what to mend.
    """

    def __init__(self, pool: str, found: Iterator[Ailment], *, fix: bool, named: bool, ask: bool) -> None:
        self.pool = pool
        self._found = found
        self._fix = fix
        self._named = named
        self._ask = ask
        self._left = 0
        self._offered: list[str] = []

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """1 if something is wrong still; known when all has been shown."""
        return 1 if self._left else 0

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        checks = []
        for ailment in self._found:
            done, failed = self._mended(ailment) if self._is_wanted(ailment) else ("", "")
            finding = ailment.finding
            self._count(ailment, done)
            told = {"name": finding.name, "level": finding.level, "message": finding.text}
            more = {"mendable": ailment.mend is not None, "mended": done or None, "problem": failed or None}
            checks.append({**told, "advice": finding.advice or None, **more, **finding.data})
        return {"pool": self.pool, "ok": not self._left, "checks": checks}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each, what was done or can be below it, and a last one that sums up."""
        yield text.visible(self.pool)
        for ailment in self._found:
            yield from self._block(ailment, screen)
        if self._offered:
            yield f"picas doctor --fix {' '.join(dict.fromkeys(self._offered))} mends what can be mended"
        if self._left:
            yield f"{text.counted(self._left, 'thing')} to be seen to"
        else:
            yield screen.style("all is well", "green")

    def _block(self, ailment: Ailment, screen: output.Screen) -> Iterator[str]:
        finding = ailment.finding
        indent = " " * (_LEVELS_WIDTH + _NAMES_WIDTH + 6)
        level = screen.style(f"{finding.level:<{_LEVELS_WIDTH}}", _STYLES[finding.level])
        yield f"  {level}  {finding.name:<{_NAMES_WIDTH}}  {text.visible(finding.text)}"
        if finding.advice:
            yield indent + text.visible(finding.advice)
        done = failed = ""
        if self._is_wanted(ailment):
            done, failed = self._mended(ailment)
        elif ailment.mend is not None:
            self._offered.append(finding.name)
        self._count(ailment, done)
        if done:
            yield indent + screen.style("mended", "green") + f": {text.visible(done)}"
        if failed:
            yield indent + screen.style("not mended", "red") + f": {text.visible(failed)}"

    def _is_wanted(self, ailment: Ailment) -> bool:
        if ailment.mend is None:
            return False
        if self._fix:
            return ailment.harmless or self._named
        return self._ask and output.confirm(f"{text.visible(ailment.finding.text)}. Mend it?")

    def _mended(self, ailment: Ailment) -> tuple[str, str]:
        """What was done, or why nothing was."""
        assert ailment.mend is not None
        try:
            return ailment.mend(), ""
        except PicasError as error:
            return "", f"{error.message} {error.advice}".strip()

    def _count(self, ailment: Ailment, done: str) -> None:
        self._left += ailment.finding.level != OK and not done


@verb("doctor", help=_HELP)
@click.argument("names", nargs=-1, metavar="[CHECK]...", shell_complete=options.completing(*NAMES))
@click.option("--fix", is_flag=True, help="Mend what can be mended; what needs thought only if it is named.")
@options.pass_call
def command(call: options.Call, /, *, names: tuple[str, ...], fix: bool) -> output.View:
    """Look for what is wrong; the help is `_HELP`."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InvalidInput(f"there is no check '{unknown[0]}'", f"There are: {', '.join(NAMES)}.")
    from picas.doctor import Tokens, examine  # noqa: PLC0415 - start-up

    pool = pools.existing(call)
    checks: Checks = {**Tokens(pool).checks(), **_of_store(call, pool)}
    ask = not fix and not call.as_json and output.can_ask()
    return DoctorView(pool.url, examine(checks, names), fix=fix, named=bool(names), ask=ask)


def _of_store(call: options.Call, pool: Pool) -> Checks:
    from picas.stores import connect, path_of  # noqa: PLC0415 - start-up

    if pool.url.startswith(("http://", "https://")):
        from picas.stores.couch.doctor import CouchDoctor  # noqa: PLC0415 - only what is used is loaded

        return CouchDoctor(*connect(call.settings.pool, call.settings.access)).checks()
    from picas.stores.sqlite.doctor import SqliteDoctor  # noqa: PLC0415

    return SqliteDoctor(path_of(pool.url)).checks()
