"""Who asks a server: a user name and a password, from the first place that has them.

The places, in this order: what was given with the call (the URL, arguments of a function), the environment,
the configuration file, ``~/.netrc`` and the system's keyring. The first three are handed in as `Source`;
the other two are asked here, and only if those three leave something open. A user name of one place goes
with a password of another, unless that other place has it for somebody else.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from picas.errors import ConfigError, MissingExtra
from picas.settings.places import home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEYRING_SECONDS = 30.0
"""How long the keyring may take: it may ask the user to unlock it, or it may wait for a desktop that is not there."""

KEYRING_SERVICE = "picas:"
"""What the keyring's entries are called, followed by the server's URL."""

NETRC = "netrc"
KEYRING = "keyring"
"""Names of sources that are no file of ours."""


@dataclass(frozen=True)
class Login:
    """A user name and a password. The password is in no repr.

    Attributes:
        source: where the password was found, for messages.
    """

    username: str
    password: str = field(repr=False)
    source: str = field(default="", compare=False)


@dataclass(frozen=True)
class Source:
    """A place that has credentials, or one half of them.

    Attributes:
        name: what it is called in messages.
    """

    name: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def find(
    server: str, sources: Sequence[Source], *, environ: Mapping[str, str] = os.environ, named: bool = True
) -> Login | None:
    """The login for a server; None if no place knows any.

    Args:
        server: its URL, without credentials.
        sources: the places to look in first, in this order.
        named: whether a password is of no use without a user name. A bearer token is.

    Raises:
        ConfigError: there is one half of a login only, or a file of passwords is open to others.
    """
    username = next((source.username for source in sources if source.username), None)
    given = next((s for s in sources if s.password and s.username in (None, "", username)), None)
    if given is not None and given.password and (username or not named):
        return Login(username or "", given.password, given.name)
    if given is not None:
        raise ConfigError(
            f"there is a password for {server}, from {given.name}, but no user name",
            "Set PICAS_USERNAME, or 'username' in the configuration file: picas init asks for both.",
        )
    found = from_netrc(server, username, environ)
    if found is None and username:
        found = from_keyring(server, username)
    if found is None and username:
        raise ConfigError(
            f"there is no password of user {username} for {server}",
            "picas init asks for it and keeps it. Else set PICAS_PASSWORD, or write it into ~/.netrc.",
        )
    return found


# --- URLs --------------------------------------------------------------------------------------------


def split_login(url: str) -> tuple[str, str | None, str | None]:
    """A server's or pool's URL without its credentials, and these: user name and password, or None."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https"):
        return url, None, None
    netloc, slash, path = rest.partition("/")
    login, _, host = netloc.rpartition("@")
    username, _, password = login.partition(":")
    return f"{scheme}://{host}{slash}{path}", unquote(username) or None, unquote(password) or None


def without_login(url: str) -> str:
    """A URL as it may be shown, however wrong it is: nothing before an ``@`` is left but the scheme."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator else url.rpartition("@")[2]


# --- Files -------------------------------------------------------------------------------------------


def check_private(path: Path) -> None:
    """Refuse a file with a password that others than its owner may read or write.

    Raises:
        ConfigError: it is such a file; the advice is the command that mends it.
    """
    import shlex  # noqa: PLC0415 - start-up: for messages only

    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(
            f"{path} holds a password, and others than you may read it",
            f"Close it: chmod 600 {shlex.quote(str(path))}",
        )


def check_ours(path: Path) -> None:
    """Refuse a file or folder that others can change: what is in it is taken for our own word.

    Raises:
        ConfigError: somebody else owns it, or others may write to it.
    """
    if os.name != "posix":
        return
    info = path.stat()
    if info.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path} belongs to somebody else", "Use one of your own: what is in it is believed."
        )
    if stat.S_IMODE(info.st_mode) & 0o022:
        import shlex  # noqa: PLC0415 - start-up: for a message only

        raise ConfigError(
            f"others than you may write to {path}", f"Close it: chmod go-w {shlex.quote(str(path))}"
        )


def write_private(path: Path, data: bytes) -> None:
    """Make a file that nobody but its owner can read, not even for a moment. It is on the disk afterwards.

    Raises:
        FileExistsError: there is one of that name.
        OSError: it cannot be written.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def from_netrc(server: str, username: str | None, environ: Mapping[str, str] = os.environ) -> Login | None:
    """The login that ``$NETRC``, else ``~/.netrc``, has for exactly this host; of this user, if one is given.

    Its ``default`` entry is meant for anonymous FTP, and is not taken.

    Raises:
        ConfigError: the file cannot be read, or has our password and is open to others.
    """
    import netrc  # noqa: PLC0415 - start-up: an embedded pool has no use for it

    path = Path(environ.get("NETRC") or home() / ".netrc")
    try:
        hosts = netrc.netrc(path).hosts
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "Mend it, or move it away.") from error
    host = urlsplit(server).hostname or ""
    login, _, password = hosts.get(host) or ("", None, None)
    if not login or not password or username not in (None, login):
        return None
    check_private(path)
    return Login(login, password, NETRC)


# --- The keyring -------------------------------------------------------------------------------------


def from_keyring(server: str, username: str, seconds: float = KEYRING_SECONDS) -> Login | None:
    """The user's password in the system's keyring; None if there is none, no keyring, or no package for it.

    Raises:
        ConfigError: it does not answer.
    """
    if find_spec("keyring") is None:
        return None
    found: list[str | None] = []

    def ask() -> None:
        # Loaded here, as a back-end may already wait for the desktop while it is imported.
        try:
            keyring = import_module("keyring")
            found.append(keyring.get_password(KEYRING_SERVICE + server, username))
        except Exception:  # noqa: BLE001 - each back-end has errors of its own; all mean that it has no password
            found.append(None)

    # A thread, as nothing else ends a call that waits for D-Bus; it does not keep the process from ending.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise ConfigError(
            f"the keyring did not answer within {seconds:g} seconds",
            "Unlock it, or give the password another way, such as PICAS_PASSWORD.",
        )
    return Login(username, found[0], KEYRING) if found[0] else None


def to_keyring(server: str, login: Login) -> None:
    """Keep a password in the system's keyring.

    Raises:
        MissingExtra: the package for it is not installed.
        ConfigError: there is no keyring, or it refused.
    """
    try:
        keyring = import_module("keyring")  # optional, and slow to load
    except ImportError:
        raise MissingExtra(
            "the package for the system's keyring is not installed", "pip install 'picas[keyring]'"
        ) from None
    try:
        keyring.set_password(KEYRING_SERVICE + server, login.username, login.password)
    except Exception as error:  # back-ends have errors of their own
        raise ConfigError(
            f"the keyring did not take the password: {error!r}",
            "Without --keyring it is kept in the configuration file, which only you may read.",
        ) from error
