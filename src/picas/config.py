"""Settings: the configuration file, the environment and the options of a command, joined in that order.

The file is ``config.toml`` in the user's configuration directory (`config_path`)::

    pool = "sqlite:////data/picas.db"

    [run]               # defaults of options of `picas run`, by the option's name
    workers = 4
    task-timeout = "2h"
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from picas.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_POOL = "sqlite:///picas.db"

POOL_VARIABLE = "PICAS_POOL"
"""The environment variable that names the pool."""

ORDERS = ("priority", "oldest", "newest")
"""In which order todo tokens are claimed: highest priority first and the oldest among equals, or by age alone."""

POOL_FORMS = "A pool is sqlite:///relative.db, sqlite:////absolute/path.db, or http(s)://host:port/database."

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhdw]?)", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", re.ASCII)

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES.update({"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40})
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?)b?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Settings:
    """What holds for this invocation.

    Attributes:
        pool: the pool's URL.
        run: defaults of options of `picas run`, under the option's name with ``_`` for ``-``.
    """

    pool: str = DEFAULT_POOL
    run: Mapping[str, Any] = field(default_factory=dict)


def load(
    pool: str | None = None, environ: Mapping[str, str] = os.environ, path: Path | None = None
) -> Settings:
    """The settings: what is given here goes before the environment, that before the configuration file.

    Args:
        pool: the pool's URL as an option gave it; None if it did not.
        path: the configuration file; the user's own by default. It need not exist.

    Raises:
        ConfigError: one of them cannot be used; the message names it.
    """
    file = config_path() if path is None else path
    table = _read(file)
    given = ((pool, "--pool"), (environ.get(POOL_VARIABLE), POOL_VARIABLE), (table.get("pool"), str(file)))
    url, source = next(((value, name) for value, name in given if value), (DEFAULT_POOL, "default"))
    return Settings(check_url(url, source), table.get("run", {}))


def config_path() -> Path:
    """Where the user's configuration file is, if there is one."""
    from platformdirs import user_config_path  # noqa: PLC0415 - start-up: most users have no need of it

    return user_config_path("picas") / "config.toml"


def check_url(url: str, source: str) -> str:
    """The URL of a pool as it is.

    Raises:
        ConfigError: it is no URL; the message names where it came from and the right form.
    """
    if "://" in url:
        return url
    if "." in url or "/" in url:
        path = url.removeprefix("./")
        raise ConfigError(
            f"{source}: '{url}' is not the address of a pool", f"For a file write: sqlite:///{path}"
        )
    raise ConfigError(f"{source}: '{url}' is not the address of a pool", POOL_FORMS)


def parse_duration(text: str) -> float:
    """Seconds: ``90``, ``90s``, ``15m``, ``2h``, ``1.5d``, ``1w``, ``01:30:00`` or ``1-12:00:00``.

    Raises:
        InvalidInput: it is none of these.
    """
    plain = text.strip().lower()
    found = _DURATION.fullmatch(plain)
    if found:
        return float(found[1]) * _SECONDS[found[2]]
    found = _CLOCK.fullmatch(plain)
    if found:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    raise InvalidInput(
        f"'{text}' is not a time", "Write seconds, or for example: 90s, 15m, 2h, 1d, 01:30:00."
    )


def parse_size(text: str) -> int:
    """Bytes: ``5000000``, ``500kB``, ``10MB`` (10⁶ each) or ``16MiB`` (2²⁰ each).

    Raises:
        InvalidInput: it is none of these.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found or found[2].lower() == "i":
        raise InvalidInput(f"'{text}' is not a size", "Write bytes, or for example: 500kB, 10MB, 16MiB.")
    return int(float(found[1]) * _BYTES[found[2].lower()])


# --- The file ----------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    """The checked content of the configuration file; empty if there is none.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key or value that means nothing.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - not there in older Pythons
    else:
        import tomli as tomllib  # noqa: PLC0415 - only needed there

    try:
        table: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "Mend it, or move it away.") from error
    _check_keys(path, "", table, ("pool", "run"))
    if not isinstance(table.get("pool", ""), str):
        raise ConfigError(f"{path}: 'pool' must be a string", POOL_FORMS)
    run = table.get("run", {})
    if not isinstance(run, dict):
        raise ConfigError(f"{path}: 'run' must be a table", "Write [run] on a line of its own.")
    _check_keys(path, "run.", run, tuple(_RUN))
    table["run"] = {name.replace("-", "_"): _checked(path, name, value) for name, value in run.items()}
    return table


def _check_keys(path: Path, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(
                f"{path}: there is no setting '{prefix}{name}'", f"There are: {', '.join(known)}."
            )


def _checked(path: Path, name: str, value: object) -> object:
    kind, fits = _RUN[name]
    try:
        right = fits(value)
    except InvalidInput:
        right = False
    if not right:
        raise ConfigError(f"{path}: 'run.{name}' must be {kind}, not {value!r}")
    return value


def _is_count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _is_duration(value: Any) -> bool:
    if isinstance(value, str):
        return parse_duration(value) >= 0
    return type(value) in (int, float) and value >= 0


def _is_size(value: Any) -> bool:
    return parse_size(value) >= 0 if isinstance(value, str) else type(value) is int and value >= 0


_RUN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "workers": ("a whole number of at least 1", _is_count(1)),
    "max-scrub": ("a whole number of at least 0", _is_count(0)),
    "max-time": ("a time such as '2h'", _is_duration),
    "task-timeout": ("a time such as '2h'", _is_duration),
    "log-cap": ("a size such as '10MB'", _is_size),
    "order": (f"one of {', '.join(ORDERS)}", lambda value: value in ORDERS),
    "scratch": ("a directory's path", lambda value: isinstance(value, str) and bool(value)),
    "keep": ("true or false", lambda value: isinstance(value, bool)),
}
"""The options of `picas run` that the file may set: what each takes, in words and as a test."""
