"""``picas submit ssh``: pilots in the background of other machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, submitting
from picas.cli.bringing import brought
from picas.cli.group import Verb
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.cli import output

SUMMARY = "Pilots in the background of other machines."

_HELP = """Start pilots in the background of other machines, which ssh reaches without asking for a password.

\b
picas submit ssh --host node1 --host me@node2 --pilots 2 --cores 8
picas submit ssh --hosts machines.txt --bundle pilot.pyz --directory work

Each host gets --pilots of them. Bundle and files are brought to the directory there. PICAS_SSH says which ssh is
called, such as 'ssh -F my.config'.
"""


@click.command("ssh", cls=Verb, short_help=SUMMARY, help=_HELP)
@click.option(
    "--host", "named", multiple=True, metavar="HOST", help="A machine: node1, me@node2; several times."
)
@click.option("--hosts", "listed", metavar="FILE", help="A file with a machine a line; # begins a comment.")
@click.option("--file", "files", multiple=True, metavar="FILE", help="A file to bring there; several times.")
@submitting.common_options("memory", "gpus", "queue", "account", "constraint", "option")
@options.pass_call
def command(
    call: options.Call, /, *, named: tuple[str, ...], listed: str | None, files: tuple[str, ...], **given: Any
) -> output.View:
    """Start them; the help is `_HELP`."""
    from picas.cli.submit_local import warn_of_twins  # noqa: PLC0415 - start-up of the help
    from picas.launchers.ssh import SSH  # noqa: PLC0415

    launcher = SSH()
    if given["template"] == submitting.SHOW_TEMPLATE:
        return submitting.TemplateView(launcher)
    more: dict[str, Any] = brought(files, given["bundle"])
    more["hosts"] = (*named, *(_hosts(Path(listed)) if listed else ()))
    if given["directory"]:  # theirs, which may begin at the home directory there
        more["directory"] = Path(given["directory"])
    request = submitting.request_of(call, given, **more)
    if not (given["dry_run"] or given["profile"]):
        warn_of_twins(call, launcher, request, given["patience"])
    return submitting.carry_out(call, launcher, request, given)


def _hosts(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--hosts: {path} cannot be read: {error}") from error
    for line in lines:
        host = line.partition("#")[0].strip()
        if host:
            yield host
