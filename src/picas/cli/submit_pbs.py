"""``picas submit pbs``: pilots as job arrays of PBS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, submitting
from picas.cli.group import Verb

if TYPE_CHECKING:
    from picas.cli import output

SUMMARY = "Pilots as job arrays of PBS or Torque."

_HELP = """Submit pilots as job arrays of OpenPBS, PBS Professional or Torque.

\b
picas submit pbs --pilots 200 --cores 4 --time 12h --queue long
picas submit pbs --torque --pilots 200 --dry-run

What stands after -- is for picas run. Each pilot takes as many tokens at a time as it has cores, and leaves
when none is left, or in time before its job ends.
"""


@click.command("pbs", cls=Verb, short_help=SUMMARY, help=_HELP)
@click.option("--torque", is_flag=True, help="It is Torque: arrays are made by -t, cores are called ppn.")
@submitting.common_options()
@options.pass_call
def command(call: options.Call, /, *, torque: bool, **given: Any) -> output.View:
    """Submit to PBS; the help is `_HELP`."""
    from picas.launchers.pbs import PBS, Torque  # noqa: PLC0415 - start-up of the help

    launcher = Torque() if torque else PBS()
    if given["template"] == submitting.SHOW_TEMPLATE:
        return submitting.TemplateView(launcher)
    return submitting.carry_out(call, launcher, submitting.request_of(call, given), given)
