"""What is asked of a batch system, and what each batch system's file in this folder answers.

A launcher is made of pure functions: the text of a job script, the command that submits it, and what that command's
output means. `picas.launchers.execute` is the only place that runs such a command, and `picas.launchers.submit` puts
the parts together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from picas.errors import LaunchError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Request:
    """Pilots that are asked for, all alike.

    Attributes:
        pool: the pool's URL, without a login in it.
        run: what `picas run` gets: options, and the command after ``--``.
        pilots: how many; of a batch system with arrays each is one element.
        array: the elements of one array in the batch system's own words, such as ``0-199%20``, in place of a choice
            of ours; `pilots` is then how many these are.
        name: what the job is called.
        program: how picas is called on the machine: ``("picas",)``, or ``("python3", "pilot.pyz")`` for a bundle.
        directory: where the pilots start, and where what they print is kept.
        cores: for each pilot.
        slots: whether a pilot takes as many tokens at a time as it has cores; not if ``run`` says how many.
        memory: bytes for each pilot; None for what the site gives.
        gpus: for each pilot.
        walltime: seconds for each pilot; None for what the site gives.
        queue: the partition, or queue.
        account: who is charged.
        constraint: features that a machine must have, in the batch system's own words.
        signal: a signal for the pilot and when, such as ``USR1@120``; see `picas.walltime.parse_notice`.
        setup: shell lines that go before: ``module load …``, ``source venv/bin/activate``.
        options: options of the batch system itself, as they are.
        files: what has to travel with the job where there is no shared file system.
        hosts: the machines, where no batch system chooses them; each gets `pilots`.
        most_elements: the largest array that the site takes, for where the batch system does not tell.
        most_bytes: how much may travel with a job; None for what the batch system takes by itself.
        environment: variables to set for the pilot; never a secret, since scripts can be read by others.
    """

    pool: str
    run: tuple[str, ...] = ()
    pilots: int = 1
    array: str = ""
    name: str = "picas"
    program: tuple[str, ...] = ("picas",)
    directory: Path = Path()
    cores: int = 1
    slots: bool = True
    memory: int | None = None
    gpus: int = 0
    walltime: float | None = None
    queue: str = ""
    account: str = ""
    constraint: str = ""
    signal: str = ""
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    most_elements: int | None = None
    most_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """One file to submit.

    Attributes:
        name: of the file, such as ``picas.sh``.
        text: its content.
        pilots: how many it starts.
        companions: files that it names, by their names, with their content.
        files: other files and folders that it names by the last part of their path; they are linked beside it.
        inside: whether the command that submits it is run in its folder, where it then finds what it names.
        most_bytes: how much the companions and files may be, compressed; None for any amount.
    """

    name: str
    text: str
    pilots: int
    companions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    inside: bool = False
    most_bytes: int | None = None


class Phase(Enum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"  # as it should
    FAILED = "failed"  # it did not start, or ended otherwise than by itself
    UNKNOWN = "unknown"  # the batch system has forgotten it


@dataclass(frozen=True)
class JobStatus:
    """One job, or one element of an array.

    Attributes:
        id: as the batch system writes it: ``1234_5``.
        phase: how far it is.
        detail: what the batch system says, in its own words: ``PENDING (Priority)``; of a job whose phase is unknown
            why nobody can tell, and nothing if it was forgotten.
        job: the id that was told when it was submitted, where that is another: ``1234``.
    """

    id: str
    phase: Phase
    detail: str = ""
    job: str = ""

    @property
    def submitted_as(self) -> str:
        """The id that was told when it was submitted."""
        return self.job or self.id


class Launcher(Protocol):
    """One batch system. Nothing in here runs anything or touches a file.

    Attributes:
        name: as in ``picas submit NAME``.
        submits: the command without which it cannot be used, such as ``sbatch``.
        forgiven: exit codes by which its commands for status and cancelling say that they do not know some of the
            jobs any more; what they print of the others counts.
    """

    name: str
    submits: str
    forgiven: tuple[int, ...]

    def template(self) -> str:
        """Our own template of the script, for people who want one of theirs; see `picas.launchers.filling`."""
        ...

    def limit_argv(self) -> list[str]:
        """The command that says how large an array may be; empty where there is none."""
        ...

    def parse_limit(self, printed: str) -> int | None:
        """How many elements an array may have, by what it said; None if it does not say."""
        ...

    def scripts(
        self, request: Request, template: str | None = None, limit: int | None = None
    ) -> list[Script]:
        """The fewest files that start all the pilots: one, unless the site's arrays are too small for that.

        Args:
            template: a template of the user's in place of our own.
            limit: the largest array that this site allows; None if nobody knows.

        Raises:
            InvalidInput: the template has a mistake, or this system cannot give what is asked for.
        """
        ...

    def submit_argv(self, script: str) -> list[str]:
        """The command that submits a script that is at this path."""
        ...

    def parse_submitted(self, printed: str) -> list[str]:
        """The ids of the jobs that this command says it has submitted; of an array the array's one.

        Raises:
            LaunchError: it says nothing that can be understood.
        """
        ...

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """The command that says how far these jobs are."""
        ...

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """What it said, one for each job or element that it names, and UNKNOWN for ids of which it says nothing."""
        ...

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """The command that cancels these jobs, whole arrays at once."""
        ...


class Unlimited:
    """For batch systems of which no command says how many pilots are too many."""

    def limit_argv(self) -> list[str]:
        """Nothing is asked."""
        return []

    def parse_limit(self, printed: str) -> int | None:
        """Nobody knows."""
        return None


def sizes(pilots: int, most: int) -> list[int]:
    """How many pilots each array gets: as few arrays as it takes, of so many pilots at the most."""
    return [min(most, pilots - first) for first in range(0, pilots, most)]


def script_name(name: str, ending: str, number: int, count: int) -> str:
    """What one of so many scripts is called, counted from 1; there is no number where there is one alone."""
    return f"{name}.{ending}" if count == 1 else f"{name}-{number}.{ending}"


def told_id(pattern: re.Pattern[str], printed: str, command: str, look: str) -> re.Match[str]:
    """Where a command that submits tells the job's id, in what it printed.

    Args:
        look: where people find the job otherwise, such as ``with squeue``.

    Raises:
        LaunchError: it does not tell it.
    """
    found = pattern.search(printed)
    if found is None:
        raise LaunchError(
            f"{command} tells no job's id, but: {printed.strip() or 'nothing'}",
            f"Look {look} whether there is a job.",
        )
    return found
