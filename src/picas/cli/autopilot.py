"""``picas autopilot``: keep as many pilots as the work is worth."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, submitting
from picas.cli.autopilot_view import EXIT_TROUBLE, LookView
from picas.cli.group import verb
from picas.errors import InvalidInput, PicasError, PoolUnavailable
from picas.launchers.execute import ANSWER_SECONDS
from picas.settings.config import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.autopilot.profiles import Plan, Profile
    from picas.launchers.book import Job

FILE = "autopilot.toml"
"""The file that is read if none is named."""

EVERY_SECONDS = 60.0
"""How often it looks."""

LEAST_SECONDS = 0.1

_HELP = f"""Keep as many pilots as the work in the pool is worth.

FILE, {FILE} if it is not given, says which pilots may be started, by which batch system, within which limits.

\b
picas autopilot --dry-run     what would be started, and why
picas autopilot --once        look once; for cron and scrontab
picas autopilot               look every minute, until it is stopped
picas autopilot --until-done  the same, until nothing is left to do

One process at a time looks after a pool. Pilots leave by themselves when nothing is left.
"""


def _interval(given: str) -> float:
    seconds = parse_duration(given)
    if seconds < LEAST_SECONDS:
        raise InvalidInput(f"it looks every {LEAST_SECONDS:g} s at the most often")
    return seconds


@verb("autopilot", help=_HELP)
@click.argument("file", metavar="[FILE]", default=FILE)
@click.option("--once", is_flag=True, help="Look once, start what is to be started, and end.")
@click.option("--dry-run", is_flag=True, help="Look once, say what would be started and why; start nothing.")
@click.option(
    "--every",
    callback=options.parsed(_interval),
    default=f"{EVERY_SECONDS:g}",
    metavar="TIME",
    help="Time between two looks; 1m.",
)
@click.option("--until-done", is_flag=True, help="End when nothing is left to do, and no pilot is left.")
@click.option(
    "--max-pilots", type=click.IntRange(min=0), metavar="N", help="Queued and running at a time; 100."
)
@click.option("--max-queued", type=click.IntRange(min=0), metavar="N", help="Queued at a time.")
@click.option("--per-hour", type=click.IntRange(min=0), metavar="N", help="Started within an hour.")
@click.option("--retry", is_flag=True, help="Starts that failed before do not count any more.")
@click.option(
    "--patience",
    callback=options.parsed(parse_duration),
    default=f"{ANSWER_SECONDS:g}",
    metavar="TIME",
    help=f"How long the batch system may take to answer; {ANSWER_SECONDS:g}s.",
)
@options.pass_call
@click.pass_context
def command(ctx: click.Context, call: options.Call, /, *, file: str, **given: Any) -> output.View | None:
    """Look after a pool; the help is `_HELP`."""
    from picas.autopilot import loop, planfile  # noqa: PLC0415 - start-up of the help
    from picas.launchers.book import Book  # noqa: PLC0415

    limits = {"pilots": given["max_pilots"], "queued": given["max_queued"], "per_hour": given["per_hour"]}
    plan = planfile.read(Path(file)).within(**limits)
    submit = Submitter(ctx, given["patience"])
    url = submitting.pool_url(call)
    submit.check(plan, file)
    away = {profile.launcher for profile in plan.profiles} - {"local"}
    if url.startswith("sqlite:") and away and not given["once"]:
        output.warn(
            f"{url} is a file: only pilots that run on this very machine can use it", as_json=call.as_json
        )
    autopilot = loop.Autopilot(
        pools.existing(call),
        plan,
        submit,
        Book(url),
        patience=given["patience"],
        forgiving=given["retry"],
        lease=loop.LEASE_SECONDS + given["every"],
    )
    if given["dry_run"]:
        return LookView(url, autopilot.look(dry=True), dry=True)
    if given["once"]:
        try:
            return LookView(url, autopilot.look())
        finally:
            autopilot.close()
    until_done = given["until_done"]
    return _look_after(autopilot, url, given["every"], until_done=until_done, as_json=call.as_json)


# --- Starting pilots ---------------------------------------------------------------------------------


class Submitter:
    """Starts pilots by ``picas submit``, in this process.

    Args:
        ctx: of the verb, whose settings hold for what is submitted too.
        patience: seconds that a batch system may take to answer.
    """

    def __init__(self, ctx: click.Context, patience: float) -> None:
        self._ctx = ctx
        self._patience = patience

    def __call__(self, profile: Profile, pilots: int) -> Sequence[Job]:
        """Start so many pilots.

        Raises:
            LaunchError: the batch system does not take them.
        """
        view = self._run(profile, [f"--patience={self._patience}"], pilots)
        assert isinstance(view, submitting.SubmittedView)
        return view.jobs

    def check(self, plan: Plan, file: str) -> None:
        """Refuse a plan by which nothing could be started.

        Raises:
            InvalidInput: it has a mistake; the message says where.
        """
        for profile in plan.profiles:
            place = f"{file}, profile {profile.name}"
            try:
                self._run(profile, ["--dry-run"], 1)
            except InvalidInput as error:
                raise InvalidInput(f"{place}: {error.message}", error.advice) from None
            except click.UsageError as error:
                message = error.format_message().rstrip(".")
                advice = (
                    f"picas submit {profile.launcher} --help shows what there is; without the dashes here."
                )
                raise InvalidInput(f"{place}: {message[:1].lower()}{message[1:]}", advice) from None

    def _run(self, profile: Profile, words: list[str], pilots: int) -> Any:
        from picas.cli import submit  # noqa: PLC0415 - start-up of the help

        if profile.launcher not in submit.SYSTEMS:
            known = ", ".join(submit.SYSTEMS)
            raise InvalidInput(f"there is no batch system '{profile.launcher}'", f"There are: {known}.")
        command = submit.command.get_command(self._ctx, profile.launcher)
        assert command is not None
        there = {word.lstrip("-") for param in command.params for word in param.opts}
        words += profile.submit_words(pilots, {"memory", "gpus", "directory"} - there)
        name = f"picas submit {profile.launcher}"
        with command.make_context(name, words, parent=self._ctx) as context:
            # Past what prints the answer.
            return click.Command.invoke(command, context)


# --- Looking again and again -------------------------------------------------------------------------


def _look_after(
    autopilot: Any, url: str, every: float, *, until_done: bool, as_json: bool
) -> output.View | None:
    """Look every so often, until told to end."""
    shown = ""
    with _stopped() as (ended, signals), output.StatusLine() as line:
        try:
            while not ended.is_set():
                view = _try_to_look(autopilot, url, as_json=as_json)
                if view is not None:
                    said = view.told(as_json=as_json)
                    if said != shown or view.look.started:
                        line.clear()
                        view.say(as_json=as_json)
                    shown = said
                    if until_done and view.look.over:
                        return EndedView(EXIT_TROUBLE if view.look.demand.unfit else 0)
                    line.update(view.summary())
                ended.wait(every)
        finally:
            _leave(autopilot)
    return EndedView(128 + signals[0]) if signals else None


def _try_to_look(autopilot: Any, url: str, *, as_json: bool) -> LookView | None:
    try:
        return LookView(url, autopilot.look())
    except PoolUnavailable as error:
        output.warn(str(error), as_json=as_json)
        return None


def _leave(autopilot: Any) -> None:
    try:
        autopilot.close()
    except PicasError as error:  # others will see by themselves that this process is gone
        output.warn(error.message, as_json=False)


@contextmanager
def _stopped() -> Iterator[tuple[threading.Event, list[int]]]:
    """An event that a signal sets, and the signals that came."""
    ended = threading.Event()
    signals: list[int] = []

    def stop(number: int, _frame: object) -> None:
        signals.append(number)
        ended.set()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended, signals
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class EndedView(output.View):
    """The end, when all has been said."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def json_lines(self) -> Iterator[str]:
        """None."""
        yield from ()

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """None."""
        yield from ()
