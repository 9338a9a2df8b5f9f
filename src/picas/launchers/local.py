"""Pilots in the background of this machine, for where there is no batch system.

`local_start.py` starts them and `local_jobs.sh` knows what became of them: they are to this machine what sbatch, squeue and
scancel are to a cluster, and are run in the same way.
"""

from __future__ import annotations

import re
import shlex
import signal
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, LaunchError
from picas.launchers.base import JobStatus, Phase, Script, Unlimited
from picas.launchers.filling import exports, fill, own_template, pilot_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from picas.launchers.base import Request

_RUN = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]);"
    " sys.exit(importlib.import_module(sys.argv[2]).main(sys.argv[3:]))"
)
"""Runs a program that is a module of a package in a folder or an archive that Python need not know of."""

JOB = r"\d{6}-\d{6}-\d+"
"""What an id looks like; with ``_1`` it is that of the first pilot."""

_SAID = re.compile(rf"({JOB})_(\d+) (running|ended|gone)(?: (\d+))?")


class Local(Unlimited):
    """See `picas.launchers.base.Launcher`."""

    name = "local"
    submits = "bash"
    forgiven: tuple[int, ...] = ()

    def template(self) -> str:
        """The one in ``templates/local.sh``."""
        return own_template("local.sh")

    def scripts(
        self,
        request: Request,
        template: str | None = None,
        limit: int | None = None,
    ) -> list[Script]:
        """One script, whatever the number of pilots.

        Raises:
            InvalidInput: the template has a mistake, or something is asked for that needs a batch system.
        """
        refuse(request, "this machine", NEEDS_SCHEDULER)
        text = self.template() if template is None else template
        return [Script(f"{request.name}.sh", fill(text, values(request), wanted(request)), request.pilots)]

    def submit_argv(self, script: str) -> list[str]:
        """Started by the Python that runs this."""
        return own_program("local_start", script)

    def parse_submitted(self, printed: str) -> list[str]:
        """The job's id, on a line of its own.

        Raises:
            LaunchError: there is none.
        """
        found = re.search(rf"^({JOB})\s*\Z", printed, re.MULTILINE)
        if not found:
            raise LaunchError(f"no pilot was started, but it was said: {printed.strip() or 'nothing'}")
        return [found[1]]

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """See ``local_jobs.sh``."""
        return _ask("status", ids)

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """One for each pilot."""
        return statuses(printed, ids)

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """Each pilot is told to end, and puts its tokens back."""
        return _ask("cancel", ids)


def own_program(name: str, *args: str) -> list[str]:
    """The command that runs a program of this folder, which may be in a bundle, and so no file of its own."""
    return [
        sys.executable,
        "-I",
        "-c",
        _RUN,
        str(Path(__file__).parents[2]),
        f"picas.launchers.{name}",
        *args,
    ]


def _ask(verb: str, ids: Iterable[str]) -> list[str]:
    text = (resources.files("picas.launchers") / "local_jobs.sh").read_text("utf-8")
    return ["sh", "-c", text, "local_jobs.sh", verb, *ids]


NEEDS_SCHEDULER = {
    "array": "--array",
    "memory": "--memory",
    "gpus": "--gpus",
    "queue": "--queue",
    "account": "--account",
    "constraint": "--constraint",
    "options": "--option",
}
"""What only a batch system can give, by its name in a request and as an option."""


def refuse(request: Request, place: str, what: Mapping[str, str]) -> None:
    """Refuse what cannot be given there.

    Args:
        place: where, for the message.
        what: attributes of a request, and how people ask for them.

    Raises:
        InvalidInput: it is asked for.
    """
    for attribute, option in what.items():
        if getattr(request, attribute):
            raise InvalidInput(f"{option}: {place} cannot give that", "Leave it out.")


def with_end(request: Request) -> Request:
    """The same pilots, which know themselves when their time is over: nobody else would end them."""
    given = request.run[: request.run.index("--")] if "--" in request.run else request.run
    if not request.walltime or any(word.partition("=")[0] == "--until" for word in given):
        return request
    return replace(request, run=("--until", f"+{request.walltime:g}s", *request.run))


def values(request: Request) -> dict[str, list[str]]:
    """What the template's names stand for."""
    return {
        "pilots": [str(request.pilots)],
        "name": [shlex.quote(request.name)],
        "directory": [shlex.quote(str(request.directory))],
        "cores": [str(request.cores)],
        "setup": list(request.setup),
        "export": exports(request),
        "command": [pilot_command(with_end(request))],
    }


def wanted(request: Request) -> set[str]:
    """What somebody asked for, and would miss."""
    return {"export", "pilots"} | ({"setup"} if request.setup else set())


def statuses(printed: str, ids: Sequence[str], of: str = "") -> list[JobStatus]:
    """What ``local_jobs.sh`` says.

    Args:
        of: what stands before each id, such as ``host:``.
    """
    found: list[JobStatus] = []
    for line in printed.splitlines():
        said = _SAID.fullmatch(line.removeprefix(of)) if line.startswith(of) else None
        if said is None:
            continue
        job, number, state, figure = said.groups()
        phase, detail = _judge(state, int(figure or 0))
        found.append(JobStatus(f"{of}{job}_{number}", phase, detail, f"{of}{job}"))
    known = {each.job for each in found} | {each.id for each in found}
    return [*found, *(JobStatus(each, Phase.UNKNOWN) for each in ids if each not in known)]


def _judge(state: str, figure: int) -> tuple[Phase, str]:
    if state == "running":
        return Phase.RUNNING, "running"
    if state == "gone":
        return Phase.FAILED, "FAILED (killed, or the machine was started anew)"
    if figure > 128:
        try:
            name = signal.Signals(figure - 128).name
        except ValueError:
            name = f"signal {figure - 128}"
        return Phase.FAILED, f"FAILED (stopped by {name})"
    return (Phase.FAILED, f"FAILED (exit code {figure})") if figure else (Phase.ENDED, "ended")
