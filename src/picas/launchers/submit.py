"""Submit pilots to a batch system, ask how far they are, cancel them; all of it noted in a `picas.launchers.book.Book`."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, LaunchError
from picas.launchers import sandbox
from picas.launchers.base import Phase
from picas.launchers.execute import ANSWER_SECONDS, NotHeard, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from picas.launchers.base import JobStatus, Launcher, Request, Script
    from picas.launchers.book import Book, Job

LAUNCHERS = {
    "slurm": "picas.launchers.slurm:Slurm",
    "dirac": "picas.launchers.dirac:Dirac",
    "htcondor": "picas.launchers.htcondor:HTCondor",
    "pbs": "picas.launchers.pbs:PBS",
    "torque": "picas.launchers.pbs:Torque",
    "ssh": "picas.launchers.ssh:SSH",
    "local": "picas.launchers.local:Local",
}
"""Each batch system's name, and where its launcher is; loaded when it is used."""

GRACE_SECONDS = 300.0
"""A job that the batch system does not know is over, but not this soon after it was submitted: some tell late."""

UNANSWERED_SECONDS = 3600.0
"""So long a submission that got no answer is taken for one that was heard."""


def load(name: str) -> Launcher:
    """The launcher of this name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in LAUNCHERS:
        raise InvalidInput(f"there is no batch system '{name}'", f"There are: {', '.join(LAUNCHERS)}.")
    module, _, found = LAUNCHERS[name].partition(":")
    launcher: Launcher = getattr(import_module(module), found)()
    return launcher


def scripts(
    launcher: Launcher, request: Request, template: str | None = None, *, seconds: float = ANSWER_SECONDS
) -> list[Script]:
    """What would be submitted. The batch system is asked for its largest array; one that cannot tell is no error here.

    Raises:
        InvalidInput: the template has a mistake, or this system cannot give what is asked for.
    """
    limit = request.most_elements
    asking = launcher.limit_argv()
    if limit is None and asking and (request.pilots > 1 or request.array):
        try:
            limit = launcher.parse_limit(execute(asking, seconds=seconds))
        except LaunchError:  # to submit will tell what is wrong, if anything is
            limit = None
    return launcher.scripts(request, template, limit)


def submit(
    launcher: Launcher,
    request: Request,
    book: Book,
    template: str | None = None,
    *,
    profile: str = "",
    seconds: float = ANSWER_SECONDS,
) -> list[Job]:
    """Submit pilots; the jobs, each noted before anything else is done.

    Args:
        template: a template of the user's in place of our own.
        profile: for what kind of pilots, in the words of autopilot.
        seconds: how long the batch system may take for each answer.

    Raises:
        InvalidInput: the template has a mistake, or this system cannot give what is asked for. Nothing was submitted.
        LaunchError: it refuses, or does not answer; the message has what it said and the script's path. Of several
            scripts those before may have been submitted, which the message tells.
    """
    done: list[Job] = []
    found = scripts(launcher, request, template, seconds=seconds)
    for script in found:
        sandbox.check(script)
    try:
        if not all(script.inside for script in found):
            request.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"{request.directory} cannot be made: {error.strerror}", "Choose another --directory."
        ) from error
    for script in found:
        job = book.ask(launcher.name, pilots=script.pilots, name=request.name, profile=profile)
        path = Path(job.script) / script.name
        try:
            _write(path, script)
            inside = path.parent if script.inside else request.directory
            printed = execute(launcher.submit_argv(str(path)), directory=inside, seconds=seconds)
        except LaunchError as error:
            if not isinstance(error, NotHeard):
                book.refused(job)
            raise _with_place(error, path, done) from error
        try:
            ids = launcher.parse_submitted(printed)
        except LaunchError as error:
            if error.submitted:
                book.submitted(job, error.submitted, str(path))
            raise _with_place(error, path, done) from error
        try:
            done.append(book.submitted(job, ids, str(path)))
        except LaunchError as error:
            told = LaunchError(
                f"{' '.join(ids)} was submitted, but could not be noted: {error.message}",
                "picas submit status will not know of it.",
                ids,
            )
            raise _with_place(told, path, done) from error
    return done


def _write(path: Path, script: Script) -> None:
    try:
        for name, content in {script.name: script.text, **script.companions}.items():
            each = path.with_name(name)
            each.write_text(content, "utf-8")
            each.chmod(0o700 if content.startswith("#!") else 0o600)
        for file in script.files:
            path.with_name(file.name).symlink_to(file.absolute())
    except OSError as error:
        raise LaunchError(f"{path} cannot be written: {error.strerror}") from error


def _with_place(error: LaunchError, path: Path, done: Sequence[Job]) -> LaunchError:
    """The error with what else there is to know: where the script is, and what was submitted before it."""
    ids = [each for job in done for each in job.ids]
    advice = f"{error.advice or 'No token was touched.'} The script is {path}."
    if done:
        pilots = sum(job.pilots for job in done)
        advice += f" Before it, {pilots} pilots were submitted: {' '.join(ids)}; picas submit cancel."
    return type(error)(error.message, advice, [*ids, *error.submitted])


# --- How far they are --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """How far one job is.

    Attributes:
        job: as it is in the book now.
        counts: of its pilots in each phase; those of which the batch system no longer says anything have ended.
        details: what it says, in its own words, with how many pilots it says it of.
    """

    job: Job
    counts: dict[Phase, int] = field(default_factory=dict)
    details: dict[str, int] = field(default_factory=dict)

    @property
    def alive(self) -> int:
        """Pilots that wait or work, or may do so."""
        return sum(self.counts.get(phase, 0) for phase in (Phase.QUEUED, Phase.RUNNING, Phase.UNKNOWN))


def status(
    book: Book,
    *,
    seconds: float = ANSWER_SECONDS,
    on_problem: Callable[[LaunchError], None] | None = None,
) -> list[Progress]:
    """How far the jobs are that may still have pilots; those that turn out to be over are noted as ended.

    Args:
        on_problem: gets the errors of batch systems that do not answer; the others are asked all the same.

    Raises:
        LaunchError: a batch system does not answer, and there is no `on_problem`.
    """
    found: list[Progress] = []
    jobs = book.jobs()
    for name in dict.fromkeys(job.launcher for job in jobs):
        of_launcher = [job for job in jobs if job.launcher == name]
        try:
            by_id = _ask(load(name), [each for job in of_launcher for each in job.ids], seconds)
        except LaunchError as error:
            if on_problem is None:
                raise
            on_problem(error)
            found += [
                Progress(job, {Phase.UNKNOWN: job.pilots}) for job in of_launcher
            ]  # none is taken for ended
        else:
            for job in of_launcher:
                told = [each for id_ in job.ids for each in by_id.get(id_, ())]
                found.append(_noted(book, judge(job, told, time.time())))
    return sorted(found, key=lambda each: each.job.asked)


def _ask(launcher: Launcher, ids: Sequence[str], seconds: float) -> dict[str, list[JobStatus]]:
    """What a batch system says, under the ids that were told when the jobs were submitted."""
    by_id: dict[str, list[JobStatus]] = {}
    if ids:
        printed = execute(launcher.status_argv(ids), seconds=seconds, forgiven=launcher.forgiven)
        for each in launcher.parse_status(printed, ids):
            by_id.setdefault(each.submitted_as, []).append(each)
    return by_id


def _noted(book: Book, progress: Progress) -> Progress:
    if progress.alive:
        return progress
    outcome = ", ".join(f"{count} {detail}" for detail, count in progress.details.items())
    with contextlib.suppress(LaunchError):  # then it is asked about once more
        return replace(progress, job=book.ended(progress.job, outcome))
    return progress


def judge(job: Job, told: Sequence[JobStatus], now: float) -> Progress:
    """How far a job is by what the batch system said of its parts.

    Args:
        now: Unix seconds.
    """
    young = now - job.asked < (GRACE_SECONDS if job.ids else UNANSWERED_SECONDS)
    counts: Counter[Phase] = Counter(each.phase for each in told if each.phase is not Phase.UNKNOWN)
    details = Counter(each.detail for each in told if each.detail)
    silent = job.pilots - sum(counts.values())
    if silent > 0:
        nobody_can_tell = any(each.phase is Phase.UNKNOWN and each.detail for each in told)
        unknown = nobody_can_tell or (young and not counts)
        counts[Phase.UNKNOWN if unknown else Phase.ENDED] += silent
    return Progress(job, dict(counts), dict(details))


def cancel(book: Book, ids: Sequence[str] = (), *, seconds: float = ANSWER_SECONDS) -> list[Job]:
    """Cancel jobs; those that were.

    Args:
        ids: which; all that may still have pilots if none is named. An element of an array, ``1234_5``, is one too.

    Raises:
        InvalidInput: nothing is known of an id.
        LaunchError: the batch system refuses, or does not answer.
    """
    jobs = book.jobs()
    chosen: dict[str, list[str]] = {}
    touched: list[Job] = []
    for wanted in ids or [each for job in jobs for each in job.ids]:
        job = next((job for job in jobs if _is_of(wanted, job)), None)
        if job is None:
            raise InvalidInput(
                f"no job {wanted} of this pool is known here", "picas submit status lists them."
            )
        chosen.setdefault(job.launcher, []).append(wanted)
        if job not in touched:
            touched.append(job)
    for name, of_launcher in chosen.items():
        launcher = load(name)
        execute(launcher.cancel_argv(of_launcher), seconds=seconds, forgiven=launcher.forgiven)
    return touched


def _is_of(wanted: str, job: Job) -> bool:
    whole = re.sub(r"\[\d+\]", "[]", wanted)  # of PBS: 12[3].server is an element of 12[].server
    return whole in job.ids or any(wanted.startswith((f"{each}_", f"{each}.")) for each in job.ids)
