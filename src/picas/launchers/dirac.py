"""Pilots as parametric jobs of DIRAC, on the Grid.

A job gets a sandbox, the files that travel with it, and begins with ``startpilot.sh`` in it. Nothing else is taken for
granted on the machine where it lands.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InvalidInput
from picas.launchers.base import JobStatus, Phase, Script, Unlimited, script_name, sizes, told_id
from picas.launchers.filling import fill, own_template, pilot_command
from picas.launchers.sandbox import CONFIG, OWN_NAMES, name_of
from picas.walltime import NOTICE_SECONDS, Notice, parse_notice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from picas.launchers.base import Request

START = "startpilot.sh"
OUTPUTS = ("pilot.out", "pilot.err", "unsent*")
"""What comes back: what the pilot printed, and results that it could not send to the pool."""

MAX_PARAMETRIC_JOBS = 20
"""DIRAC's own ``MaxParametricJobs``; no command tells what a site has made of it."""

MAX_SANDBOX_BYTES = 10 * 2**20
"""DIRAC's own ``MaxSandboxSizeMiB``, compressed."""

CPU_SECONDS = (100, 500_000)
"""Least and most that DIRAC takes for ``CPUTime``, unless a site has set others."""

WORK_PER_SECOND = 20.0
"""What DIRAC counts as the work of one second of a fast core (HS06); `StopSigFinishWork` is told in it."""

_STOP = Notice(15, NOTICE_SECONDS)

_PHASES = {
    **dict.fromkeys(
        ("Submitting", "Received", "Checking", "Staging", "Scouting", "Waiting", "Matched", "Rescheduled"),
        Phase.QUEUED,
    ),
    **dict.fromkeys(("Running", "Stalled", "Completing"), Phase.RUNNING),
    **dict.fromkeys(("Done", "Completed"), Phase.ENDED),
    **dict.fromkeys(("Failed", "Killed", "Deleted"), Phase.FAILED),
}
"""Of all states of DIRAC's jobs."""

_NAMES = (
    *("BannedSites", "CPUTime", "GridCE", "InputData", "JobGroup", "JobType", "LogLevel", "MaxRAM", "MinRAM"),
    *(
        "NumberOfProcessors",
        "MaxNumberOfProcessors",
        "MinNumberOfProcessors",
        "OutputData",
        "OutputPath",
        "OutputSE",
    ),
    *("Platform", "Priority", "Site", "Tags", "WholeNode"),
)
"""Attributes that DIRAC knows; it passes over them if a letter has the wrong case."""

# DIRAC's parser ends a value at any of these, in quotes too, or gives them a meaning.
_SPECIAL = re.compile(r"[\"%;,{}\[\]\\\x00-\x1f\x7f]")
_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_.]*) *= *([^;\[\]\x00-\x1f\x7f]*[^;\[\]\x00-\x1f\x7f\s])\s*;?")
_SUBMITTED = re.compile(r"^JobID = (?:(\d+)|\[([\d, ]+)\])\s*$", re.MULTILINE)
_SHOWN = re.compile(r"^JobID=(\d+) (.*)$", re.MULTILINE)


class Dirac(Unlimited):
    """See `picas.launchers.base.Launcher`."""

    name = "dirac"
    submits = "dirac-wms-job-submit"
    forgiven: tuple[int, ...] = ()

    def template(self) -> str:
        """The one of ``startpilot.sh``; attributes of the JDL are ``--option``."""
        return own_template(START)

    def scripts(
        self, request: Request, template: str | None = None, limit: int | None = None
    ) -> list[Script]:
        """JDLs of as many parametric jobs each as DIRAC takes, with the script that each job starts.

        Raises:
            InvalidInput: the template has a mistake, or DIRAC has no such thing.
        """
        _check(request)
        bundle = _bundle(request)
        files = tuple(dict.fromkeys((*request.files, *([bundle] if bundle else []))))
        start = fill(
            self.template() if template is None else template, _values(request, bundle), _wanted(request)
        )
        most = max(1, limit or MAX_PARAMETRIC_JOBS)
        counts = sizes(request.pilots, most)
        return [
            Script(
                script_name(request.name, "jdl", number + 1, len(counts)),
                jdl(_attributes(request, files, number * most, pilots)),
                pilots,
                {START: start},
                files,
                inside=True,
                most_bytes=MAX_SANDBOX_BYTES if request.most_bytes is None else request.most_bytes,
            )
            for number, pilots in enumerate(counts)
        ]

    def submit_argv(self, script: str) -> list[str]:
        """The JDL names the files of the sandbox as they are beside it."""
        return ["dirac-wms-job-submit", script]

    def parse_submitted(self, printed: str) -> list[str]:
        """``JobID = 11``, or ``JobID = [11, 12]``, among what DIRAC logs.

        Raises:
            LaunchError: there is no id.
        """
        found = told_id(_SUBMITTED, printed, "dirac-wms-job-submit", "on DIRAC's web page")
        return re.findall(r"\d+", found[1] or found[2])

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """One command for all of them."""
        return ["dirac-wms-job-status", *ids]

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """``JobID=11 Status=Waiting; MinorStatus=Pilot Agent Submission; Site=ANY;`` for each."""
        found = {}
        for id_, said in _SHOWN.findall(printed):
            facts = dict(part.strip().split("=", 1) for part in said.split(";") if "=" in part)
            status = facts.get("Status", "")
            details = [facts[name] for name in ("MinorStatus", "Site") if facts.get(name)]
            detail = f"{status} ({', '.join(details)})" if details else status
            found[id_] = JobStatus(id_, _PHASES.get(status, Phase.RUNNING), detail)
        return [found.get(each, JobStatus(each, Phase.UNKNOWN)) for each in ids]

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """One command for all of them."""
        return ["dirac-wms-job-kill", *ids]


# --- The JDL -----------------------------------------------------------------------------------------


def jdl(attributes: Mapping[str, str]) -> str:
    """A job description, of attributes that are written as DIRAC reads them."""
    return "\n".join(["[", *(f"  {name} = {value};" for name, value in attributes.items()), "]"]) + "\n"


def _attributes(request: Request, files: Sequence[Path], first: int, pilots: int) -> dict[str, str]:
    notice = parse_notice(request.signal) if request.signal else _STOP
    tags = [part for part in re.split(r"[\s,]+", request.constraint) if part]
    if request.gpus:
        tags.append("GPU")
    found = {
        "JobName": _quoted("--name", request.name),
        "Parameters": str(pilots),
        "ParameterStart": str(first),
        "ParameterStep": "1",
        "Executable": '"/bin/sh"',
        "Arguments": f'"{START}"',
        "StdOutput": f'"{OUTPUTS[0]}"',
        "StdError": f'"{OUTPUTS[1]}"',
        "InputSandbox": _listed([START, *map(name_of, files)]),
        "OutputSandbox": _listed(OUTPUTS),
    }
    if request.walltime:
        found["CPUTime"] = str(math.ceil(request.walltime))
    if request.cores > 1:
        found["NumberOfProcessors"] = found["MaxNumberOfProcessors"] = str(request.cores)
    if request.memory:
        found["MinRAM"] = str(math.ceil(request.memory / 10**6))
    if request.queue:
        found["Site"] = _quoted("--queue", request.queue)
    if tags:
        found["Tags"] = _listed([_plain("--constraint", tag) for tag in tags])
    # From DIRAC 9.1 on, a pilot whose time is nearly up is told; those before know nothing of these.
    program = re.sub(r"[^\w.-]", ".", Path(request.program[-1]).name)
    found["StopSigRegex"] = f'"{program} run"'
    found["StopSigNumber"] = str(notice.number)
    found["StopSigFinishWork"] = str(math.ceil(notice.seconds * WORK_PER_SECOND))
    for option in request.options:
        name, value = _option(option)
        found[next((known for known in (*found, *_NAMES) if known.lower() == name.lower()), name)] = value
    return found


def _listed(words: Iterable[str]) -> str:
    # The blank is needed: of two parsers in DIRAC one splits at it, the other at the comma.
    return "{" + ", ".join(f'"{word}"' for word in words) + "}"


def _quoted(option: str, text: str) -> str:
    return f'"{_plain(option, text)}"'


def _plain(option: str, text: str) -> str:
    found = _SPECIAL.search(text)
    if found:
        raise InvalidInput(
            f"{option}: '{text}' cannot be written into a JDL, because of {found[0]!r}",
            "DIRAC would misread it.",
        )
    return text


def _option(text: str) -> tuple[str, str]:
    found = _OPTION.fullmatch(text.strip())
    if not found:
        raise InvalidInput(
            f"--option: '{text}' is no attribute of a JDL",
            """Write for example --option 'Site = "LCG.Example.org"' or --option 'Priority = 5'.""",
        )
    return found[1], found[2]


# --- The script in the sandbox -----------------------------------------------------------------------


def _check(request: Request) -> None:
    """Refuse what DIRAC has no word for.

    Raises:
        InvalidInput: the message says what there is in its place.
    """
    least, most = CPU_SECONDS
    if request.account:
        raise InvalidInput(
            "DIRAC charges the group of your proxy: --account means nothing to it",
            "Choose the group with: dirac-proxy-init -g GROUP",
        )
    if request.gpus > 1:
        raise InvalidInput("DIRAC gives a job one GPU or none", "Ask for --gpus 1.")
    if request.walltime is not None and not least <= request.walltime <= most:
        raise InvalidInput(
            f"--time: DIRAC takes {least} to {most} seconds", "Leave it out for what sites give."
        )


def _bundle(request: Request) -> Path | None:
    """The file that has picas in it, where that travels along."""
    last = Path(request.program[-1])
    return last if last.suffix == ".pyz" else None


def _values(request: Request, bundle: Path | None) -> dict[str, list[str]]:
    run = request.run
    if request.walltime:  # before the user's own options, which count if they say it too
        run = ("--until", f"+{math.ceil(request.walltime)}s", *run)
    program = f'"$python" -I {shlex.quote(name_of(bundle))}' if bundle else ""
    slots = f'"${{DIRAC_JOB_PROCESSORS:-{request.cores}}}"'
    files = [name_of(file) for file in request.files if file.name not in OWN_NAMES]
    return {
        "pilots": [str(request.pilots)],
        "name": [request.name],
        "cores": [str(request.cores)],
        "config": [CONFIG],
        "bundle": [bundle.name] if bundle else [],
        "files": [" ".join(files)] if files else [],
        "setup": list(request.setup),
        "export": _exports(request),
        "command": [pilot_command(replace(request, run=run), slots, program)],
    }


def _exports(request: Request) -> list[str]:
    """Without the pool, which stands in the configuration that travels, and is so told in one place."""
    return [f"export {name}={shlex.quote(value)}" for name, value in request.environment.items()]


def _wanted(request: Request) -> set[str]:
    """What somebody asked for, and would miss."""
    asked = {"setup": request.setup, "export": request.environment, "config": True}
    return {name for name, value in asked.items() if value}
