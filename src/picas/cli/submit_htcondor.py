"""``picas submit htcondor``: pilots as the jobs of one cluster of HTCondor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, submitting
from picas.cli.bringing import brought
from picas.cli.group import Verb

if TYPE_CHECKING:
    from picas.cli import output

SUMMARY = "Pilots as jobs of HTCondor."

_HELP = """Submit pilots as the jobs of one cluster of HTCondor.

\b
picas submit htcondor --pilots 200 --cores 4 --memory 8GB --time 12h
picas submit htcondor --pilots 200 --bundle pilot.pyz --file config.toml --option '+JobFlavour = "workday"'

What stands after -- is for picas run. Bundle and files are brought to the machines, which then need no file
system of ours. --time puts an end to the job; the pilot leaves in time before it.
"""


@click.command("htcondor", cls=Verb, short_help=SUMMARY, help=_HELP)
@click.option("--file", "files", multiple=True, metavar="FILE", help="A file to bring there; several times.")
@submitting.common_options("queue")
@options.pass_call
def command(call: options.Call, /, *, files: tuple[str, ...], **given: Any) -> output.View:
    """Submit to HTCondor; the help is `_HELP`."""
    from picas.launchers.htcondor import HTCondor  # noqa: PLC0415 - start-up of the help

    launcher = HTCondor()
    if given["template"] == submitting.SHOW_TEMPLATE:
        return submitting.TemplateView(launcher)
    more = brought(files, given["bundle"])
    return submitting.carry_out(call, launcher, submitting.request_of(call, given, **more), given)
