"""What the verbs ``picas submit NAME`` have in common: their options, the request made of them, what they answer."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import click

from picas.cli import options, output, pools, text
from picas.errors import InvalidInput, PoolUnavailable
from picas.launchers.execute import ANSWER_SECONDS
from picas.settings.config import parse_duration, parse_size
from picas.settings.credentials import without_login

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from picas.launchers.base import Launcher, Request, Script
    from picas.launchers.book import Job
    from picas.settings.config import Settings

SHOW_TEMPLATE = "-"
"""What ``--template`` is without a file: ours is printed."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")

# Modules are a function of the shell, which only login shells are sure to have.
_HAS_MODULES = "type module >/dev/null 2>&1 || . /etc/profile || true"

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "pilots": click.option(
        "--pilots", type=click.IntRange(min=1), metavar="N", help="How many pilots; 1 if not given."
    ),
    "cores": click.option(
        "--cores",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Cores for each pilot, and tokens that it runs at a time; 1.",
    ),
    "memory": click.option(
        "--memory", callback=options.parsed(parse_size), metavar="SIZE", help="For each pilot, such as 8GB."
    ),
    "gpus": click.option(
        "--gpus", type=click.IntRange(min=0), default=0, metavar="N", help="GPUs for each pilot."
    ),
    "time": click.option(
        "--time", callback=options.parsed(parse_duration), metavar="TIME", help="How long each may run: 12h."
    ),
    "queue": click.option("--queue", "--partition", metavar="NAME", help="The queue, or partition."),
    "account": click.option("--account", metavar="NAME", help="Who is charged."),
    "constraint": click.option(
        "--constraint", metavar="TEXT", help="What machines must have, in the batch system's words."
    ),
    "signal": click.option(
        "--signal", metavar="SIG@TIME", help="Warn running work so long before the job's end: USR1@120."
    ),
    "name": click.option("--name", default="picas", metavar="NAME", help="What the job is called; picas."),
    "module": click.option(
        "--module", "modules", multiple=True, metavar="NAME", help="An environment module to load first."
    ),
    "venv": click.option("--venv", metavar="DIR", help="The virtual environment to run picas from."),
    "bundle": click.option("--bundle", metavar="FILE", help="The bundle to run: see picas bundle."),
    "setup": click.option(
        "--setup", multiple=True, metavar="LINE", help="A line of shell to run before; several times."
    ),
    "option": click.option(
        "--option",
        "native",
        multiple=True,
        metavar="OPTION",
        help="An option of the batch system itself; several times.",
    ),
    "directory": click.option(
        "--directory", metavar="DIR", help="Where pilots start and write what they print; here."
    ),
    "template": click.option(
        "--template",
        is_flag=False,
        flag_value=SHOW_TEMPLATE,
        metavar="[FILE]",
        help="Your own template of the script; without FILE ours is printed.",
    ),
    "profile": click.option("--profile", default="", hidden=True),  # autopilot says it
    "dry-run": click.option("--dry-run", is_flag=True, help="Show the script, and submit nothing."),
    "patience": click.option(
        "--patience",
        callback=options.parsed(parse_duration),
        default=f"{ANSWER_SECONDS:g}",
        metavar="TIME",
        help=f"How long the batch system may take to answer; {ANSWER_SECONDS:g}s.",
    ),
}
"""The options, each under its name, in the order of the help."""


def common_options(*leave_out: str) -> Callable[[Any], Any]:
    """Give a verb these options and the arguments after ``--``, all but some options that mean nothing there."""

    def decorate(function: Any) -> Any:
        function = click.argument(
            "run", nargs=-1, type=click.UNPROCESSED, metavar="[-- RUN-OPTIONS [-- CMD [ARG]...]]"
        )(function)
        for name in reversed([name for name in _OPTIONS if name not in leave_out]):
            function = _OPTIONS[name](function)
        return function

    return decorate


# --- The request -------------------------------------------------------------------------------------


def request_of(call: options.Call, given: dict[str, Any], **more: Any) -> Request:
    """What is asked of a batch system.

    Args:
        given: the values of `common_options`.
        more: fields of the request that a verb decides itself.

    Raises:
        InvalidInput: something cannot be used.
    """
    from picas.launchers.base import Request  # noqa: PLC0415 - start-up of the help

    get = given.get
    if not _NAME.fullmatch(given["name"]):
        raise InvalidInput(
            f"--name: '{given['name']}' is no name for a job", "Use letters, digits and . _ + -"
        )
    knobs = _check_run(given["run"])
    if get("signal") and knobs["signal"]:
        raise InvalidInput("--signal is given twice", "Give it before the -- alone.")
    if get("signal"):
        from picas.walltime import parse_notice  # noqa: PLC0415 - start-up of the help

        parse_notice(given["signal"])
    _check_login(call.settings)
    request = {
        "pool": pool_url(call),
        "run": tuple(given["run"]),
        "pilots": get("pilots") or 1,
        "name": given["name"],
        "program": program(get("venv"), get("bundle")),
        "directory": Path(get("directory") or ".").absolute(),
        "cores": get("cores") or 1,
        "slots": knobs["workers"] is None,
        "memory": get("memory"),
        "gpus": get("gpus") or 0,
        "walltime": get("time"),
        "queue": get("queue") or "",
        "account": get("account") or "",
        "constraint": get("constraint") or "",
        "signal": get("signal") or "",
        "setup": tuple(_setup(get("modules") or (), get("venv"), get("setup") or ())),
        "options": get("native") or (),
        "environment": _environment(call),
    }
    return Request(**{**request, **more})


def _check_run(words: Sequence[str]) -> dict[str, Any]:
    """The values that ``picas run`` makes of its arguments.

    Raises:
        InvalidInput: it would end at once, with a mistake in them.
        click.UsageError: the same, in click's words.
    """
    from picas.cli.run import command  # noqa: PLC0415 - start-up of the help
    from picas.walltime import parse_notice, until_when  # noqa: PLC0415

    with command.make_context("picas run", list(words)) as context:
        knobs = dict(context.params)
        if context.ensure_object(options.Call).pool is not None:
            raise InvalidInput(
                "--pool must stand before the --", "So that it is known here for which pool jobs are."
            )
    if knobs["signal"]:
        parse_notice(knobs["signal"])
    until_when(knobs["until"])
    return knobs


def pool_url(call: options.Call) -> str:
    """The pool's URL as the pilots get it, and by which its jobs are noted: without a login, and a file by its whole path."""
    url = call.settings.pool
    if not url.startswith("sqlite:///"):
        return without_login(url)
    path = Path(unquote(url[len("sqlite:///") :])).absolute()
    return f"sqlite:///{quote(str(path))}"


def _check_login(settings: Settings) -> None:
    """Refuse a login that would have to stand in the script."""
    if any(source.name == "the URL" and source.password for source in settings.access.sources):
        raise InvalidInput(
            f"the password for {settings.pool} is in its URL, and would have to stand in the job script",
            "picas init keeps it in your configuration file, where the pilots find it; or set PICAS_USERNAME and PICAS_PASSWORD.",
        )


def _environment(call: options.Call) -> dict[str, str]:
    """What was said on the command line of the way to the pool's server."""
    given = {"ca": str(Path(call.given["ca"]).absolute())} if call.given.get("ca") else {}
    if call.given.get("insecure"):
        given["insecure"] = "1"
    return {f"PICAS_{name.upper()}": value for name, value in given.items()}


def program(venv: str | None, bundle: str | None) -> tuple[str, ...]:
    """How picas is called in a job: as here, unless a virtual environment or a bundle is named.

    Raises:
        InvalidInput: that is none.
    """
    if bundle is not None:
        file = Path(bundle).absolute()
        if not file.is_file():
            raise InvalidInput(f"--bundle: there is no file {file}", "picas bundle makes one.")
        return ("python3", str(file))
    if venv is not None:
        if not (Path(venv) / "bin" / "activate").is_file():
            raise InvalidInput(f"--venv: {venv} is no virtual environment", "It has no bin/activate.")
        return ("picas",)
    beside = Path(sys.executable).with_name("picas")
    return (str(beside),) if beside.is_file() else (sys.executable, "-m", "picas")


def _setup(modules: Sequence[str], venv: str | None, lines: Sequence[str]) -> Iterator[str]:
    if modules:
        yield _HAS_MODULES
        yield "module load " + " ".join(map(shlex.quote, modules))
    if venv is not None:
        yield f". {shlex.quote(str(Path(venv).absolute() / 'bin' / 'activate'))}"
    yield from lines


# --- Doing it ----------------------------------------------------------------------------------------


def carry_out(call: options.Call, launcher: Launcher, request: Request, given: dict[str, Any]) -> output.View:
    """Submit what is asked for, or show it.

    Args:
        request: see `request_of`.
        given: the values of `common_options`.
    """
    from picas.launchers import submit  # noqa: PLC0415 - start-up of the help
    from picas.launchers.book import Book  # noqa: PLC0415

    template = _template(given.get("template"))
    seconds = given["patience"]
    if given["dry_run"]:
        return ScriptsView(launcher, request, submit.scripts(launcher, request, template, seconds=seconds))
    profile = given["profile"]
    if not profile:  # autopilot has just looked at it
        _check_pool(call, request.pool, here=launcher.name == "local")
    jobs = submit.submit(launcher, request, Book(request.pool), template, profile=profile, seconds=seconds)
    return SubmittedView(launcher.name, request, jobs)


def _template(given: str | None) -> str | None:
    if given is None:
        return None
    try:
        return Path(given).read_text("utf-8")
    except OSError as error:
        raise InvalidInput(f"--template: {given} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"--template: {given} is no text in UTF-8", "A template is a script.") from error


def _check_pool(call: options.Call, url: str, *, here: bool) -> None:
    """Refuse to start pilots that would end at once."""
    if url.startswith("sqlite:") and not here:
        output.warn(
            f"{url} is a file: only pilots that run on this very machine can use it", as_json=call.as_json
        )
    try:
        pools.existing(call, patience=0.0)
    except PoolUnavailable as error:  # it may be back when they start
        output.warn(error.message, as_json=call.as_json)


class TemplateView(output.View):
    """A launcher's own template."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {"launcher": self.launcher.name, "template": self.launcher.template()}

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """As it is."""
        yield self.launcher.template().rstrip("\n")


class ScriptsView(output.View):
    """What would be submitted."""

    def __init__(self, launcher: Launcher, request: Request, scripts: Sequence[Script]) -> None:
        self.launcher = launcher
        self.request = request
        self.scripts = scripts

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {
            "pool": self.request.pool,
            "launcher": self.launcher.name,
            "pilots": sum(script.pilots for script in self.scripts),
            "scripts": [
                {
                    "name": script.name,
                    "text": script.text,
                    "pilots": script.pilots,
                    "companions": dict(script.companions),
                    "command": self.launcher.submit_argv(script.name),
                }
                for script in self.scripts
            ],
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """The file; of several each below its name."""
        files = [
            (name, content)
            for script in self.scripts
            for name, content in {script.name: script.text, **script.companions}.items()
        ]
        for name, content in files:
            if len(files) > 1:
                yield screen.style(f"# --- {name} ---", "bold")
            yield text.visible(content, keep="\n\t").rstrip("\n")


class SubmittedView(output.View):
    """What was submitted."""

    def __init__(self, launcher: str, request: Request, jobs: Sequence[Job]) -> None:
        self.launcher = launcher
        self.request = request
        self.jobs = jobs

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        return {
            "pool": self.request.pool,
            "launcher": self.launcher,
            "pilots": sum(job.pilots for job in self.jobs),
            "jobs": [{"ids": list(job.ids), "pilots": job.pilots, "script": job.script} for job in self.jobs],
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A line for each script."""
        for job in self.jobs:
            ids = text.visible(" ".join(job.ids)) if len(job.ids) < 5 else f"{job.ids[0]} … {job.ids[-1]}"
            yield f"submitted {text.counted(job.pilots, 'pilot')} to {self.launcher}: {ids}"
            yield screen.style(f"  {text.visible(job.script)}", "dim")
        yield "picas submit status, picas submit cancel"
