"""Which pilots there are, and how those before them began.

What is remembered from look to look is kept in the pool, beside the right to look after it, so that it makes no
difference on which machine the next look is made.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from picas.jobid import JOB_ID_FIELDS
from picas.launchers.base import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from picas.launchers.submit import Progress
    from picas.stores.base import PilotRecord
    from picas.tokens import Token

MOST_JOBS = 20
"""Jobs of one kind of pilots of which is remembered how they began."""

MOST_WHY = 500
"""Characters that are kept of what a batch system said."""

BEGUN_SECONDS = 120.0
"""A pilot that has run for so long has begun well, even if nothing has been heard of it."""

SKEW_SECONDS = 300.0
"""A token that ended so long before a pilot was asked for may be that pilot's: clocks of machines differ."""

TOOK_NOTHING = "they ended without taking one of the tokens that wait for them"


@dataclass(frozen=True)
class Failing:
    """Starts of one kind of pilots that failed, with none in between that did not.

    Attributes:
        count: pilots.
        at: when that of the last one was seen, Unix seconds.
        why: what the batch system said of it.
    """

    count: int = 0
    at: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Standing:
    """Which pilots there are.

    Attributes:
        queued, running: by kind.
        others_queued, others_running: pilots that were submitted by hand, and of kinds that are offered no more.
        started: within the last hour.
        failing: by kind, for those of which starts failed.
    """

    queued: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
    others_queued: int = 0
    others_running: int = 0
    started: int = 0
    failing: Mapping[str, Failing] = field(default_factory=dict)

    @property
    def all_queued(self) -> int:
        """Pilots that wait for a machine."""
        return sum(self.queued.values()) + self.others_queued

    @property
    def alive(self) -> int:
        """Pilots that wait for a machine, or run."""
        return self.all_queued + sum(self.running.values()) + self.others_running


def standing(
    names: Iterable[str], found: Iterable[Progress], started: int, record: Mapping[str, Any]
) -> Standing:
    """How things stand.

    Args:
        names: of the kinds that are offered.
        found: what batch systems say.
        started: pilots that were started within the last hour.
        record: what is remembered.
    """
    known = list(names)
    queued: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for each in found:
        name = each.job.profile if each.job.profile in known else ""
        queued[name] += each.counts.get(Phase.QUEUED, 0) + each.counts.get(Phase.UNKNOWN, 0)
        running[name] += each.counts.get(Phase.RUNNING, 0)
    others = queued.pop("", 0), running.pop("", 0)
    failing = {name: failures for name in known if (failures := failing_of(record, name)).count}
    return Standing(dict(queued), dict(running), *others, started, failing)


def seen_at_work(pilots: Iterable[PilotRecord], latest: Iterable[Token]) -> set[str]:
    """Ids of batch jobs whose pilots have been heard of: by what they say of themselves, or by what they finished."""
    told = [record.fields.get("jobs") for record in pilots]
    found = [job_id for jobs in told if isinstance(jobs, dict) for job_id in jobs.values()]
    found += [token.get(name) for token in latest for name in JOB_ID_FIELDS]
    return {job_id for job_id in found if isinstance(job_id, str) and job_id}


def updated(
    record: Mapping[str, Any],
    found: Iterable[Progress],
    seen: set[str],
    now: float,
    untouched: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What is to be remembered after a look.

    Args:
        seen: see `seen_at_work`.
        now: Unix seconds.
        untouched: for each kind of which tokens wait and none runs, when the last one ended; 0 for never.
    """
    kinds = _kinds(record)
    for each in found:
        if not each.job.profile:
            continue
        jobs = kinds.setdefault(each.job.profile, {})
        job = {**_job(each.job.asked), **jobs.get(each.job.key, {})}
        if each.counts.get(Phase.RUNNING) and not job["since"]:
            job["since"] = now
        has_run = job["since"] and now - job["since"] >= BEGUN_SECONDS
        if has_run or any(_is_of(one, each.job.ids) for one in seen):
            job["begun"] = True
        failed = each.counts.get(Phase.FAILED, 0)
        if failed > job["failed"]:
            job.update(failed=failed, seen=now, why=", ".join(each.details)[:MOST_WHY])
        last_end = (untouched or {}).get(each.job.profile)
        if not (each.alive or failed) and last_end is not None and last_end < job["at"] - SKEW_SECONDS:
            job.update(idle=each.job.pilots, seen=now, why=TOOK_NOTHING)
        jobs[each.job.key] = job
    return _pruned(kinds)


def refused(record: Mapping[str, Any], name: str, why: str, now: float) -> dict[str, Any]:
    """What is to be remembered after a batch system has refused to start pilots of this kind."""
    kinds = _kinds(record)
    job = {**_job(now), "failed": 1, "seen": now, "why": why[:MOST_WHY]}
    kinds.setdefault(name, {})[f"refused-{now:.3f}"] = job
    return _pruned(kinds)


def failing_of(record: Mapping[str, Any], name: str) -> Failing:
    """The starts of this kind that failed since the last one that did not."""
    count, at, why = 0, 0.0, ""
    jobs = _kinds(record).get(name, {}).values()
    for job in sorted(jobs, key=lambda job: float(job["at"]), reverse=True):
        if job["begun"] and not job["idle"]:
            break
        count += job["idle"] or job["failed"]
        if job["seen"] > at:
            at, why = job["seen"], job["why"]
    return Failing(count, at, why)


def _job(at: float) -> dict[str, Any]:
    """What is remembered of a job.

    When it was asked for, since when it was seen to run, whether its pilots have begun well, how many have failed, how
    many have done nothing though there was work, when that was seen, and why.
    """
    return {"at": at, "since": 0.0, "begun": False, "failed": 0, "idle": 0, "seen": 0.0, "why": ""}


def _kinds(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = record.get("profiles")
    return {name: dict(jobs) for name, jobs in found.items()} if isinstance(found, dict) else {}


def _pruned(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    newest = {
        name: dict(sorted(jobs.items(), key=lambda item: float(item[1]["at"]))[-MOST_JOBS:])
        for name, jobs in kinds.items()
    }
    return {"profiles": newest}


def _is_of(seen: str, ids: Iterable[str]) -> bool:
    return any(seen == each or seen.startswith((f"{each}_", f"{each}.")) for each in ids)
