"""The configuration file of 1.x: ``~/.config/picas/conf.yml``, whose password is encrypted with the key beside it.

Reading and writing it is for programs of 1.x, and for moving on: `picas config import`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from picas.errors import ConfigError, MissingExtra
from picas.settings.credentials import write_private
from picas.settings.places import home

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = ("host_url", "database", "username", "encrypted_password")
"""What the file has: all of these and nothing else, each a text."""


@dataclass(frozen=True)
class ClassicConfig:
    """What the file says.

    Attributes:
        host_url: the server's URL, such as ``https://couchdb.example.org:6984``.
        encrypted_password: a Fernet token in ASCII.
    """

    host_url: str
    database: str
    username: str
    encrypted_password: str

    @property
    def pool(self) -> str:
        """The database as the URL of a pool."""
        return f"{self.host_url.rstrip('/')}/{quote(self.database, safe='')}"


def config_path() -> Path:
    """Where 1.x has its file: on every system the same place below the home directory."""
    return home() / ".config" / "picas" / "conf.yml"


def key_path() -> Path:
    """Where 1.x has the key of the passwords in its files."""
    return config_path().with_name("key.dat")


# --- The file ----------------------------------------------------------------------------------------


def read(path: Path) -> ClassicConfig:
    """The file's content.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it cannot be read, or is no such file; the message names what is missing or too much.
        MissingExtra: the package for YAML is not installed.
    """
    yaml = _extra("yaml")
    try:
        table = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "Mend it, or make a new one.") from error
    try:
        return check(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.advice) from None


def check(table: object) -> ClassicConfig:
    """A table as the file's content.

    Raises:
        ConfigError: it has not just `FIELDS`, each a text.
    """
    fields = table if isinstance(table, dict) else {}
    missing = [name for name in FIELDS if not isinstance(fields.get(name), str)]
    other = [str(name) for name in fields if name not in FIELDS]
    if missing or other:
        what = [f"'{name}' must be a text" for name in missing]
        what += [f"there is no setting '{name}'" for name in other]
        raise ConfigError("; ".join(what), f"A configuration of 1.x has just: {', '.join(FIELDS)}.")
    return ClassicConfig(**fields)


def write(path: Path, content: ClassicConfig) -> None:
    """Write the file, closed to others, in place of one that is there.

    Raises:
        ConfigError: it cannot be written.
        MissingExtra: the package for YAML is not installed.
    """
    stage(path, content).replace(path)


def stage(path: Path, content: ClassicConfig) -> Path:
    """Write the file beside the one that is there; it only remains to be renamed.

    Raises:
        ConfigError: it cannot be written.
        MissingExtra: the package for YAML is not installed.
    """
    text = _extra("yaml").safe_dump({name: getattr(content, name) for name in FIELDS}, allow_unicode=True)
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            new.unlink()
        write_private(new, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}", "Check the folder's permissions.") from error
    return new


# --- The password ------------------------------------------------------------------------------------


def make_key(path: Path) -> bool:
    """Make a key where there is none; False if there is one, which is left as it is.

    Without it, what was encrypted with it is lost, so it is never replaced.

    Raises:
        ConfigError: it cannot be written.
        MissingExtra: the package for encryption is not installed.
    """
    key = _extra("cryptography.fernet").Fernet.generate_key()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, key)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}", "Check the folder's permissions.") from error
    return True


def encrypt(password: bytes, key: bytes) -> bytes:
    """A password as a Fernet token.

    Raises:
        ConfigError: the key is none.
        MissingExtra: the package for encryption is not installed.
    """
    return bytes(_fernet(key).encrypt(password))


def decrypt(token: bytes, key: bytes) -> bytes:
    """The password in a Fernet token.

    Raises:
        ConfigError: the token is none, or was made with another key.
        MissingExtra: the package for encryption is not installed.
    """
    fernet = _fernet(key)
    try:
        return bytes(fernet.decrypt(token))
    except _extra("cryptography.fernet").InvalidToken:
        raise ConfigError(
            "the encrypted password does not fit its key", "picas init asks for the password anew."
        ) from None


def password_of(content: ClassicConfig, key_file: Path) -> str:
    """The password in a configuration.

    Raises:
        ConfigError: there is no key, or it does not fit.
        MissingExtra: the package for encryption is not installed.
    """
    try:
        key = key_file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the key of the encrypted password cannot be read: {error}",
            "picas init asks for the password anew.",
        ) from error
    return decrypt(content.encrypted_password.encode(), key).decode()


def _fernet(key: bytes) -> Any:
    try:
        return _extra("cryptography.fernet").Fernet(key)
    except ValueError as error:
        raise ConfigError(f"the key of the encrypted password is none: {error}") from error


def _extra(module: str) -> Any:
    """A module of the optional packages, which no other part of this program needs."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(
            f"the configuration of 1.x needs a package that is not installed: {module.partition('.')[0]}",
            "pip install 'picas[classic]'",
        ) from None
