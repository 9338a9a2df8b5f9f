"""``picas submit``: start pilots by a batch system, ask how far they are, cancel them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, submitting, text
from picas.cli.group import VERBS, VerbGroup
from picas.launchers.execute import ANSWER_SECONDS
from picas.settings.config import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.errors import LaunchError
    from picas.launchers.book import Job
    from picas.launchers.submit import Progress

SYSTEMS = {
    "slurm": "Pilots as job arrays of Slurm.",
    "dirac": "Pilots on the Grid, through DIRAC.",
    "htcondor": "Pilots as jobs of HTCondor.",
    "pbs": "Pilots as job arrays of PBS or Torque.",
    "ssh": "Pilots in the background of other machines.",
    "local": "Pilots in the background of this machine.",
}
"""The batch systems and their lines in the help; the module ``submit_<name>`` beside this one has ``command``."""

_HELP = """Start pilots on a cluster or grid, by its batch system.

\b
picas submit slurm --pilots 20 --cores 4 --time 12h      20 pilots in one job array
picas submit slurm --dry-run                             show the script
picas submit status                                      how far they are
picas submit cancel                                      take them back
"""

_STATUS = """How far the jobs are that were submitted from here for this pool.

The batch system is asked. Jobs that are over are shown once more, and later with --all.
"""

_CANCEL = """Cancel jobs of this pool: those named, elements of arrays too, or all.

What their pilots run is put back; no token is lost.
"""

_patience = click.option(
    "--patience",
    callback=options.parsed(parse_duration),
    default=f"{ANSWER_SECONDS:g}",
    metavar="TIME",
    help=f"How long the batch system may take to answer; {ANSWER_SECONDS:g}s.",
)


class Systems(VerbGroup):
    """The verbs below, and those of the batch systems, each loaded only when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The batch systems first."""
        return [*SYSTEMS, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        if cmd_name not in SYSTEMS:
            return super().get_command(ctx, cmd_name)
        found: click.Command = import_module(f"picas.cli.submit_{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs for the help, without loading those of the batch systems."""
        lines = {**SYSTEMS, **{name: each.short_help or "" for name, each in self.commands.items()}}
        with formatter.section("Commands"):
            formatter.write_dl(list(lines.items()))


class StatusView(output.View):
    """How far the jobs are."""

    def __init__(self, pool: str, found: Sequence[Progress], over: Sequence[Job], *, answered: bool) -> None:
        self.pool = pool
        self.found = found
        self.over = over
        self.exit_code = 0 if answered else 1

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        jobs = [
            {**_as_data(each.job), "alive": each.alive, "pilots_in": _counts(each), "details": each.details}
            for each in self.found
        ]
        return {"pool": self.pool, "jobs": jobs, "over": [_as_data(job) for job in self.over]}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A table: a line for each script that was submitted."""
        if not self.found and not self.over:
            yield f"no jobs for {text.visible(self.pool)}: picas submit slurm, for one, starts some"
            return
        rows: list[tuple[str, ...]] = [
            ("job", "with", "name", "pilots", "queued", "running", "ended", "submitted")
        ]
        for each in self.found:
            counts = _counts(each)
            ended = counts["ended"] + counts["failed"]
            row = (each.job.pilots, counts["queued"] + counts["unknown"], counts["running"], ended)
            rows.append((*_about(each.job), *map(text.number, row), _ago(each.job)))
        for job in self.over:
            pilots = text.number(job.pilots)
            rows += [(*_about(job), pilots, "-", "-", pilots, _ago(job))]
        for number, line in enumerate(text.columns(rows, right=(3, 4, 5, 6))):
            yield screen.fit(screen.style(line, "bold") if number == 0 else line)
        for each in self.found:
            for detail, count in each.details.items():
                if any(word in detail for word in ("(", "FAILED")):
                    yield screen.fit(f"{_id(each.job)}: {text.number(count)} {text.visible(detail)}")
            if not each.job.ids:
                yield f"{each.job.key}: no answer has come to its submission; {text.visible(each.job.script)}"


def _as_data(job: Job) -> dict[str, Any]:
    return {
        "ids": list(job.ids),
        "launcher": job.launcher,
        "name": job.name,
        "pilots": job.pilots,
        "profile": job.profile or None,
        "script": job.script,
        "submitted": job.asked,
        "ended": job.ended,
        "outcome": job.outcome or None,
    }


def _counts(each: Progress) -> dict[str, int]:
    from picas.launchers.base import Phase  # noqa: PLC0415 - start-up of the help

    return {phase.value: each.counts.get(phase, 0) for phase in Phase}


def _about(job: Job) -> tuple[str, str, str]:
    return _id(job), job.launcher, text.visible(job.name)


def _id(job: Job) -> str:
    if not job.ids:
        return "?"
    return text.visible(job.ids[0]) + (" …" if len(job.ids) > 1 else "")


def _ago(job: Job) -> str:
    return f"{text.age(job.asked)} ago"


class CancelledView(output.View):
    """What was cancelled."""

    def __init__(self, pool: str, jobs: Sequence[Job], ids: Sequence[str]) -> None:
        self.pool = pool
        self.jobs = jobs
        self.ids = ids

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"pool": self.pool, "cancelled": list(self.ids)}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """One line."""
        if not self.ids:
            yield f"no jobs to cancel for {text.visible(self.pool)}"
            return
        yield f"cancelled {text.visible(' '.join(self.ids))}"


@click.group("submit", cls=Systems, short_help=VERBS["submit"], help=_HELP, no_args_is_help=False)
def command() -> None:
    """Only the verbs below do something; the help is `_HELP`."""


@command.command("status", help=_STATUS, short_help="How far the jobs are.")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@_patience
@options.pass_call
def status(call: options.Call, /, *, everything: bool, patience: float) -> output.View:
    """Show jobs; the help is `_STATUS`."""
    from picas.launchers import submit  # noqa: PLC0415 - start-up of the help
    from picas.launchers.book import Book  # noqa: PLC0415

    url = submitting.pool_url(call)
    book = Book(url)
    over = [job for job in book.jobs(ended=True) if job.ended is not None] if everything else []
    problems: list[LaunchError] = []
    found = submit.status(book, seconds=patience, on_problem=problems.append)
    for error in problems:
        output.fail(error, as_json=call.as_json)
    return StatusView(url, found, over, answered=not problems)


@command.command("cancel", help=_CANCEL, short_help="Take jobs back.")
@click.argument("ids", nargs=-1, metavar="[JOB]...")
@_patience
@options.pass_call
def cancel(call: options.Call, /, *, ids: tuple[str, ...], patience: float) -> output.View:
    """Cancel jobs; the help is `_CANCEL`."""
    from picas.launchers import submit  # noqa: PLC0415 - start-up of the help
    from picas.launchers.book import Book  # noqa: PLC0415

    url = submitting.pool_url(call)
    jobs = submit.cancel(Book(url), ids, seconds=patience)
    return CancelledView(url, jobs, ids or [each for job in jobs for each in job.ids])
