"""The one place that runs the commands of batch systems."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

from picas.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

ANSWER_SECONDS = 60.0
"""How long a batch system may take to answer; a busy one takes its time, one that is down takes for ever."""

_OF_THIS_JOB = (
    "SLURM_ARRAY_",
    "SLURM_JOB",
    "SLURM_CPUS_",
    "SLURM_MEM_",
    "SLURM_TASKS_",
    "SLURM_NTASKS",
    "SBATCH_ARRAY",
)
"""Variables that tell of the batch job in which we run ourselves; a job that sbatch submits from it would inherit them."""


class NotHeard(LaunchError):
    """A batch system did not answer: nobody knows whether it has heard."""


def execute(
    argv: Sequence[str],
    *,
    directory: Path | None = None,
    seconds: float = ANSWER_SECONDS,
    given: str = "",
    forgiven: Collection[int] = (),
) -> str:
    """What a command prints.

    Args:
        directory: where it is run.
        seconds: how long it may take.
        given: what it reads from its standard input.
        forgiven: exit codes that are as good as 0.

    Raises:
        LaunchError: there is no such command, it takes too long, or it ends with another exit code; what it
            printed is in the message, whole.
    """
    shown = shlex.join(argv)
    if directory is not None and not directory.is_dir():
        raise LaunchError(f"{shown} cannot be run in {directory}: there is no such directory")
    try:
        code, printed, complained = _run(argv, given.encode(), seconds, directory)
    except FileNotFoundError:
        raise LaunchError(
            f"there is no command '{argv[0]}' on this machine",
            "Is this a machine from which jobs are submitted? Nothing was; no token was touched.",
        ) from None
    except subprocess.TimeoutExpired as error:
        said = _text(error.stderr) or _text(error.stdout)
        raise NotHeard(
            f"{shown} did not answer within {seconds:g} s" + (f": {said}" if said else ""),
            "It may have been heard nevertheless: ask the batch system before you try again.",
        ) from None
    except OSError as error:
        raise LaunchError(f"{shown} cannot be run: {error.strerror}") from error
    if code != 0 and code not in forgiven:
        # DIRAC tells on the one what was wrong, and of other things on the other
        parts = [_text(printed), _text(complained)]
        said = "\n".join(part for part in parts if part) or "it printed nothing"
        raise LaunchError(f"{shown} ended with exit code {code}:\n{said}")
    return printed.decode("utf-8", "replace")


def _run(
    argv: Sequence[str], given: bytes, seconds: float, directory: Path | None
) -> tuple[int, bytes, bytes]:
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env={**_environment(argv[0]), "LC_ALL": "C"},
        start_new_session=True,
    ) as process:
        try:
            printed, complained = process.communicate(given, timeout=seconds)
        except BaseException:  # too late, or somebody's Ctrl-C: with all that it has started
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, printed, complained


def _environment(program: str) -> dict[str, str]:
    if program != "sbatch":  # pilots that go into the background of this job are part of it
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_THIS_JOB)}


def _text(printed: bytes | None) -> str:
    return (printed or b"").decode("utf-8", "replace").strip()
