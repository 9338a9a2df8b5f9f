"""Pilots as elements of job arrays of Slurm."""

from __future__ import annotations

import math
import re
import signal
from typing import TYPE_CHECKING

from picas.errors import InvalidInput
from picas.launchers.base import JobStatus, Phase, Script, script_name, sizes, told_id
from picas.launchers.filling import exports, fill, own_template, pilot_command
from picas.walltime import parse_notice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from picas.launchers.base import Request

DEFAULT_ARRAY = 1001
"""Slurm's own ``MaxArraySize``, for where nobody can be asked."""

MOST_ARRAYS = 50
"""More calls of sbatch than this no request makes."""

_MEBIBYTE = 2**20

_PHASES = {
    **dict.fromkeys(
        (
            "PENDING",
            "CONFIGURING",
            "REQUEUED",
            "REQUEUE_FED",
            "REQUEUE_HOLD",
            "SPECIAL_EXIT",
            "RESV_DEL_HOLD",
        ),
        Phase.QUEUED,
    ),
    **dict.fromkeys(
        ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"), Phase.RUNNING
    ),
    "COMPLETED": Phase.ENDED,
}
"""Of the states that squeue tells; all others are ends of other kinds: FAILED, CANCELLED, TIMEOUT, NODE_FAIL …"""

_SUBMITTED = re.compile(r"^(\d+)(;\S+)?\s*\Z", re.MULTILINE)
_ELEMENTS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)
_SHOWN = re.compile(r"(\d+)(?:_(\d+))?\|([A-Z_]+)\|(.*)")
_PLAIN = re.compile(r"[\w@%+=:,./^~{}\[\]&*?!-]+", re.ASCII)


class Slurm:
    """See `picas.launchers.base.Launcher`."""

    name = "slurm"
    submits = "sbatch"
    forgiven: tuple[int, ...] = ()

    def template(self) -> str:
        """The one in ``templates/slurm.sh``."""
        return own_template("slurm.sh")

    def limit_argv(self) -> list[str]:
        """The site's configuration tells ``MaxArraySize``."""
        return ["scontrol", "show", "config"]

    def parse_limit(self, printed: str) -> int | None:
        """Indices begin at 0 and end below ``MaxArraySize``, so it is also how many there can be."""
        found = _SIZE.search(printed)
        return int(found[1]) if found else None

    def scripts(
        self, request: Request, template: str | None = None, limit: int | None = None
    ) -> list[Script]:
        """Arrays as large as the site allows; no array for one pilot.

        Raises:
            InvalidInput: the template has a mistake, or the array is larger than the site's, or there would be too many.
        """
        text = self.template() if template is None else template
        most = DEFAULT_ARRAY if limit is None else max(1, limit)  # 0: the site has switched them off
        arrays = [(request.array, request.pilots)] if request.array else _arrays(request.pilots, most)
        if request.array and highest(request.array) >= most:
            raise InvalidInput(
                f"--array {request.array}: indices of arrays end at {most - 1} here (MaxArraySize of this Slurm)",
                f"--pilots {request.pilots} makes as many arrays as it takes.",
            )
        wanted = _wanted(request)
        return [
            Script(
                script_name(request.name, "sh", number, len(arrays)),
                fill(text, _values(request, array, pilots), wanted | ({"array"} if array else set())),
                pilots,
            )
            for number, (array, pilots) in enumerate(arrays, 1)
        ]

    def submit_argv(self, script: str) -> list[str]:
        """``--parsable``: the id alone is printed."""
        return ["sbatch", "--parsable", script]

    def parse_submitted(self, printed: str) -> list[str]:
        """``1234``, or ``1234;cluster``, on the last line: sites have sbatch print other things before.

        Raises:
            LaunchError: there is no id.
        """
        found = told_id(_SUBMITTED, printed, "sbatch", "with squeue")
        return [found[1]]

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """All jobs of this user: asked for one by its id, squeue fails once it has forgotten that."""
        return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """One for each element that squeue still knows."""
        wanted = set(ids)
        found = []
        for line in printed.splitlines():
            shown = _SHOWN.fullmatch(line.strip())
            if not shown or shown[1] not in wanted:
                continue
            job, element, state, reason = shown.groups()
            said = f"{state} ({reason})" if reason not in ("", "None") else state
            phase = _PHASES.get(state, Phase.FAILED)
            found.append(JobStatus(f"{job}_{element}" if element else job, phase, said, job))
        known = {each.job for each in found}
        return [*found, *(JobStatus(each, Phase.UNKNOWN) for each in ids if each not in known)]

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """An array's id cancels all its elements."""
        return ["scancel", *ids]


# --- Arrays ------------------------------------------------------------------------------------------


def _elements(array: str) -> list[range]:
    """The indices of ``0-5``, ``1,3,7``, ``0-15:4``, each with ``%N`` for so many at a time."""
    indices, _, at_once = array.partition("%")
    found = [_ELEMENTS.fullmatch(part) for part in indices.split(",")]
    ranges = [
        range(int(each[1]), int(each[2] or each[1]) + 1, int(each[3] or 1))
        for each in found
        if each is not None and int(each[3] or 1) > 0
    ]
    wrong_end = "%" in array and not (at_once.isdecimal() and int(at_once) > 0)
    if len(ranges) < len(found) or wrong_end or not all(ranges):
        raise InvalidInput(
            f"'{array}' is no array", "Write for example 0-5, 0-199%20 (20 at a time), 1,3,7 or 0-15:4."
        )
    return ranges


def count(array: str) -> int:
    """How many elements an array has: 6 for ``0-5``.

    Raises:
        InvalidInput: that is not how arrays are written.
    """
    return len(set().union(*_elements(array)))


def highest(array: str) -> int:
    """Its highest index: 5 for ``0-5``.

    Raises:
        InvalidInput: that is not how arrays are written.
    """
    return max(each[-1] for each in _elements(array))


def _arrays(pilots: int, most: int) -> list[tuple[str, int]]:
    """The fewest arrays that have so many elements in all, with how many each has."""
    counts = sizes(pilots, most)
    if len(counts) > MOST_ARRAYS:
        raise InvalidInput(
            f"--pilots {pilots}: that would be {len(counts)} arrays, since one has {most} elements at the most here",
            f"Ask for {MOST_ARRAYS * most} or fewer: a pilot runs many tokens, one after the other.",
        )
    return [(f"0-{size - 1}" if size > 1 else "", size) for size in counts]


# --- Values ------------------------------------------------------------------------------------------


def _values(request: Request, array: str, pilots: int) -> dict[str, list[str]]:
    output = f"{request.name}-{'%A_%a' if array else '%j'}.out"
    notice = parse_notice(request.signal) if request.signal else None
    signal_name = signal.Signals(notice.number).name[len("SIG") :] if notice else ""
    return {
        "pilots": [str(pilots)],
        "name": [_word(request.name)],
        "array": [array] if array else [],
        "directory": [_word(str(request.directory))],
        "output": [_word(output)],
        "cores": [str(request.cores)],
        "memory": [f"{math.ceil(request.memory / _MEBIBYTE)}M"] if request.memory else [],
        "gpus": [str(request.gpus)] if request.gpus else [],
        "time": [clock(request.walltime)] if request.walltime else [],
        "queue": [_word(request.queue)] if request.queue else [],
        "account": [_word(request.account)] if request.account else [],
        "constraint": [_word(request.constraint)] if request.constraint else [],
        "signal": [f"B:{signal_name}@{math.ceil(notice.seconds)}"] if notice else [],
        "notice": [signal_name] if notice else [],
        "option": [_option(each) for each in request.options],
        "setup": list(request.setup),
        "export": exports(request),
        "command": [pilot_command(request, f'"${{SLURM_CPUS_PER_TASK:-{request.cores}}}"')],
    }


def _wanted(request: Request) -> set[str]:
    """What somebody asked for, and would miss."""
    asked = {
        "memory": request.memory,
        "gpus": request.gpus,
        "time": request.walltime,
        "queue": request.queue,
        "account": request.account,
        "constraint": request.constraint,
        "signal": request.signal,
        "option": request.options,
        "setup": request.setup,
        "cores": request.cores > 1,
        "export": True,
    }
    return {name for name, value in asked.items() if value}


def clock(seconds: float) -> str:
    """``02:30:00``, ``1-12:00:00``: how Slurm writes a time, which counts in minutes and rounds up."""
    minutes = max(1, math.ceil(seconds / 60))
    days, rest = divmod(minutes, 24 * 60)
    return (f"{days}-" if days else "") + f"{rest // 60:02}:{rest % 60:02}:00"


def _word(text: str) -> str:
    """A value for a line of ``#SBATCH``, which sbatch cuts at blanks, and at ``#``, outside of quotes."""
    if _PLAIN.fullmatch(text):
        return text
    if not text.isprintable():
        raise InvalidInput(f"{text!r} cannot be written into a job script", "Use printable characters only.")
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _option(text: str) -> str:
    """An option as it is.

    Raises:
        InvalidInput: it is none, or would go on into the next line.
    """
    if not text.startswith("-") or not text.isprintable():
        raise InvalidInput(
            f"--option: '{text}' is no option of sbatch", "Write for example --option=--qos=short."
        )
    if re.match(r"--clusters\b|-M", text):
        raise InvalidInput(
            "--option: jobs on another cluster could not be followed",
            "Set SLURM_CLUSTERS, which squeue and scancel read too.",
        )
    return text
