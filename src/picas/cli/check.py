"""``picas check``: look at the pool and the way to it, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.stores.finding import FAILURE, OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.settings.config import Settings

_STYLES = {OK: "green", WARNING: "yellow", FAILURE: "red"}
_WIDTH = max(map(len, _STYLES))
_NAMES_WIDTH = 10


class CheckView(output.View):
    """What was found, shown as it is found.

    Args:
        findings: are looked for while they are shown.
    """

    def __init__(self, pool: str, findings: Iterator[Finding]) -> None:
        self.pool = pool
        self.levels: list[str] = []
        self._findings = findings

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """1 if something keeps pilots from working; known when all has been shown."""
        return 1 if FAILURE in self.levels else 0

    def found(self) -> Iterator[Finding]:
        """Each finding, counted."""
        for finding in self._findings:
            self.levels.append(finding.level)
            yield finding

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        checks = [
            {
                "name": finding.name,
                "level": finding.level,
                "message": finding.text,
                "advice": finding.advice or None,
                **finding.data,
            }
            for finding in self.found()
        ]
        return {"pool": self.pool, "ok": not self.exit_code, "checks": checks}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each, what to do below it, and a last one that sums up."""
        yield text.visible(self.pool)
        for finding in self.found():
            level = screen.style(f"{finding.level:<{_WIDTH}}", _STYLES[finding.level])
            yield f"  {level}  {finding.name:<{_NAMES_WIDTH}}  {text.visible(finding.text)}"
            if finding.advice:
                yield " " * (_WIDTH + _NAMES_WIDTH + 6) + text.visible(finding.advice)
        failures, warnings = self.levels.count(FAILURE), self.levels.count(WARNING)
        if failures:
            yield screen.style(f"{text.counted(failures, 'failure')}: pilots cannot work like this", "red")
        elif warnings:
            yield f"pilots can work; {text.counted(warnings, 'warning')}"
        else:
            yield screen.style("all is well", "green")


@verb("check")
@click.option(
    "--mend", is_flag=True, help="Put tokens right that have conflicting versions, as far as that is safe."
)
@options.pass_call
def command(call: options.Call, *, mend: bool) -> output.View:
    """Look whether the pool can be reached and used: server, login, rights, copies, views, clock.

    Exit code 0 if pilots can work, 1 if not.
    """
    settings = call.settings
    pools.warn(call, call.pool, settings)
    return CheckView(settings.pool, _findings(settings, mend=mend))


def _findings(settings: Settings, *, mend: bool) -> Iterator[Finding]:
    scheme, _, rest = settings.pool.partition("://")
    if scheme in ("http", "https"):
        from picas.stores import connect  # noqa: PLC0415 - only what is used is loaded
        from picas.stores.couch.checkup import CouchCheckup  # noqa: PLC0415

        server, database = connect(settings.pool, settings.access)
        return CouchCheckup(server, database, settings.access, mend=mend).findings()
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        from picas.stores.sqlite.checkup import sqlite_findings  # noqa: PLC0415

        return sqlite_findings(Path(unquote(rest[1:])).absolute())
    from picas.stores import open_store  # noqa: PLC0415

    open_store(settings.pool)  # says what is wrong with it
    return iter(())
