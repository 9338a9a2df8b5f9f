"""``picas run``: be a pilot."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.backoff import Backoff
from picas.cli import data, options, output, pools, text
from picas.cli.group import verb
from picas.cli.reporter import Reporter
from picas.errors import InvalidInput, PoolUnavailable
from picas.pilot.summary import Event
from picas.settings.config import ORDERS, POOL_VARIABLE, parse_budget, parse_codes, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from picas.budgets import Budgets
    from picas.pilot.summary import Summary
    from picas.pool import Pool

START_SECONDS = 300.0
"""How long a pilot that begins tries to reach a pool that has not answered yet: its address may be wrong."""

START_PAUSES = (0.2, 10.0)
"""Shortest and longest pause between two of these tries."""

EXIT_UNSENT = 1
EXIT_FAILED = 3
EXIT_UNFIT = 4
EXIT_SIGNAL = 128

_REASONS = {
    "empty": "nothing is left to do",
    "max-tasks": "that was --max-tasks",
    "max-time": "the time of --max-time is up",
    "walltime": "its time is nearly over",
    "probe": "the probe failed",
    "quick-failures": "that was --max-quick-failures",
    "stopped": "stopped",
    "paused": "the pool is paused: picas resume",
    "told-to-stop": "that was picas stop",
    "barred": "this host is barred: picas hosts",
}

_HELP = f"""Be a pilot: take tokens from the pool, run them, save how they went and what they printed, until nothing is left.

Without CMD, a token's input is run by bash. With it, CMD is run for each token, where {{input}}, {{id}} and any
field in braces is replaced by the token's value; no shell reads it:

\b
picas run -- python fit.py --threshold {{threshold}} {{input}}

Ctrl-C or TERM puts the running tokens back. Exit codes:

\b
0     ended as planned, also if tokens failed
{EXIT_FAILED}     the same, tokens failed, and --fail was given
1     the pool or this machine failed; finished work waits, see picas flush
2     a mistake in the options
{EXIT_UNFIT}     this machine is not fit: --probe or --max-quick-failures
128+n stopped by signal n: 130 for Ctrl-C, 143 for TERM
"""


class RunView(output.View):
    """What the pilot did."""

    def __init__(self, pool: str, summary: Summary, *, fail: bool) -> None:
        self.pool = pool
        self.summary = summary
        self.exit_code = _exit_code(summary, fail=fail)

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        return {"pool": self.pool, **asdict(self.summary)}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """What was done, why it ended, what to do next."""
        summary = self.summary
        parts = [f"{text.number(summary.done)} done"]
        if summary.error:
            parts.append(screen.state("error", f"{text.number(summary.error)} failed"))
        parts.extend(
            f"{text.number(count)} {what}"
            for count, what in (
                (summary.retried, "to be tried again"),
                (summary.released, "put back"),
                (summary.superseded, "superseded"),
            )
            if count
        )
        yield f"{', '.join(parts)} in {text.duration(summary.seconds)}; {_reason(summary)}"
        if summary.error:
            yield f"{text.number(summary.error)} failed: picas errors"
        if summary.unfit:
            need = "needs" if summary.unfit == 1 else "need"
            yield f"{text.counted(summary.unfit, 'token')} {need} more cores than this pilot has: give more --workers"
        if summary.too_long:
            take = "takes" if summary.too_long == 1 else "take"
            yield f"{text.counted(summary.too_long, 'token')} {take} more time than this pilot had left"
        if summary.next_try is not None:
            yield f"tokens that failed wait for their next try, the first until {text.clock(summary.next_try)}: run a pilot then, or with --wait"
        if summary.unsent:
            waiting = text.counted(summary.unsent, "result")
            yield f"{waiting} could not be sent to the pool yet, and wait in {text.visible(summary.spool)}: picas flush"


def _reason(summary: Summary) -> str:
    if summary.signal is not None:
        try:
            return f"stopped by {signal.Signals(summary.signal).name}"
        except ValueError:
            return f"stopped by signal {summary.signal}"
    return _REASONS.get(summary.reason, summary.reason)


def _exit_code(summary: Summary, *, fail: bool) -> int:
    if summary.signal is not None:
        return EXIT_SIGNAL + summary.signal
    if summary.unsent:
        return EXIT_UNSENT
    if summary.reason in ("probe", "quick-failures"):
        return EXIT_UNFIT
    return EXIT_FAILED if fail and summary.error else 0


@verb("run", help=_HELP, context_settings={"allow_interspersed_args": False})
@click.option(
    "-w", "--workers", type=click.IntRange(min=1), metavar="N", help="Tokens at a time; 1 if not given."
)
@click.option("--max-tasks", type=click.IntRange(min=1), metavar="N", help="End after so many tokens.")
@click.option(
    "--max-time", callback=options.parsed(parse_duration), metavar="TIME", help="Start none after so long."
)
@click.option(
    "--until",
    metavar="TIME",
    help="Be gone by then, such as 06:00 or +90m; else when its batch job ends. 'never': no end.",
)
@click.option(
    "--signal",
    metavar="SIG@TIME",
    help="Warn running work so long before the end, such as USR1@120; --collect files are its checkpoint.",
)
@click.option("--probe", metavar="CMD", help="Claim nothing unless this shell command succeeds here.")
@click.option(
    "--max-quick-failures",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after so many quick failures in a row; those tokens go back.",
)
@click.option(
    "--task-timeout",
    callback=options.parsed(parse_duration),
    metavar="TIME",
    help="Stop a token that runs longer.",
)
@click.option(
    "--max-scrub", type=click.IntRange(min=0), metavar="N", help="Hand a failed token out again so often; 0."
)
@click.option(
    "--retry-on",
    callback=options.parsed(parse_codes),
    metavar="CODES",
    help='Exit codes that mean "try again", such as 75,111.',
)
@click.option(
    "--budget",
    callback=options.parsed(parse_budget),
    metavar="CLASS=N",
    help="Tries after what is not the work's fault: lost=3,infrastructure=3,preempted=20,again=20.",
)
@click.option("--wait", is_flag=True, help="Wait for new tokens when none is left.")
@options.where
@click.option("--view", metavar="DESIGN/VIEW", help="Only tokens that this view of a CouchDB database lists.")
@click.option("--order", type=click.Choice(ORDERS), help="Which token comes first; priority.")
@click.option(
    "--collect", multiple=True, metavar="GLOB", help="Files to keep with the token, such as '*.png'."
)
@click.option(
    "--require-signed/--no-require-signed",
    default=None,
    help="Run only tokens that a trusted key has signed; others end in error.",
)
@click.option("--trusted-keys", metavar="FILE", help="The keys that are trusted; else those of picas keys.")
@click.option("--keep/--no-keep", default=None, help="Keep the directory of a token that failed.")
@click.option(
    "--log-cap", callback=options.parsed(parse_size), metavar="SIZE", help="Most of a log that is kept; 16MB."
)
@click.option(
    "--scratch", metavar="DIR", help="Where the tokens' directories are made; the system's temporary one."
)
@click.option(
    "--call", "function", metavar="MODULE:FUNCTION", help="Call a Python function of the token, for CMD."
)
@click.option(
    "--keep-secrets/--no-keep-secrets",
    default=None,
    help="Leave PICAS_PASSWORD in the environment of the work, from which it is else taken out.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="Another variable to take out, such as 'AWS_*'; may be given several times.",
)
@click.option(
    "--lease",
    callback=options.parsed(parse_duration),
    metavar="TIME",
    help="Silent for so long, the pilot counts as dead and its tokens go back; 5m, 0s for never.",
)
@click.option(
    "--beat", callback=options.parsed(parse_duration), metavar="TIME", help="Time between signs of life; 1m."
)
@data.options
@click.option("--fail", is_flag=True, help=f"Exit code {EXIT_FAILED} if a token failed.")
@click.option("-v", "--verbose", is_flag=True, help="A line for each token.")
@click.argument("cmd", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD [ARG]...]")
@options.pass_call
def command(
    call: options.Call,
    /,
    *,
    cmd: tuple[str, ...],
    function: str | None,
    fail: bool,
    verbose: bool,
    **given: Any,
) -> output.View:
    """Run a pilot; the help is `_HELP`."""
    from picas.pilot.loop import Pilot  # noqa: PLC0415 - start-up of the help

    if cmd and function:
        raise InvalidInput("--call and a command are two ways to say what to run", "Give one of them.")
    work = load_function(function) if function else list(cmd) or None
    knobs = _with_settings(given, call.settings.run)
    with Reporter(verbose=verbose, quiet=call.as_json) as reporter:
        pool = _open_pool(call, reporter, wait=given["wait"])
        if function:
            _forget(knobs, pool.url)
        summary = Pilot(pool, work, on_event=reporter, **knobs).run()
    return RunView(pool.url, summary, fail=fail)


def _open_pool(call: options.Call, reporter: Reporter, *, wait: bool) -> Pool:
    """The pool, of which it is waited that it answers: a pilot may have been started while its server restarts.

    Raises:
        PoolUnavailable: it does not for so long that its address may be wrong.
    """
    begun = time.monotonic()
    pause = Backoff(*START_PAUSES)
    open_pool = pools.made if wait else pools.existing
    while True:
        try:
            return open_pool(call, patience=0.0)
        except PoolUnavailable as error:
            if time.monotonic() - begun > START_SECONDS:
                raise
            again = f"It is tried again for {text.duration(START_SECONDS)}."
            reporter(Event("problem", message=f"{error.message}\n{error.advice} {again}"))
            time.sleep(max(pause.seconds(), error.after))


def _forget(knobs: dict[str, Any], pool_url: str) -> None:
    """Take out of the environment what a function in this process is not to see; the pool has been opened with it."""
    from picas.work.command import SECRETS, is_hidden  # noqa: PLC0415 - start-up of the help

    hidden = [*(() if knobs.get("keep_secrets") else SECRETS), *knobs.get("secrets", ())]
    for name in [name for name in os.environ if is_hidden(name, hidden)]:
        del os.environ[name]
    if not knobs.get("keep_secrets"):
        os.environ[POOL_VARIABLE] = pool_url  # it may have had a password in it


def _with_settings(given: dict[str, Any], settings: Any) -> dict[str, Any]:
    """What was given on the command line, else the configuration file's, else nothing, for `Pilot` to choose."""
    knobs = {name: settings.get(name) if value is None else value for name, value in given.items()}
    for name, parse in (
        ("max_time", parse_duration),
        ("lease", parse_duration),
        ("beat", parse_duration),
        ("task_timeout", parse_duration),
        ("log_cap", parse_size),
        ("retry_on", parse_codes),
        ("budget", parse_budget),
    ):
        if isinstance(knobs[name], str):
            knobs[name] = parse(knobs[name])
    knobs["budgets"] = _budgets(knobs.pop("budget"))
    if isinstance(knobs["retry_on"], int):  # a number in the file
        knobs["retry_on"] = (knobs["retry_on"],)
    knobs["secrets"] = (*settings.get("secrets", ()), *given["secrets"])
    data.read(knobs, given, settings)
    trusted = knobs.pop("trusted_keys")
    if knobs["require_signed"] and trusted:
        knobs["require_signed"] = trusted
    return {name: value for name, value in knobs.items() if value is not None}


def _budgets(limits: dict[str, int] | None) -> Budgets:
    from picas.budgets import Budgets  # noqa: PLC0415 - start-up of the help

    return Budgets.from_dict(limits or {})


def load_function(written: str) -> Callable[..., object]:
    """The function that ``module:function`` names; modules in the working directory are found too.

    Raises:
        InvalidInput: there is none, or its module cannot be imported.
    """
    module_name, colon, name = written.partition(":")
    if not colon or not module_name or not name or module_name.endswith(".py") or "/" in module_name:
        raise InvalidInput(
            f"--call: '{written}' names no function", "Write MODULE:FUNCTION, such as count:count_words."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise InvalidInput(
                f"--call: {module_name} needs a module that is not there: {error.name}"
            ) from error
        advice = f"It is looked for in {here} and where Python looks."
        raise InvalidInput(f"--call: there is no module '{module_name}'", advice) from None
    except Exception as error:
        raise InvalidInput(
            f"--call: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InvalidInput(f"--call: there is no function '{name}' in {module_name}")
    function: Callable[..., object] = found
    return function
