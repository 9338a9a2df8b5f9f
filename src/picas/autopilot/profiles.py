"""What pilots people offer: ``autopilot.toml``, a table for each kind, and limits above them.

::

    max-pilots = 100              # queued and running, of all kinds
    max-queued = 20
    per-hour = 200

    [profiles.SingleCore]
    launcher = "slurm"            # as in picas submit
    cores = 1
    time = "4h"
    partition = "normal"

    [profiles.MultiCore]
    launcher = "slurm"
    cores = 8
    memory = "32GB"
    time = "2d"
    where = 'site != "a"'         # none but such tokens
    run = ["--max-scrub", "2"]    # options of picas run
    command = ["./fit", "{input}"]

What is not named in `_OWN` is an option of ``picas submit LAUNCHER``, without the dashes. A token is for the first kind
that has what it needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from picas import config
from picas.autopilot.needs import FIELDS, body_of, need_of
from picas.ending import LEAVE_OF_WARNING, LEAVE_SECONDS, LEAVE_SHARE
from picas.errors import ConfigError, InvalidInput, SelectionError
from picas.selection import Selection, fields_of
from picas.walltime import parse_notice

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from picas.autopilot.needs import Need

MAX_PILOTS = 100
"""Pilots at a time if the file does not say."""

WORK_PER_PILOT = 900.0
"""Seconds of work that a pilot is started for if the file does not say: to start one takes a site a minute or more."""

MAX_FAILURES = 3
"""Starts in a row that fail before no more are made, if the file does not say."""

START_SHARE = 0.02
"""So much of its time, `START_SECONDS` at the most, may pass before a pilot has begun with its first token."""

START_SECONDS = 60.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,60}")

_OWN = ("launcher", "where", "run", "command", "max-pilots", "max-queued", "work-per-pilot", "token-time")
"""Settings of a kind of pilots that are not options of ``picas submit``."""

_PATHS = ("directory", "template", "venv", "bundle", "file")
"""Options that are paths: from the file's folder."""

_NOT_HERE = ("pilots", "array", "dry-run", "json", "pool", "profile", "help")
"""Options of ``picas submit`` that are not for people here."""

_TOP = ("max-pilots", "max-queued", "per-hour", "work-per-pilot", "token-time", "max-failures", "profiles")


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
            for each in _listed(value)
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


# --- The file ----------------------------------------------------------------------------------------


def read(path: Path) -> Plan:
    """The plan in a file.

    Raises:
        ConfigError: it cannot be read, or something in it means nothing; the message says where.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", "Give the file's name: picas autopilot FILE."
        ) from error
    return parse(path, text)


def parse(path: Path, text: str) -> Plan:
    """The plan that a file's text describes.

    Args:
        path: the file, for messages; paths in it are from its folder.

    Raises:
        ConfigError: as of `read`.
    """
    table = config.parse(path, text)
    for name in table:
        if name not in _TOP:
            raise ConfigError(f"{path}: there is no setting '{name}'", f"There are: {', '.join(_TOP)}.")
    tables = table.get("profiles")
    if not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{path} offers no pilots", "Write a table for each kind: [profiles.SingleCore].")
    get = _Getter(path, "", table)
    limits = Limits(
        get("max-pilots", _count) or MAX_PILOTS,
        get("max-queued", _count),
        get("per-hour", _count),
        get("max-failures", _count) or MAX_FAILURES,
    )
    common: dict[str, Any] = {name: table[name] for name in ("work-per-pilot", "token-time") if name in table}
    return Plan(tuple(_profile(path, name, each, common) for name, each in tables.items()), limits)


def _profile(path: Path, name: str, table: object, common: Mapping[str, Any]) -> Profile:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{path}: '{name}' is no name for a profile", "Use letters, digits and . _ + -")
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: 'profiles.{name}' must be a table", f"Write [profiles.{name}].")
    get = _Getter(path, f"profiles.{name}.", {**common, **table})
    launcher = get("launcher", _text)
    if launcher is None:
        raise ConfigError(
            f"{path}: 'profiles.{name}.launcher' is missing", 'Write for example: launcher = "slurm"'
        )
    options = {key: value for key, value in table.items() if key not in _OWN}
    for key, value in options.items():
        if key in _NOT_HERE:
            raise ConfigError(f"{path}: 'profiles.{name}.{key}' is not for this file")
        if not all(isinstance(each, (str, int, float)) for each in _listed(value)):
            raise ConfigError(
                f"{path}: 'profiles.{name}.{key}' must be text, a number, true or false, or a list"
            )
    for key in _PATHS:
        if key in options or key == "directory":
            given = options.get(key, ".")
            paths = [path.absolute().parent / Path(str(each)).expanduser() for each in _listed(given)]
            options[key] = [str(each) for each in paths] if isinstance(given, list) else str(paths[0])
    walltime = get("time", _seconds)
    run = get("run", _words) or ()
    if any(word.split("=")[0] in ("--where", "--pool") for word in run):
        raise ConfigError(f"{path}: 'profiles.{name}.run' has --where or --pool", "Write: where = '…'")
    work_per_pilot = get("work-per-pilot", _seconds)
    return Profile(
        name,
        launcher,
        options,
        get("cores", _count) or 1,
        get("gpus", _number) or 0,
        get("memory", _size),
        walltime,
        _reserved(walltime, get("signal", _notice)),
        get("where", _where),
        run,
        get("command", _words) or (),
        get("max-pilots", _count),
        get("max-queued", _count),
        WORK_PER_PILOT if work_per_pilot is None else work_per_pilot,
        get("token-time", _seconds),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _reserved(walltime: float | None, notice: float | None) -> float:
    """What a pilot does not give to tokens, of its time."""
    if walltime is None:
        return 0.0
    end = max(notice, LEAVE_OF_WARNING * notice) if notice else min(LEAVE_SECONDS, LEAVE_SHARE * walltime)
    return min(START_SECONDS, START_SHARE * walltime) + end


class _Getter:
    """Reads settings of one table."""

    def __init__(self, path: Path, place: str, table: Mapping[str, Any]) -> None:
        self._path = path
        self._place = place
        self._table = table

    def __call__(self, name: str, read: Callable[[Any], Any]) -> Any:
        """The setting; None if it is not there."""
        if name not in self._table:
            return None
        try:
            return read(self._table[name])
        except SelectionError as error:
            raise ConfigError(f"{self._path}: '{self._place}{name}': {error.message}", error.advice) from None
        except InvalidInput as error:
            raise ConfigError(
                f"{self._path}: '{self._place}{name}' must be {error.message}, not {self._table[name]!r}",
                error.advice,
            ) from None


def _count(value: Any) -> int:
    return _whole(value, 1)


def _number(value: Any) -> int:
    return _whole(value, 0)


def _whole(value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise InvalidInput(f"a whole number of at least {least}")
    return value


def _seconds(value: Any) -> float:
    if type(value) in (int, float) and value > 0:
        return float(value)
    if isinstance(value, str):
        try:
            seconds = config.parse_duration(value)
        except InvalidInput:
            seconds = 0.0
        if seconds > 0:
            return seconds
    raise InvalidInput("a time such as '2h'")


def _size(value: Any) -> int:
    if type(value) is int and value > 0:
        return value
    if isinstance(value, str):
        try:
            return config.parse_size(value)
        except InvalidInput:
            pass
    raise InvalidInput("a size such as '8GB'")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput("text")
    return value


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidInput("a list of strings")
    return tuple(value)


def _where(value: Any) -> Selection:
    return Selection.parse(_text(value))


def _notice(value: Any) -> float:
    try:
        return parse_notice(_text(value)).seconds
    except InvalidInput:
        raise InvalidInput("a signal and a time such as 'USR1@120'") from None


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
