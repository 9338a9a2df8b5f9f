"""``picas submit slurm``: pilots as job arrays of Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, submitting
from picas.cli.group import Verb
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from picas.cli import output

SUMMARY = "Pilots as job arrays of Slurm."

_HELP = """Submit pilots as job arrays of Slurm, 200 of them by one sbatch.

\b
picas submit slurm --pilots 200 --cores 4 --time 12h -- --signal USR1@120 -- ./simulate {input}
picas submit slurm --array 0-199%20 --partition short --dry-run

What stands after -- is for picas run. Each pilot takes as many tokens at a time as it has cores, and leaves
when none is left, or in time before its job ends.
"""


@click.command("slurm", cls=Verb, short_help=SUMMARY, help=_HELP)
@click.option(
    "--array", metavar="SPEC", help="One array, as Slurm writes it, such as 0-199%20, in place of --pilots."
)
@submitting.common_options()
@options.pass_call
def command(call: options.Call, /, *, array: str | None, **given: Any) -> output.View:
    """Submit to Slurm; the help is `_HELP`."""
    from picas.launchers.slurm import Slurm, count  # noqa: PLC0415 - start-up of the help

    launcher = Slurm()
    if given["template"] == submitting.SHOW_TEMPLATE:
        return submitting.TemplateView(launcher)
    more: dict[str, Any] = {}
    if array:
        if given["pilots"]:
            raise InvalidInput("--array and --pilots are two ways to say how many", "Give one of them.")
        more = {"array": array, "pilots": count(array)}
    return submitting.carry_out(call, launcher, submitting.request_of(call, given, **more), given)
