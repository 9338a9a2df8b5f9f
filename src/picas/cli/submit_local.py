"""``picas submit local``: pilots in the background of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, submitting, text
from picas.cli.group import Verb

if TYPE_CHECKING:
    from picas.launchers.base import Launcher, Request

SUMMARY = "Pilots in the background of this machine."

_HELP = """Start pilots in the background of this machine, which go on when you log out.

\b
picas submit local --pilots 4
picas submit local --pilots 2 --cores 8 --name fit -- --wait -- ./fit {input}

What stands after -- is for picas run. What a pilot prints goes to NAME-JOB_N.out. After --time a pilot leaves.
"""


@click.command("local", cls=Verb, short_help=SUMMARY, help=_HELP)
@submitting.common_options("memory", "gpus", "queue", "account", "constraint", "option")
@options.pass_call
def command(call: options.Call, /, **given: Any) -> output.View:
    """Start them; the help is `_HELP`."""
    from picas.launchers.local import Local  # noqa: PLC0415 - start-up of the help

    launcher = Local()
    if given["template"] == submitting.SHOW_TEMPLATE:
        return submitting.TemplateView(launcher)
    request = submitting.request_of(call, given)
    if not (given["dry_run"] or given["profile"]):
        warn_of_twins(call, launcher, request, given["patience"])
    return submitting.carry_out(call, launcher, request, given)


def warn_of_twins(call: options.Call, launcher: Launcher, request: Request, seconds: float) -> None:
    """Say that pilots of this name run already: no batch system is there to make them wait for each other.

    Args:
        seconds: how long may be asked for them.

    Raises:
        LaunchError: nobody can tell.
    """
    from picas.launchers.base import Phase  # noqa: PLC0415 - start-up of the help
    from picas.launchers.book import Book  # noqa: PLC0415
    from picas.launchers.execute import execute  # noqa: PLC0415

    jobs = [
        job for job in Book(request.pool).jobs() if (job.launcher, job.name) == (launcher.name, request.name)
    ]
    ids = [each for job in jobs for each in job.ids]
    if not ids:
        return
    told = launcher.parse_status(
        execute(launcher.status_argv(ids), seconds=seconds, forgiven=launcher.forgiven), ids
    )
    running = [each for each in told if each.phase is Phase.RUNNING]
    if running:
        several = text.counted(len(running), "pilot")
        output.warn(
            f"{several} named {request.name} for this pool {'runs' if len(running) == 1 else 'run'} already, "
            f"as {', '.join(dict.fromkeys(each.submitted_as for each in running))}; more are added",
            as_json=call.as_json,
        )
