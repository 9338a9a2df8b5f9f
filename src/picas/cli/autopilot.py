"""``picas autopilot``: keep as many pilots as the work is worth."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, submitting, text
from picas.cli.group import verb
from picas.errors import InvalidInput, PicasError, PoolUnavailable
from picas.launchers.execute import ANSWER_SECONDS
from picas.settings.config import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.autopilot.decide import Decision
    from picas.autopilot.loop import Look
    from picas.autopilot.profiles import Plan, Profile
    from picas.launchers.book import Job

FILE = "autopilot.toml"
"""The file that is read if none is named."""

EVERY_SECONDS = 60.0
"""How often it looks."""

LEAST_SECONDS = 0.1

EXIT_TROUBLE = 1

MOST_KINDS = 5
"""Kinds of tokens that no profile is for that are named."""

_HEAD = ("profile", "waiting", "each takes", "queued", "running", "wanted", "start")

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


# --- What is told ------------------------------------------------------------------------------------


class LookView(output.View):
    """What one look found, and what was done."""

    def __init__(self, pool: str, look: Look, *, dry: bool = False) -> None:
        self.pool = pool
        self.look = look
        self.dry = dry
        held = any(each.held_until for each in look.decisions)
        self.exit_code = EXIT_TROUBLE if look.problem or look.refused or held else 0

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        look = self.look
        return {
            "pool": self.pool,
            "at": look.at,
            "dry_run": self.dry,
            "busy": dict(look.busy) if look.busy is not None else None,
            "problem": look.problem or None,
            "profiles": [self._decided(each) for each in look.decisions],
            "unfit": [{**asdict(each.need), "tokens": each.count} for each in look.demand.unfit],
            "started": sum(job.pilots for job in look.started),
            "jobs": [
                {"ids": list(job.ids), "pilots": job.pilots, "profile": job.profile, "script": job.script}
                for job in look.started
            ],
            "pilots": look.left,
            "over": look.over,
        }

    def _decided(self, each: Decision) -> dict[str, Any]:
        waiting = each.waiting
        return {
            "name": each.profile.name,
            "waiting": waiting.tokens,
            "locked": waiting.running,
            "seconds": waiting.seconds,
            "by": waiting.source or None,
            "queued": each.queued,
            "running": each.running,
            "wanted": each.wanted,
            "start": each.start,
            "why": list(each.why),
            "failed": each.failing.count,
            "held_until": each.held_until,
            "refused": self.look.refused.get(each.profile.name),
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A table of the profiles, and the reasons."""
        look = self.look
        if look.busy is not None and not look.decisions:
            yield f"{_who(look.busy)} looks after this pool already: nothing was done"
            return
        rows = [_HEAD, *map(_row, look.decisions)]
        for number, line in enumerate(text.columns(rows, right=(1, 2, 3, 4, 5, 6))):
            yield screen.fit(screen.style(line, "dim") if number == 0 else line)
        for each in look.decisions:
            yield from self._reasons(each)
        if look.problem:
            yield screen.style(_shown(look.problem), "yellow")
        yield from self._unfit(screen)
        for job in look.started:
            ids = " ".join(job.ids[:1]) + (f" … {job.ids[-1]}" if len(job.ids) > 1 else "")
            pilots = text.counted(job.pilots, "pilot")
            yield f"started {pilots} of {job.profile}: {job.launcher} {text.visible(ids)}"
        if look.over:
            yield (
                "nothing else is left to do, and no pilot"
                if look.demand.unfit
                else "nothing is left to do, and no pilot"
            )

    def _reasons(self, each: Decision) -> Iterator[str]:
        yield f"{each.profile.name}: {_shown('; '.join(each.why))}"
        if each.held_until is not None:
            yield f"  the next one is tried at {text.clock(each.held_until)}, or now with --retry"
        refused = self.look.refused.get(each.profile.name)
        if refused:
            yield f"  not started: {_shown(refused)}"

    def _unfit(self, screen: output.Screen) -> Iterator[str]:
        from picas.autopilot.profiles import words_of  # noqa: PLC0415 - start-up of the help

        unfit = self.look.demand.unfit
        if not unfit:
            return
        tokens = sum(each.count for each in unfit)
        named = [f"{text.number(each.count)} with {words_of(each.need)}" for each in unfit[:MOST_KINDS]]
        more = len(unfit) - len(named)
        kinds = "; ".join(named) + (f"; and {more} other kinds" if more else "")
        verb_ = "fits" if tokens == 1 else "fit"
        yield screen.style(f"{text.counted(tokens, 'waiting token')} {verb_} no profile: {kinds}", "yellow")

    def told(self, *, as_json: bool) -> str:
        """What is new if it differs: in a loop nobody wants to read the same every minute."""
        if as_json:
            return output.to_json({**self.data(), "at": None})
        look = self.look
        parts = [look.problem, str(look.busy), str(look.over), str(sorted(look.refused.items()))]
        parts += [f"{each.profile.name} {each.why[1:]}" for each in look.decisions if each.why[1:]]
        return "\n".join([*parts, *(f"{each.need}" for each in look.demand.unfit)])

    def say(self, *, as_json: bool) -> None:
        """Print it, in a loop: as one line of JSON, or as text with the time."""
        if as_json:
            output.say(output.to_json(self.data()))
            return
        lines = output.Lines()
        lines.say(lines.screen.style(time.strftime("%Y-%m-%d %H:%M:%S"), "bold"))
        for line in self.lines(lines.screen):
            lines.say(line)

    def summary(self) -> str:
        """How things stand, in a line."""
        demand = self.look.demand
        parts = [f"{text.number(demand.todo)} waiting", f"{text.number(demand.locked)} running"]
        return ", ".join([*parts, text.counted(self.look.left, "pilot")])


def _row(each: Decision) -> tuple[str, ...]:
    seconds = each.waiting.seconds
    counts = (each.queued, each.running, each.wanted, each.start)
    return (
        each.profile.name,
        text.number(each.waiting.tokens),
        "?" if seconds is None else text.duration(seconds),
        *map(text.number, counts),
    )


def _shown(said: str) -> str:
    """What a batch system said, in as many lines."""
    return text.visible(said, keep="\n")


def _who(busy: Any) -> str:
    host, began = busy.get("host"), busy.get("began")
    place = f" on {text.one_line(host)}" if host else ""
    since = f", since {text.clock(began)}," if isinstance(began, (int, float)) else ""
    return f"another autopilot{place}{since}"
