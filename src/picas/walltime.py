"""When the batch job ends that this process runs in, and how long tokens say that they take.

Every batch system says it in a way of its own: in the environment, in files, or when it is asked. The earliest
end that one of them tells counts, since a job may run within another.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from picas.errors import InvalidInput
from picas.settings.config import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ASK_SECONDS = 20.0
"""How long a batch system may take to answer."""

NOTICE_SECONDS = 60.0
"""How long before the end the work gets its signal if nothing else is said, as in Slurm."""

MOMENT_FORMS = "Write 06:00, 2027-01-31T06:00, +90m, or Unix seconds; 'never' for no end at all."

NEVER = "never"
"""In place of a time: this job has no end, whatever its batch system says."""

_UNIX_FROM = 1e9  # a smaller number is no time that anybody means


@dataclass(frozen=True)
class End:
    """When something ends.

    Attributes:
        at: Unix seconds by this machine's clock.
        source: who says so.
    """

    at: float
    source: str


@dataclass(frozen=True)
class Notice:
    """The signal that the work gets before the end: its number, and how many seconds before."""

    number: int
    seconds: float


# --- What people write -------------------------------------------------------------------------------


def parse_moment(text: str, now: float) -> float:
    """Unix seconds: ``06:00`` (the next one), ``2027-01-31T06:00``, ``+90m`` or Unix seconds themselves.

    Without a time zone this machine's holds.

    Raises:
        InvalidInput: it is none of these, or is over.
    """
    plain = text.strip()
    at = _moment(plain, now)
    if at is None:
        raise InvalidInput(f"'{text}' is not a moment", MOMENT_FORMS)
    if at <= now:
        raise InvalidInput(f"'{text}' is over", MOMENT_FORMS)
    return at


def until_when(given: float | str | None) -> float | None:
    """Unix seconds that a person gave, in whichever way; infinite for ``never``, None if nothing was given.

    Raises:
        InvalidInput: it is no moment, or it is over.
    """
    if given is None or isinstance(given, (int, float)):
        if given is not None and not given > time.time():
            raise InvalidInput(f"until is {given}, which is over", MOMENT_FORMS)
        return given
    return math.inf if given.strip().lower() == NEVER else parse_moment(given, time.time())


def _moment(text: str, now: float) -> float | None:
    if text.startswith("+"):
        return now + parse_duration(text[1:])
    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        return float(text) if float(text) >= _UNIX_FROM else None
    try:
        clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M")  # noqa: DTZ007
    except ValueError:
        pass
    else:
        today = datetime.fromtimestamp(now)  # noqa: DTZ006 - what people have on their wrist
        moment = today.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
        return (moment if moment > today else moment + timedelta(days=1)).timestamp()
    try:
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_notice(text: str) -> Notice:
    """A signal and how long before the end it is sent: ``USR1@120``, ``INT@5m``; ``USR1`` alone is a minute before.

    Raises:
        InvalidInput: there is no such signal or time, or nobody can heed that signal.
    """
    name, _, before = text.strip().partition("@")
    try:
        number = int(name) if name.isdecimal() else signal.Signals["SIG" + name.upper().replace("SIG", "", 1)]
        found = signal.Signals(number)
    except (KeyError, ValueError):
        raise InvalidInput(
            f"there is no signal '{name}'", "Write a signal and when, such as USR1@120 or INT@5m."
        ) from None
    if found in (signal.SIGKILL, signal.SIGSTOP):
        raise InvalidInput(f"no program can heed {found.name}", "Choose another signal, such as USR1@120.")
    seconds = parse_duration(before) if before else NOTICE_SECONDS
    if not seconds > 0:
        raise InvalidInput(f"'{text}': the signal must come before the end", "Write for example USR1@120.")
    return Notice(int(found), seconds)


def declared(body: Mapping[str, Any]) -> float | None:
    """How many seconds a token says that it takes, in its field ``walltime``; None if it says nothing that makes sense.

    A number is seconds; a text is what `picas.settings.config.parse_duration` reads: ``1h30m``, ``01:30:00``.
    """
    value = body.get("walltime")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    seconds = _duration(value) if isinstance(value, str) else value
    return float(seconds) if 0 < seconds < math.inf else None


@lru_cache(maxsize=1000)
def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except InvalidInput:
        return 0.0


# --- What batch systems say --------------------------------------------------------------------------

Ask = Callable[["Sequence[str]"], str]


def job_end(environ: Mapping[str, str], now: float, ask: Ask | None = None) -> End | None:
    """When the batch job ends that has this environment; None outside of one, or where nobody can tell.

    An end that is over is none: the job still runs, so its time was prolonged.

    Args:
        ask: runs a command of the batch system; what it printed, "" if there is no such command.
    """
    if ask is None:
        ask = _ask
    told = chain(_slurm(environ, now, ask), _pbs(environ, now, ask), _condor(environ), _features(environ))
    found = [end for end in told if now < end.at < math.inf]
    return min(found, key=lambda end: end.at, default=None)


def _slurm(environ: Mapping[str, str], now: float, ask: Ask) -> Iterator[End]:
    job = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    if not job:
        return
    at = _number(environ.get("SLURM_JOB_END_TIME"))
    if at > now:
        yield End(at, "SLURM_JOB_END_TIME")
        return
    shown = re.search(r"\bEndTime=(\S+)", ask(["scontrol", "show", "job", job]))
    if shown is not None:
        # "Unknown" for a job without a limit
        yield from _at_local_time(shown[1], "%Y-%m-%dT%H:%M:%S", "scontrol")
        return
    left = _clock(ask(["squeue", "-h", "-j", job, "-o", "%L"]).strip())
    if left is not None:
        yield End(now + left, "squeue")


def _pbs(environ: Mapping[str, str], now: float, ask: Ask) -> Iterator[End]:
    job = environ.get("PBS_JOBID")
    if not job:
        return
    limit = _number(environ.get("PBS_WALLTIME"))  # Torque has it, others do not
    begun = _begun("PBS_JOBID", job) if limit else None
    if begun is not None:
        yield End(begun + limit, "PBS_WALLTIME")
        return
    told = dict(re.findall(r"^\s*([A-Za-z_.]+) = (.+?)\s*$", ask(["qstat", "-f", job]), re.MULTILINE))
    left = _clock(told.get("Walltime.Remaining", ""))
    if left is not None:
        yield End(now + left, "qstat")
        return
    length = _clock(told.get("Resource_List.walltime", ""))
    if length is not None:
        start = told.get("stime") or told.get("start_time") or ""
        for began in _at_local_time(start, "%a %b %d %H:%M:%S %Y", "qstat"):
            yield End(began.at + length, "qstat")


def _condor(environ: Mapping[str, str]) -> Iterator[End]:
    path = environ.get("_CONDOR_JOB_AD", "")
    job = _numbers_of_ad(path)
    if job:
        begun = job.get("jobcurrentstartdate") or os.stat(path).st_mtime
        executing = job.get("jobcurrentstartexecutingdate") or begun
        for name, start, unit in (
            ("AllowedJobDuration", begun, 1),
            ("AllowedExecuteDuration", executing, 1),
            ("MaxRuntime", begun, 1),  # how some sites call it
            ("MaxWallTimeMins", begun, 60),  # and others
        ):
            if job.get(name.lower(), 0) > 0:
                yield End(start + job[name.lower()] * unit, f"{name} of the job's ad")
    dies = _numbers_of_ad(environ.get("_CONDOR_MACHINE_AD", "")).get("glidein_todie", 0)
    if dies:
        yield End(dies, "GLIDEIN_ToDie of the machine's ad")


def _features(environ: Mapping[str, str]) -> Iterator[End]:
    """Machine and job features (HSF-TN-2016-02), as sites of the Grid and DIRAC have them."""
    job, machine = environ.get("JOBFEATURES"), environ.get("MACHINEFEATURES")
    if job:
        yield End(_number(_content(f"{job}/shutdowntime_job")) or math.inf, "JOBFEATURES/shutdowntime_job")
        begun = _number(_content(f"{job}/jobstart_secs"))
        limit = _number(_content(f"{job}/wall_limit_secs"))
        if begun and limit:
            yield End(begun + limit, "JOBFEATURES/wall_limit_secs")
    if machine:
        yield End(_number(_content(f"{machine}/shutdowntime")) or math.inf, "MACHINEFEATURES/shutdowntime")


def _ask(command: Sequence[str]) -> str:
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ASK_SECONDS,
            env={**os.environ, "LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else ""


def _number(text: str | None) -> float:
    """The number that a text holds; 0 if it holds none."""
    try:
        number = float(text or "")
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _clock(text: str) -> float | None:
    """Seconds of ``1-02:03:04``, ``02:03:04``, ``03:04`` or ``4``; None for UNLIMITED and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", text, re.ASCII)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _at_local_time(text: str, form: str, source: str) -> Iterator[End]:
    try:
        yield End(datetime.strptime(text, form).timestamp(), source)  # noqa: DTZ007 - local, as they print it
    except (ValueError, OverflowError):
        return


def _numbers_of_ad(path: str) -> dict[str, float]:
    """The attributes of a ClassAd in a file that are plain numbers, their names in lower case."""
    lines = re.findall(r"^(\w+)\s*=\s*([0-9.]+)\s*$", _content(path) if path else "", re.MULTILINE)
    return {name.lower(): _number(value) for name, value in lines}


def _content(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _begun(variable: str, value: str) -> float | None:
    """When the oldest process began that we descend from and that has this variable too; None where nobody can tell.

    The script of a batch job is the first that has the job's id.
    """
    mark = f"{variable}={value}".encode()
    oldest, pid = None, os.getpid()
    try:
        while pid > 1:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if mark not in environment:
                break
            # proc(5): pid (name) state ppid …, the 22nd of all is when it began
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            oldest, pid = int(fields[19]), int(fields[1])
    except (OSError, ValueError, IndexError):  # another user's, or no Linux
        pass
    if oldest is None:
        return None
    booted = re.search(r"^btime (\d+)$", _content("/proc/stat"), re.MULTILINE)
    return int(booted[1]) + oldest / os.sysconf("SC_CLK_TCK") if booted else None


def monotonic(at: float) -> float:
    """The monotonic time that will be when this machine's clock shows these Unix seconds."""
    return time.monotonic() + at - time.time()
