"""Settings: the configuration file, the environment and the options of a command, joined in that order.

The file is ``config.toml`` in the user's configuration directory (`config_path`)::

    pool = "sqlite:////data/picas.db"

    [couchdb]           # how the server of the pool is reached, and as whom
    username = "me"

    [run]               # defaults of options of `picas run`, by the option's name
    workers = 4
    task-timeout = "2h"
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import urlsplit

from picas.errors import ConfigError, InvalidInput
from picas.settings.credentials import Source, check_private, split_login, without_login
from picas.settings.places import config_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_POOL = "sqlite:///picas.db"

POOL_VARIABLE = "PICAS_POOL"
"""The environment variable that names the pool."""

CONFIG_VARIABLE = "PICAS_CONFIG"
"""The environment variable that names another configuration file, such as one that travelled with a job."""

ORDERS = ("priority", "oldest", "newest")
"""In which order todo tokens are claimed: highest priority first and the oldest among equals, or by age alone."""

BUDGETS = ("lost", "infrastructure", "preempted", "again")
"""Classes of failures that are tried again without a charge to ``max-scrub``, see `picas.budgets.Budgets`."""

AUTHENTICATIONS = ("basic", "session", "jwt")
"""How a server is told who asks: a password each time, a cookie got with it, or a token in its place."""

POOL_FORMS = "A pool is sqlite:///relative.db, sqlite:////absolute/path.db, or http(s)://host:port/database."

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhdw]?)", re.ASCII)
_DURATIONS = re.compile(r"(?:(?:\d+(?:\.\d*)?|\.\d+)[smhdw])+", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", re.ASCII)

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES.update({"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40})
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?)b?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Access:
    """How a server is reached, and as whom.

    Attributes:
        sources: the places that may have the login, the first one first; `picas.settings.credentials.find` chooses.
        auth: one of `AUTHENTICATIONS`.
        ca: a file, or a folder with hashed names, of the certificate authorities to trust; None for the
            system's.
        client_cert: a file with the certificate to show, and its key unless `client_key` has it.
        insecure: whether any certificate of the server will do.
    """

    sources: tuple[Source, ...] = ()
    auth: str = "basic"
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    insecure: bool = False


@dataclass(frozen=True)
class Settings:
    """What holds for this invocation.

    Attributes:
        pool: the pool's URL, without credentials.
        run: defaults of options of `picas run`, under the option's name with ``_`` for ``-``.
        access: how its server is reached, if it has one.
    """

    pool: str = DEFAULT_POOL
    run: Mapping[str, Any] = field(default_factory=dict)
    access: Access = field(default_factory=Access)


def load(
    pool: str | None = None,
    environ: Mapping[str, str] = os.environ,
    path: Path | None = None,
    given: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings: what is given here goes before the environment, that before the configuration file.

    Args:
        pool: the pool's URL as an option gave it; None if it did not.
        path: the configuration file; the user's own by default. It need not exist.
        given: settings of ``[couchdb]`` that options or arguments gave, by their name in the file; None for
            those that they did not.

    Raises:
        ConfigError: one of them cannot be used; the message names it.
    """
    file = config_path() if path is None else path
    table = _read(file)
    if path is None and environ.get(CONFIG_VARIABLE) and not file.exists():
        raise ConfigError(f"{CONFIG_VARIABLE} names a file that is not there: {file}")
    pools = ((pool, "--pool"), (environ.get(POOL_VARIABLE), POOL_VARIABLE), (table.get("pool"), str(file)))
    url, source = next(((value, name) for value, name in pools if value), (DEFAULT_POOL, "default"))
    url, username, password = split_login(check_url(url, source))
    access = _access(
        (Source("the URL", username, password),),
        {name: value for name, value in (given or {}).items() if value is not None},
        _from_environment(environ),
        (str(file), table.get("couchdb", {}) if _is_meant_for(url, table) else {}),
    )
    return Settings(url, table.get("run", {}), access)


def config_path() -> Path:
    """Where the user's configuration file is, if there is one: ``$PICAS_CONFIG``, else in the configuration directory."""
    given = os.environ.get(CONFIG_VARIABLE)
    return Path(given).expanduser().absolute() if given else config_dir() / "config.toml"


def check_url(url: str, source: str) -> str:
    """The URL of a pool as it is.

    Raises:
        ConfigError: it is no URL; the message names where it came from and the right form.
    """
    if "://" in url:
        return url
    shown = without_login(url)
    if "@" not in url and ("." in url or "/" in url):
        path = url.removeprefix("./")
        raise ConfigError(
            f"{source}: '{shown}' is not the address of a pool", f"For a file write: sqlite:///{path}"
        )
    raise ConfigError(f"{source}: '{shown}' is not the address of a pool", POOL_FORMS)


def parse_duration(text: str) -> float:
    """Seconds: ``90``, ``90s``, ``15m``, ``2h``, ``1.5d``, ``1w``, ``1h30m``, ``01:30:00`` or ``1-12:00:00``.

    Raises:
        InvalidInput: it is none of these.
    """
    plain = text.strip().lower()
    found = _DURATION.fullmatch(plain)
    if found:
        return float(found[1]) * _SECONDS[found[2]]
    if _DURATIONS.fullmatch(plain):
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(plain))
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


def parse_codes(text: str) -> tuple[int, ...]:
    """Exit codes: ``75``, or several: ``75,111``.

    Raises:
        InvalidInput: they are none that a failure has.
    """
    parts = [part.strip() for part in text.split(",")]
    if all(re.fullmatch(r"[0-9]{1,3}", part) and 1 <= int(part) <= 255 for part in parts):
        return tuple(map(int, parts))
    raise InvalidInput(f"'{text}' is no exit code that a failure has", "Write numbers from 1 to 255: 75,111.")


def parse_budget(text: str) -> dict[str, int]:
    """How often to try again, by class of failures: ``lost=5`` or ``lost=5,preempted=50``.

    Raises:
        InvalidInput: it says something else.
    """
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if all(name in BUDGETS and re.fullmatch(r"[0-9]{1,9}", count) for name, _, count in pairs):
        return {name: int(count) for name, _, count in pairs}
    raise InvalidInput(
        f"'{text}' is no budget", f"Write for example lost=5,preempted=50. There are: {', '.join(BUDGETS)}."
    )


# --- How a server is reached -------------------------------------------------------------------------


def _access(
    sources: tuple[Source, ...],
    given: Mapping[str, Any],
    environment: Mapping[str, Any],
    of_file: tuple[str, Mapping[str, Any]],
) -> Access:
    """One of three tables of settings, the first of which goes before the others."""
    file, table = of_file
    named = (("the call", given), ("the environment", environment), (file, table))
    logins = [Source(name, each.get("username"), each.get("password")) for name, each in named]
    joined = {**table, **environment, **given}
    options = {name.replace("-", "_"): joined[name] for name in _COUCHDB if name in joined}
    for name in ("username", "password"):
        options.pop(name, None)
    known = tuple(login for login in (*sources, *logins) if login.username or login.password)
    return Access(known, **options)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Settings of ``[couchdb]`` by variables: PICAS_USERNAME, PICAS_PASSWORD, PICAS_CA and so on."""
    found: dict[str, Any] = {}
    for name, (kind, fits) in _COUCHDB.items():
        variable = "PICAS_" + name.replace("-", "_").upper()
        text = environ.get(variable)
        if not text:
            continue
        value = _TRUTH.get(text.lower()) if name == "insecure" else text
        if not fits(value):
            raise ConfigError(f"{variable} must be {kind}, not '{text}'")
        found[name] = value
    return found


def _is_meant_for(url: str, table: Mapping[str, Any]) -> bool:
    """Whether ``[couchdb]`` holds for this pool: a password is not sent to another server than its own."""
    home = split_login(table.get("pool", ""))[0]
    if not home.startswith(("http://", "https://")):
        return True
    try:
        return urlsplit(url)[:2] == urlsplit(home)[:2]
    except ValueError:  # what is wrong with it is said when it is opened
        return False


# --- The file ----------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    """The checked content of the configuration file; empty if there is none.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key or value that means nothing.
    """
    try:
        table = parse(path, path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "Mend it, or move it away.") from error
    if path.stat().st_mode & stat.S_IWOTH:
        # It says which pool's tokens are run here. Where groups are of one person each, theirs may be open.
        raise ConfigError(f"everybody may write to {path}", f"Close it: chmod o-w {path}")
    _check_keys(path, "", table, ("pool", *_TABLES))
    if not isinstance(table.get("pool", ""), str):
        raise ConfigError(f"{path}: 'pool' must be a string", POOL_FORMS)
    for name, known in _TABLES.items():
        _check_table(path, name, table.setdefault(name, {}), known)
    if "password" in table["couchdb"] or split_login(table.get("pool", ""))[2]:
        check_private(path)
    table["run"] = {name.replace("-", "_"): value for name, value in table["run"].items()}
    for name in _PATHS & table["couchdb"].keys():
        table["couchdb"][name] = str(path.parent / Path(table["couchdb"][name]).expanduser())
    return table


def parse(path: Path, text: str) -> dict[str, Any]:
    """The text of a configuration file as it is written, unchecked.

    Raises:
        ConfigError: it is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - not there in older Pythons
    else:
        import tomli as tomllib  # noqa: PLC0415 - only needed there

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers and nests that are too much for Python
        raise ConfigError(f"{path} cannot be read: {error}", "Mend it, or move it away.") from error


def _check_table(path: Path, name: str, table: object, known: _Known) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: '{name}' must be a table", f"Write [{name}] on a line of its own.")
    _check_keys(path, f"{name}.", table, tuple(known))
    for key, value in table.items():
        _check_value(path, f"{name}.{key}", value, known[key])


def _check_keys(path: Path, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(
                f"{path}: there is no setting '{prefix}{name}'", f"There are: {', '.join(known)}."
            )


def _check_value(path: Path, name: str, value: object, known: tuple[str, Callable[[Any], bool]]) -> None:
    kind, fits = known
    try:
        right = fits(value)
    except InvalidInput:
        right = False
    if not right:
        shown = "" if name == "couchdb.password" else f", not {value!r}"
        raise ConfigError(f"{path}: '{name}' must be {kind}{shown}")


def _is_count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _is_duration(value: Any) -> bool:
    if isinstance(value, str):
        return parse_duration(value) >= 0
    return type(value) in (int, float) and value >= 0


def _is_size(value: Any) -> bool:
    return parse_size(value) >= 0 if isinstance(value, str) else type(value) is int and value >= 0


def _is_codes(value: Any) -> bool:
    return type(value) in (str, int) and bool(parse_codes(str(value)))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_Known = dict[str, tuple[str, Callable[[Any], bool]]]

_RUN: _Known = {
    "workers": ("a whole number of at least 1", _is_count(1)),
    "max-scrub": ("a whole number of at least 0", _is_count(0)),
    "retry-on": ("an exit code, or several such as '75,111'", _is_codes),
    "budget": (
        "text such as 'lost=5,preempted=50'",
        lambda value: isinstance(value, str) and bool(parse_budget(value)),
    ),
    "max-time": ("a time such as '2h'", _is_duration),
    "task-timeout": ("a time such as '2h'", _is_duration),
    "lease": ("a time such as '5m'", _is_duration),
    "beat": ("a time such as '1m'", _is_duration),
    "signal": ("a signal and a time such as 'USR1@120'", _is_text),
    "probe": ("a shell command", _is_text),
    "max-quick-failures": ("a whole number of at least 1", _is_count(1)),
    "log-cap": ("a size such as '10MB'", _is_size),
    "order": (f"one of {', '.join(ORDERS)}", lambda value: value in ORDERS),
    "scratch": ("a directory's path", _is_text),
    "keep": ("true or false", lambda value: isinstance(value, bool)),
    "require-signed": ("true or false", lambda value: isinstance(value, bool)),
    "trusted-keys": ("a file's path", _is_text),
    "keep-secrets": ("true or false", lambda value: isinstance(value, bool)),
    "secrets": ("a list of names of variables", _is_texts),
    "stage-in": ("a list of URLs, each with a path and = before it", _is_texts),
    "stage-out": ("a list of URLs, each with a path and = before it", _is_texts),
    "stage-site": ("a list of URLs and paths", _is_texts),
    "stage-command": ("a command with {source} and {destination}", _is_text),
    "stage-tries": ("a whole number of at least 1", _is_count(1)),
    "container": ("an image's name or path", _is_text),
    "container-option": ("a list of options", _is_texts),
    "container-runtime": ("the name of what runs containers", _is_text),
}
"""The options of `picas run` that the file may set: what each takes, in words and as a test."""

_COUCHDB: _Known = {
    "username": ("a user's name", _is_text),
    "password": ("a password", _is_text),
    "auth": (f"one of {', '.join(AUTHENTICATIONS)}", lambda value: value in AUTHENTICATIONS),
    "ca": ("the path of a file or folder of certificates", _is_text),
    "client-cert": ("a certificate's path", _is_text),
    "client-key": ("a key's path", _is_text),
    "insecure": ("true or false", lambda value: isinstance(value, bool)),
}
"""The same for how a server is reached, in the file and, as PICAS_<NAME>, in the environment."""

_PATHS = frozenset(("ca", "client-cert", "client-key"))

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

_TABLES = {"couchdb": _COUCHDB, "run": _RUN}
