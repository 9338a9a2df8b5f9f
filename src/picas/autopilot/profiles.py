"""What pilots people offer, and which tokens are for which of them. See `picas.autopilot.planfile` for how they say it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from picas.autopilot.needs import FIELDS, body_of, need_of
from picas.selection import fields_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from picas.autopilot.needs import Need
    from picas.selection import Selection

MAX_PILOTS = 100
"""Pilots at a time if the file does not say."""

WORK_PER_PILOT = 900.0
"""Seconds of work that a pilot is started for if the file does not say: to start one takes a site a minute or more."""

MAX_FAILURES = 3
"""Starts in a row that fail before no more are made, if the file does not say."""


@dataclass(frozen=True)
class Limits:
    """What is not to be exceeded, whatever waits; None for no limit.

    Attributes:
        pilots: queued and running at a time.
        queued: at a time.
        per_hour: started within an hour.
        failures: starts in a row that fail.
    """

    pilots: int = MAX_PILOTS
    queued: int | None = None
    per_hour: int | None = None
    failures: int = MAX_FAILURES


@dataclass(frozen=True)
class Profile:
    """One kind of pilots.

    Attributes:
        name: for people, and what its jobs are called.
        launcher: the batch system, as in ``picas submit NAME``.
        options: of ``picas submit``, by name.
        cores, gpus: for each pilot.
        memory: bytes for each pilot; None for any amount.
        walltime: seconds for each pilot; None for any time.
        reserved: of these, what is not for tokens: to begin, and to bring results home.
        where: which tokens it is for, beside those that need no more than it has.
        run: options of ``picas run``.
        command: what the pilots run; empty for each token's own input.
        max_pilots, max_queued: of this kind at a time; None for no limit of its own.
        work_per_pilot: for so many seconds of work a pilot is started.
        token_time: seconds that a token takes, as long as none was measured; None if nobody knows.
    """

    name: str
    launcher: str
    options: Mapping[str, Any] = field(default_factory=dict)
    cores: int = 1
    gpus: int = 0
    memory: int | None = None
    walltime: float | None = None
    reserved: float = 0.0
    where: Selection | None = None
    run: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    max_pilots: int | None = None
    max_queued: int | None = None
    work_per_pilot: float = WORK_PER_PILOT
    token_time: float | None = None

    @property
    def fields(self) -> tuple[tuple[str, ...], ...]:
        """The fields by which it is told whether a token is for it."""
        return tuple(sorted(fields_of(self.where))) if self.where else ()

    def has(self, need: Need) -> bool:
        """Whether a pilot has what a token needs."""
        if need.cores > self.cores or need.gpus > self.gpus:
            return False
        if self.memory is not None and need.memory is not None and need.memory > self._share(need.cores):
            return False
        return (
            self.walltime is None or need.walltime is None or need.walltime <= self.walltime - self.reserved
        )

    def takes(self, token_id: str, body: Mapping[str, Any]) -> bool:
        """Whether a token is for it."""
        return self.has(need_of(body)) and (self.where is None or self.where.matches(token_id, body))

    def _share(self, cores: int) -> float:
        """Bytes for a token of so many cores: a pilot runs as many at a time as it has cores for."""
        assert self.memory is not None
        return self.memory * next(step for step in self._steps() if step >= cores) / self.cores

    def _steps(self) -> list[int]:
        """Numbers of cores of which it is told how much memory goes with them: few, so that it can be read."""
        return sorted(
            {step for step in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128) if step < self.cores} | {self.cores}
        )

    @property
    def taken(self) -> str:
        """The condition for ``picas run --where`` by which a pilot takes the tokens that are for it; it counts cores and time itself."""
        parts = [f"({self.where.text})"] if self.where else []
        parts.append(f"not gpus > {self.gpus}")
        if self.memory is not None:
            for step in self._steps():
                small = "" if step == self.cores else f"not cores > {step} and "
                parts.append(f"not ({small}size(memory) > {int(self._share(step))})")
        return " and ".join(parts)

    def submit_words(self, pilots: int, leave_out: Collection[str] = ()) -> list[str]:
        """The arguments of ``picas submit LAUNCHER`` for so many pilots.

        Args:
            leave_out: options that this batch system does not have.
        """
        given = {"name": f"picas-{self.name}", **self.options}
        words = [
            f"--{name}" if each is True else f"--{name}={each}"
            for name, value in given.items()
            for each in listed(value)
            if name not in leave_out and each is not False
        ]
        words += [f"--profile={self.name}", f"--pilots={pilots}"]
        words += ["--", *self.run, f"--where={self.taken}"]
        return [*words, "--", *self.command] if self.command else words


@dataclass(frozen=True)
class Plan:
    """All that people want of autopilot: the kinds of pilots, in the order in which tokens are offered to them."""

    profiles: tuple[Profile, ...]
    limits: Limits = Limits()

    @property
    def fields(self) -> tuple[tuple[str, ...], ...]:
        """The fields of tokens that matter."""
        more = {path for profile in self.profiles for path in profile.fields}
        return (*FIELDS, *sorted(more - set(FIELDS)))

    def profile_for(self, token_id: str, body: Mapping[str, Any]) -> Profile | None:
        """The kind of pilots that a token is for; None if none has what it needs."""
        return next((profile for profile in self.profiles if profile.takes(token_id, body)), None)

    def profile_of(self, values: Sequence[Any]) -> Profile | None:
        """The same for a token that has these values in `fields`."""
        return self.profile_for(*body_of(self.fields, values))

    def within(self, **limits: int | None) -> Plan:
        """The same plan with some of the limits replaced, by their names in `Limits`."""
        given = {name: value for name, value in limits.items() if value is not None}
        return replace(self, limits=replace(self.limits, **given))


def words_of(need: Need) -> str:
    """What a token needs, for people: ``cores=64 memory=512GB``."""
    return " ".join(_needed(need)) or "nothing in particular"


def _needed(need: Need) -> Iterator[str]:
    yield f"cores={need.cores}"
    if need.gpus:
        yield f"gpus={need.gpus}"
    if need.memory is not None:
        yield f"memory={need.memory / 1e9:.4g}GB"
    if need.walltime is not None:
        yield f"walltime={need.walltime / 3600:.3g}h"


def listed(value: Any) -> list[Any]:
    """The values that an option has: it is given once for each."""
    return value if isinstance(value, list) else [value]
