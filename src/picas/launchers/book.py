"""The jobs that were submitted from this account, so that they can be asked about and cancelled: one file per pool.

``<state directory>/jobs/<pool>/book.jsonl`` has a line for each thing that happened to a submission, written through to
the disk before anything goes on: ``asked`` before the batch system is asked, then ``submitted`` with the ids that it
told, or ``refused``; ``ended`` once it says that nothing of it is left. So a submission of which nobody knows whether it was
heard, because something died in between, is seen as well. The scripts are kept beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from picas.errors import LaunchError
from picas.settings.credentials import without_login
from picas.settings.places import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

KEPT_SECONDS = 30 * 86_400.0
"""How long a submission that is over stays in the book, with its scripts."""

TIDY_LINES = 1000
"""From so many lines on what is too old is left out, when something is written."""


@dataclass(frozen=True)
class Job:
    """One script that was submitted.

    Attributes:
        key: its name in the book.
        launcher: the batch system, as in ``picas submit NAME``.
        ids: what the batch system calls it; empty while, or because, it has not told.
        pilots: how many it starts.
        name: what the job is called.
        profile: for what kind of pilots autopilot submitted it.
        script: the path of the script.
        asked: when, in Unix seconds.
        ended: when nothing of it was left; None before that.
        outcome: the batch system's last words of it.
    """

    key: str
    launcher: str
    pilots: int
    name: str
    profile: str
    script: str
    asked: float
    ids: tuple[str, ...] = ()
    ended: float | None = None
    outcome: str = ""


class Book:
    """The jobs of one pool. Any number of processes may write at a time.

    Args:
        pool_url: the pool; without a login in it.
        root: the directory of all books; that of this user if not given.
    """

    def __init__(self, pool_url: str, root: Path | None = None) -> None:
        url = without_login(pool_url)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", url).strip("-")[-60:]
        folder = f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self.directory = (default_root() if root is None else root) / folder
        self.path = self.directory / "book.jsonl"

    # --- Reading ---

    def jobs(self, *, ended: bool = False) -> list[Job]:
        """Those that may still have pilots, in the order of their submission.

        Args:
            ended: also those that are over.

        Raises:
            LaunchError: the book cannot be read.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _trouble(self.path, "read", error) from error
        return [job for job in _told(lines) if ended or job.ended is None]

    # --- Writing ---

    def ask(self, launcher: str, *, pilots: int, name: str, profile: str = "") -> Job:
        """Note that a batch system is about to be asked for pilots. `Job.script` is the folder for what is submitted.

        Raises:
            LaunchError: the book cannot be written; nothing must be submitted then.
        """
        asked = time.time()
        key = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(asked))}-{os.urandom(3).hex()}"
        folder = self.directory / key
        job = Job(key, launcher, pilots, name, profile, str(folder), asked)
        facts = {
            "launcher": launcher,
            "pilots": pilots,
            "name": name,
            "profile": profile,
            "script": job.script,
        }
        self._write({"event": "asked", "key": key, "at": asked, **facts})
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            self.refused(job)
            raise _trouble(folder, "made", error) from error
        return job

    def submitted(self, job: Job, ids: Sequence[str], script: str) -> Job:
        """Note what the batch system told."""
        self._write(
            {"event": "submitted", "key": job.key, "at": time.time(), "ids": list(ids), "script": script}
        )
        return replace(job, ids=tuple(ids), script=script)

    def refused(self, job: Job) -> None:
        """Note that it was certainly not submitted."""
        self._write({"event": "refused", "key": job.key, "at": time.time()})

    def ended(self, job: Job, outcome: str) -> Job:
        """Note that nothing of it is left."""
        at = time.time()
        self._write({"event": "ended", "key": job.key, "at": at, "outcome": outcome})
        return replace(job, ended=at, outcome=outcome)

    def _write(self, event: dict[str, Any]) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                self._tidy()
                whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
                with self.path.open("ab") as file:
                    # what a crash has left half-written becomes a line that means nothing
                    file.write((b"" if whole else b"\n") + json.dumps(event).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise _trouble(self.path, "written", error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("ab") as lock:
            # Where the file system knows no locks, an append is still whole, and tidying is rare.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _tidy(self) -> None:
        """Leave out what ended long ago, and what was refused; with its scripts."""
        if not self.path.exists():
            return
        lines = self.path.read_bytes().splitlines()
        if len(lines) < TIDY_LINES:
            return
        before = time.time() - KEPT_SECONDS
        known = {job.key for job in _told(lines) if job.ended is None or job.ended > before}
        kept = [line for line in lines if _event(line).get("key") in known]
        if len(kept) == len(lines):
            return
        new = self.path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(b"".join(line + b"\n" for line in kept))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        for folder in self.directory.iterdir():
            if folder.is_dir() and folder.name not in known and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)


def default_root() -> Path:
    """Where the books are: in the user's state directory."""
    return state_dir() / "jobs"


def _told(lines: Sequence[bytes]) -> list[Job]:
    """The jobs that these lines tell of; a line that nobody understands is as good as none."""
    jobs: dict[str, Job] = {}
    for line in lines:
        event = _event(line)
        key, kind = str(event.get("key", "")), event.get("event")
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if kind == "asked":
                jobs[key] = Job(
                    key,
                    launcher=str(event["launcher"]),
                    pilots=int(event["pilots"]),
                    name=str(event["name"]),
                    profile=str(event["profile"]),
                    script=str(event["script"]),
                    asked=float(event["at"]),
                )
            elif kind == "refused":
                jobs.pop(key, None)
            elif kind == "submitted":
                ids = tuple(map(str, event["ids"]))
                jobs[key] = replace(jobs[key], ids=ids, script=str(event["script"]))
            elif kind == "ended":
                jobs[key] = replace(jobs[key], ended=float(event["at"]), outcome=str(event["outcome"]))
    return list(jobs.values())


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _trouble(path: Path, what: str, error: OSError) -> LaunchError:
    return LaunchError(
        f"{path} cannot be {what}: {error.strerror}",
        "Jobs are noted there before they are submitted; nothing was.",
    )
