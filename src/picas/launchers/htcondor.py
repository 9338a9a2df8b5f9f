"""Pilots as the jobs of one cluster of HTCondor (its word for jobs that were submitted together).

What is written here of commands and their answers is in the manual pages (condor_submit, condor_q, condor_history, condor_rm).
"""

from __future__ import annotations

import math
import re
import shlex
from typing import TYPE_CHECKING

from picas.errors import InvalidInput
from picas.launchers.base import JobStatus, Phase, Script, Unlimited, told_id
from picas.launchers.filling import exports, fill, own_template, pilot_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from picas.launchers.base import Request

SCANNED = 20_000
"""Jobs of its history that are looked at: of all users, the last ones first."""

_MEBIBYTE = 2**20

_STATES = {
    "1": (Phase.QUEUED, "IDLE"),
    "2": (Phase.RUNNING, "RUNNING"),
    "3": (Phase.FAILED, "REMOVED"),
    "4": (Phase.ENDED, "COMPLETED"),
    "5": (Phase.FAILED, "HELD"),
    "6": (Phase.RUNNING, "TRANSFERRING_OUTPUT"),
    "7": (Phase.RUNNING, "SUSPENDED"),
}
"""The attribute ``JobStatus``."""

_RANGE = re.compile(r"^(\d+)\.\d+ - \d+\.\d+\s*\Z", re.MULTILINE)
_SHOWN = re.compile(r"(\d+)\.(\d+) (\d) (\S+) ?(.*)")


class HTCondor(Unlimited):
    """See `picas.launchers.base.Launcher`."""

    name = "htcondor"
    submits = "condor_submit"
    forgiven: tuple[int, ...] = ()

    def template(self) -> str:
        """The one in ``templates/htcondor.sub``."""
        return own_template("htcondor.sub")

    def scripts(
        self, request: Request, template: str | None = None, limit: int | None = None
    ) -> list[Script]:
        """One submit file with all pilots, and the shell script that each of them runs.

        Raises:
            InvalidInput: the template has a mistake, or HTCondor cannot be told what is asked for.
        """
        if request.array or request.queue:
            option = "--array" if request.array else "--queue"
            raise InvalidInput(f"{option}: HTCondor has none", "Leave it out.")
        text = self.template() if template is None else template
        executable = f"{request.name}-pilot.sh"
        pilot = fill(own_template("htcondor.sh"), _pilot_values(request))
        submit = fill(text, _values(request, executable), _wanted(request))
        # inside: the path of the executable begins where condor_submit is run
        return [Script(f"{request.name}.sub", submit, request.pilots, {executable: pilot}, inside=True)]

    def submit_argv(self, script: str) -> list[str]:
        """``-terse``: the ids alone are printed."""
        return ["condor_submit", "-terse", script]

    def parse_submitted(self, printed: str) -> list[str]:
        """The cluster of ``12.0 - 12.199``.

        Raises:
            LaunchError: there is none.
        """
        found = told_id(_RANGE, printed, "condor_submit", "with condor_q")
        return [found[1]]

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """What is queued or runs, and of the history how the others ended; a history that cannot be read is as good as none."""
        asked = shlex.join(ids)
        return [
            "sh",
            "-c",
            f"condor_q {asked} -af:j JobStatus HoldReason || exit\n"
            f"condor_history {asked} -scanlimit {SCANNED} -af:j JobStatus ExitCode RemoveReason 2>/dev/null || :",
        ]

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """One for each job."""
        wanted = {each.partition(".")[0]: each for each in ids}
        found: dict[str, JobStatus] = {}
        for line in printed.splitlines():
            shown = _SHOWN.fullmatch(line.strip())
            if shown is None or shown[1] not in wanted or shown[3] not in _STATES:
                continue
            cluster, number, state, first, rest = shown.groups()
            told = JobStatus(f"{cluster}.{number}", *_judge(state, first, rest), wanted[cluster])
            found.setdefault(told.id, told)  # the queue has the first word
        known = {each.job for each in found.values()}
        return [*found.values(), *(JobStatus(each, Phase.UNKNOWN) for each in ids if each not in known)]

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """A cluster's id removes all its jobs."""
        return ["condor_rm", *ids]


def _judge(state: str, first: str, rest: str) -> tuple[Phase, str]:
    """How far a job is.

    Args:
        first: of a job that has completed its exit code; of others the first word of why they are held, or were removed.
    """
    phase, word = _STATES[state]
    if word == "COMPLETED" and first not in ("0", "undefined"):
        return Phase.FAILED, f"{word} (exit code {first})"
    reason = " ".join(each for each in (first, rest) if each != "undefined").strip()
    return (phase, f"{word} ({reason})") if phase is Phase.FAILED and reason else (phase, word)


def _pilot_values(request: Request) -> dict[str, list[str]]:
    return {"setup": list(request.setup), "export": exports(request), "command": [pilot_command(request)]}


def _values(request: Request, executable: str) -> dict[str, list[str]]:
    files = [_word("a file's path", str(each.absolute())) for each in request.files]
    return {
        "pilots": [str(request.pilots)],
        "name": [request.name],
        "executable": [executable],
        "directory": [_word("--directory", str(request.directory))],
        "cores": [str(request.cores)],
        "memory": [str(math.ceil(request.memory / _MEBIBYTE))] if request.memory else [],
        "gpus": [str(request.gpus)] if request.gpus else [],
        "time": [str(math.ceil(request.walltime))] if request.walltime else [],
        "account": [_word("--account", request.account)] if request.account else [],
        "constraint": [_line("--constraint", request.constraint)] if request.constraint else [],
        "transfer": ["YES" if files else "IF_NEEDED"],
        "files": [", ".join(files)] if files else [],
        "option": [_option(each) for each in request.options],
    }


def _wanted(request: Request) -> set[str]:
    """What somebody asked for, and would miss."""
    asked = {
        "executable": True,
        "pilots": True,
        "cores": request.cores > 1,
        "memory": request.memory,
        "gpus": request.gpus,
        "time": request.walltime,
        "account": request.account,
        "constraint": request.constraint,
        "files": request.files,
        "option": request.options,
    }
    return {name for name, value in asked.items() if value}


def _word(what: str, text: str) -> str:
    """A value in which nothing means anything to HTCondor, which cuts lists at commas and replaces ``$(…)``."""
    if not text.isprintable() or re.search(r"[\s,\"'$\\]", text):
        raise InvalidInput(
            f"{what}: '{text}' cannot be written into a submit file",
            "Use letters, digits and / . _ - + = @ only.",
        )
    return text


def _line(what: str, text: str) -> str:
    if not text.isprintable() or text.endswith("\\"):
        raise InvalidInput(f"{what}: {text!r} is more than one line", "Write it on one.")
    return text


def _option(text: str) -> str:
    if not re.match(r"[+\w][\w.]*\s*=", _line("--option", text)):
        raise InvalidInput(
            f"--option: '{text}' is no line of a submit file",
            "Write for example --option='+JobFlavour = \"workday\"'.",
        )
    return text
