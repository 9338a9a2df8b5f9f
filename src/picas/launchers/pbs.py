"""Pilots as elements of job arrays of PBS: of OpenPBS and PBS Professional, and of Torque, which parted from them long ago.

What is written here of commands and their answers is in the manual pages of both (qsub, qstat, qdel).
"""

from __future__ import annotations

import math
import re
import shlex
from typing import TYPE_CHECKING

from picas.errors import InvalidInput
from picas.launchers.base import JobStatus, Phase, Script, script_name, sizes, told_id
from picas.launchers.filling import exports, fill, own_template, pilot_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from picas.launchers.base import Request

DEFAULT_ARRAY = 10_000
"""The largest array where nobody can be asked: what OpenPBS has when nothing is configured."""

LONGEST_TORQUE_NAME = 15
"""Letters of a job's name that Torque takes."""

_MEBIBYTE = 2**20

_PHASES = {
    **dict.fromkeys("QHWTM", Phase.QUEUED),
    **dict.fromkeys("RESUB", Phase.RUNNING),
    **dict.fromkeys("FCX", Phase.ENDED),
}
"""Of the letters that qstat shows; an exit status other than 0 makes a failure of an end."""

_COUNTED = {
    "Queued": Phase.QUEUED,
    "Running": Phase.RUNNING,
    "Exiting": Phase.RUNNING,
    "Expired": Phase.ENDED,
}
"""What a whole array tells of its elements."""

_ID = re.compile(r"^(\d+(?:\[\])?(?:\.\S+)?)\s*\Z", re.MULTILINE)
_SIZE = re.compile(r"^\s*max_(?:job_)?array_size = (\d+)", re.MULTILINE)
_FACT = re.compile(
    r"^\s+(job_state|exit_status|comment|array_state_count) = (.*)$", re.MULTILINE | re.IGNORECASE
)
_PLAIN = re.compile(r"[\w@%+=,./~^-]+", re.ASCII)
_CONDITION = re.compile(r"[\w=.:+-]+", re.ASCII)


class PBS:
    """See `picas.launchers.base.Launcher`: OpenPBS and PBS Professional."""

    name = "pbs"
    submits = "qsub"
    # 15001: unknown, 15139: has finished, 15140: no history is kept, 15018: not while it is ending; a byte is left of them
    forgiven: tuple[int, ...] = (153, 35, 36, 170)

    def template(self) -> str:
        """The one in ``templates/pbs.sh``."""
        return own_template("pbs.sh")

    def limit_argv(self) -> list[str]:
        """The server tells ``max_array_size``."""
        return ["qstat", "-B", "-f"]

    def parse_limit(self, printed: str) -> int | None:
        """None if there is none."""
        found = _SIZE.search(printed)
        return int(found[1]) if found else None

    def scripts(
        self, request: Request, template: str | None = None, limit: int | None = None
    ) -> list[Script]:
        """Arrays as large as the site allows; no array for one pilot.

        Raises:
            InvalidInput: the template has a mistake, or PBS cannot be told what is asked for.
        """
        if request.array:
            raise InvalidInput("--array: the indices are chosen here", "Say with --pilots how many.")
        text = self.template() if template is None else template
        most = max(1, DEFAULT_ARRAY if limit is None else limit)
        counts = sizes(request.pilots, most)
        return [
            Script(
                script_name(request.name, "sh", number, len(counts)),
                fill(text, self._values(request, size), _wanted(request, size)),
                size,
            )
            for number, size in enumerate(counts, 1)
        ]

    def _values(self, request: Request, pilots: int) -> dict[str, list[str]]:
        return {
            "pilots": [str(pilots)],
            "name": [self.job_name(request.name)],
            "array": [self.array(pilots)] if pilots > 1 else [],
            "resource": self.resources(request),
            "cores": [str(request.cores)],
            "time": [_clock(request.walltime)] if request.walltime else [],
            "queue": [_word("--queue", request.queue)] if request.queue else [],
            "account": [_word("--account", request.account)] if request.account else [],
            "directory": [_word("--directory", str(request.directory))],
            "option": [_option(each) for each in request.options],
            "setup": list(request.setup),
            "export": exports(request),
            "command": [pilot_command(request, self.slots(request))],
        }

    # --- What Torque says otherwise ---

    def job_name(self, name: str) -> str:
        """The name as it may be."""
        return name

    def array(self, pilots: int) -> str:
        """The option that makes an array."""
        return f"-J 0-{pilots - 1}"

    def resources(self, request: Request) -> list[str]:
        """The values of ``-l``."""
        parts = [f"ncpus={request.cores}"]
        if request.memory:
            parts.append(f"mem={_mebibytes(request.memory)}mb")
        if request.gpus:
            parts.append(f"ngpus={request.gpus}")
        if request.constraint:
            parts.append(_condition(request.constraint))
        return [":".join(["select=1", *parts])]

    def slots(self, request: Request) -> str:
        """What the shell makes the number of cores of."""
        return f'"${{NCPUS:-{request.cores}}}"'

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """Each element, also those that are over, where the server keeps a history of them, and else without."""
        asked = shlex.join(ids)
        return ["sh", "-c", f"qstat -x -f -t {asked} || qstat -f -t {asked}"]

    # --- The same for both ---

    def submit_argv(self, script: str) -> list[str]:
        """Qsub prints the id."""
        return ["qsub", script]

    def parse_submitted(self, printed: str) -> list[str]:
        """``1234.server``, or ``1234[].server`` of an array, on the last line.

        Raises:
            LaunchError: there is no id.
        """
        found = told_id(_ID, printed, "qsub", "with qstat")
        return [found[1]]

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """One for each element, or what the array tells of all of them."""
        by_number = {_number(each): each for each in ids}
        found: dict[str, JobStatus] = {}
        arrays: dict[str, str] = {}
        for block in re.split(r"^Job Id: *", printed, flags=re.MULTILINE)[1:]:
            shown = block.split(None, 1)[0]
            job = by_number.get(_number(shown))
            facts = {name.lower(): value.strip() for name, value in _FACT.findall(block)}
            if job is None or "job_state" not in facts:
                continue
            if "[]" in shown:
                arrays[job] = facts.get("array_state_count", "")
            else:
                found[shown] = JobStatus(shown, *_judge(facts), job)
        told = {each.job for each in found.values()}
        for job, counts in arrays.items():
            if job not in told:
                elements = list(_counted(job, counts))
                found.update({f"{job}#{number}": each for number, each in enumerate(elements)})
                told.update(each.job for each in elements)
        return [*found.values(), *(JobStatus(each, Phase.UNKNOWN) for each in ids if each not in told)]

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """An array's id cancels all its elements."""
        return ["qdel", *ids]


class Torque(PBS):
    """See `picas.launchers.base.Launcher`: Torque, where it has another word than OpenPBS."""

    name = "torque"

    def job_name(self, name: str) -> str:
        """Not longer than Torque takes it."""
        return name[:LONGEST_TORQUE_NAME]

    def array(self, pilots: int) -> str:
        """``-t 0-9``."""
        return f"-t 0-{pilots - 1}"

    def resources(self, request: Request) -> list[str]:
        """``nodes=1:ppn=4`` and the memory by itself."""
        parts = ["nodes=1", f"ppn={request.cores}"]
        if request.gpus:
            parts.append(f"gpus={request.gpus}")
        if request.constraint:
            parts.append(_condition(request.constraint))
        memory = [f"mem={_mebibytes(request.memory)}mb"] if request.memory else []
        return [":".join(parts), *memory]

    def slots(self, request: Request) -> str:
        """What the shell makes the number of cores of."""
        return f'"${{PBS_NUM_PPN:-{request.cores}}}"'

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """Those that are over are shown for a while by themselves."""
        return ["qstat", "-f", "-t", *ids]


def _wanted(request: Request, pilots: int) -> set[str]:
    """What somebody asked for, and would miss."""
    asked = {
        "array": pilots > 1,
        "resource": request.cores > 1 or request.memory or request.gpus or request.constraint,
        "time": request.walltime,
        "queue": request.queue,
        "account": request.account,
        "option": request.options,
        "setup": request.setup,
        "export": True,
    }
    return {name for name, value in asked.items() if value}


def _judge(facts: dict[str, str]) -> tuple[Phase, str]:
    """How far a job is, by what qstat tells of it."""
    state, comment = facts["job_state"][:1], facts.get("comment", "")
    phase = _PHASES.get(state, Phase.UNKNOWN)
    status = facts.get("exit_status", "")
    if phase is not Phase.ENDED:
        return phase, f"{state} ({comment})" if comment else state
    if status not in ("", "0"):
        return Phase.FAILED, f"{state} (exit status {status})"
    if not status and state != "X":  # of an element that is over not every version tells it
        return Phase.FAILED, f"{state} ({comment or 'it never ran'})"
    return phase, state


def _counted(job: str, counts: str) -> Iterable[JobStatus]:
    """The elements of ``Queued:2 Running:1 Exiting:0 Expired:3``."""
    for word, count in re.findall(r"(\w+):(\d+)", counts):
        if word in _COUNTED:
            yield from [JobStatus(job, _COUNTED[word], word, job)] * int(count)


def _number(identifier: str) -> str:
    """The number that begins an id; the name of the server after it is written now long, now short."""
    return re.split(r"[.\[]", identifier, maxsplit=1)[0]


def _mebibytes(size: int) -> int:
    return math.ceil(size / _MEBIBYTE)


def _clock(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _word(option: str, text: str) -> str:
    """A value for a line of ``#PBS``, where no version says how anything is quoted."""
    if not _PLAIN.fullmatch(text):
        raise InvalidInput(
            f"{option}: '{text}' cannot be written into a script for PBS",
            "Use letters, digits and / . _ - + = @ only.",
        )
    return text


def _condition(text: str) -> str:
    if not _CONDITION.fullmatch(text):
        raise InvalidInput(
            f"--constraint: '{text}' is none of PBS",
            "Write for example bigmem=true or host=node7; join several by ':'.",
        )
    return text


def _option(text: str) -> str:
    if not text.startswith("-") or not text.isprintable():
        raise InvalidInput(
            f"--option: '{text}' is no option of qsub", "Write for example --option='-P project'."
        )
    return text
