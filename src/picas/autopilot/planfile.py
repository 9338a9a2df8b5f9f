"""Reading ``autopilot.toml``: a table for each kind of pilots, and limits above them.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from picas.autopilot.profiles import MAX_FAILURES, MAX_PILOTS, WORK_PER_PILOT, Limits, Plan, Profile, listed
from picas.errors import ConfigError, InvalidInput, SelectionError
from picas.pilot.ending import LEAVE_OF_WARNING, LEAVE_SECONDS, LEAVE_SHARE
from picas.selection import Selection
from picas.settings import config
from picas.walltime import parse_notice

if TYPE_CHECKING:
    from collections.abc import Mapping

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

_NOT_RUN = {
    "--where": "Write it as a setting of the profile: where = '…'.",
    "--pool": "It is said where autopilot is started.",
    "--wait": "Pilots have to leave when nothing is left; more are started when there is more.",
}
"""Options of ``picas run`` that are not for people here, and what to do."""

_TOP = ("max-pilots", "max-queued", "per-hour", "work-per-pilot", "token-time", "max-failures", "profiles")


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
    walltime = get("time", _seconds)
    work_per_pilot = get("work-per-pilot", _seconds)
    return Profile(
        name,
        launcher,
        _options(path, name, table),
        get("cores", _count) or 1,
        get("gpus", _number) or 0,
        get("memory", _size),
        walltime,
        _reserved(walltime, get("signal", _notice)),
        get("where", _where),
        _run(path, name, get("run", _words) or ()),
        get("command", _words) or (),
        get("max-pilots", _count),
        get("max-queued", _count),
        WORK_PER_PILOT if work_per_pilot is None else work_per_pilot,
        get("token-time", _seconds),
    )


def _options(path: Path, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``picas submit`` in a profile's table."""
    options = {key: value for key, value in table.items() if key not in _OWN}
    for key, value in options.items():
        if key in _NOT_HERE:
            raise ConfigError(f"{path}: 'profiles.{name}.{key}' is not for this file")
        if not all(isinstance(each, (str, int, float)) for each in listed(value)):
            raise ConfigError(
                f"{path}: 'profiles.{name}.{key}' must be text, a number, true or false, or a list"
            )
    for key in _PATHS:
        if key in options or key == "directory":
            given = options.get(key, ".")
            paths = [path.absolute().parent / Path(str(each)).expanduser() for each in listed(given)]
            options[key] = [str(each) for each in paths] if isinstance(given, list) else str(paths[0])
    return options


def _run(path: Path, name: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """The options of ``picas run`` in a profile's table."""
    for word in words:
        option = word.partition("=")[0]
        if option in _NOT_RUN:
            raise ConfigError(f"{path}: 'profiles.{name}.run' has {word}", _NOT_RUN[option])
    return words


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
