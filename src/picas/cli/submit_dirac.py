"""``picas submit dirac``: pilots as jobs of the Grid, through DIRAC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, submitting
from picas.cli.group import Verb
from picas.errors import InvalidInput
from picas.settings.config import parse_size

if TYPE_CHECKING:
    from picas.cli import output

SUMMARY = "Pilots on the Grid, through DIRAC."

_HELP = """Submit pilots to the Grid through DIRAC, as parametric jobs with all they need in their sandbox.

\b
picas bundle -o pilot.pyz
picas submit dirac --pilots 20 --bundle pilot.pyz --file process_task.sh -- -- ./process_task.sh {input} {id}
picas submit dirac --bundle pilot.pyz --option 'Site = "LCG.Example.org"' --dry-run

What stands after -- is for picas run. The address of the pool and your login travel in a file that only you can read.
What pilots print, and results that the pool could not take, come back with dirac-wms-job-get-output.
"""


@click.command("dirac", cls=Verb, short_help=SUMMARY, help=_HELP)
@click.option(
    "--file", "files", multiple=True, metavar="FILE", help="A file or folder to send along; several times."
)
@click.option(
    "--max-array",
    type=click.IntRange(min=1),
    metavar="N",
    help="Jobs that one JDL may make at this DIRAC; 20.",
)
@click.option(
    "--max-sandbox",
    callback=options.parsed(parse_size),
    metavar="SIZE",
    help="How much may travel with a job at this DIRAC; 10MiB.",
)
@submitting.common_options("account", "directory")
@options.pass_call
def command(
    call: options.Call,
    /,
    *,
    files: tuple[str, ...],
    max_array: int | None,
    max_sandbox: int | None,
    **given: Any,
) -> output.View:
    """Submit through DIRAC; the help is `_HELP`."""
    from picas.launchers.dirac import Dirac  # noqa: PLC0415 - start-up of the help
    from picas.launchers.sandbox import CONFIG, travelling_config  # noqa: PLC0415

    launcher = Dirac()
    if given["template"] == submitting.SHOW_TEMPLATE:
        return submitting.TemplateView(launcher)
    if not (given["bundle"] or given["venv"] or given["setup"]):
        raise InvalidInput(
            "machines of the Grid have no picas",
            "Send it along: picas bundle makes the file for --bundle. Or say with --venv or --setup where it is there.",
        )
    more: dict[str, Any] = {"most_elements": max_array, "most_bytes": max_sandbox, "environment": {}}
    if not (given["bundle"] or given["venv"]):
        more["program"] = ("picas",)
    own = tuple(Path(file).absolute() for file in files)
    if given["dry_run"]:
        request = submitting.request_of(call, given, files=(Path(CONFIG), *own), **more)
        return submitting.carry_out(call, launcher, request, given)
    with travelling_config(call.settings) as config:
        request = submitting.request_of(call, given, files=(*config, *own), **more)
        return submitting.carry_out(call, launcher, request, given)
