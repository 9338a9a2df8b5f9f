"""The keys for signed tokens as files: our own, to sign with, and the public ones of those whom we trust.

They are beside the configuration file: ``keys/NAME.pem``, each for its owner alone, and ``trusted-keys``, with one
public key a line, which others may read and not write. Several may be trusted: so keys are exchanged for new ones
without a moment at which tokens are refused.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import ConfigError, InvalidInput
from picas.settings.config import config_path
from picas.settings.credentials import check_ours, check_private, write_private
from picas.trust.signing import PublicKey, Signer, Verifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TRUSTED_VARIABLE = "PICAS_TRUSTED_KEYS"
"""The environment variable with the path of a file of trusted keys."""

SIGNING_VARIABLE = "PICAS_SIGNING_KEY"
"""The environment variable with the path, or the name, of the key to sign with."""

_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True)
class OwnKey:
    """A private key of ours.

    Attributes:
        made: when its file was written, Unix seconds.
    """

    path: Path
    public: PublicKey
    made: float


class KeyFiles:
    """The keys of one user.

    Args:
        directory: where they are; beside the configuration file if None.

    What reads or writes raises `ConfigError` where a file cannot be used, or is open to others.
    """

    def __init__(self, directory: Path | None = None) -> None:
        home = config_path().parent if directory is None else directory
        self.directory = home / "keys"
        self.trusted_path = home / "trusted-keys"

    # --- Our own ---

    def new(self, name: str | None = None) -> OwnKey:
        """Make a key, which is what is signed with from now on, and trust it.

        Args:
            name: what people call it; user and host if None.

        Raises:
            InvalidInput: the name cannot be one, or there is a key of that name.
        """
        called = name or _default_name()
        if not _NAME.fullmatch(called):
            raise InvalidInput(
                f"'{called}' cannot be the name of a key", "Take letters, digits, and any of _ . @ -"
            )
        signer, pem = Signer.generate(called)
        path = self._path(called)
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, pem)
        except FileExistsError:
            raise InvalidInput(
                f"there is a key {called} already", "Give the new one another name: picas keys new NAME"
            ) from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        self.trust([signer.public])
        return OwnKey(path, signer.public, path.stat().st_mtime)

    def own(self) -> list[OwnKey]:
        """Our own keys; the last is the newest."""
        found = [OwnKey(path, _read(path).public, path.stat().st_mtime_ns / 1e9) for path in self._paths()]
        return sorted(found, key=lambda key: (key.made, key.path.name))

    def signer(self, name: str | None = None, environ: Mapping[str, str] = os.environ) -> Signer | None:
        """What to sign with; None if we have no key, and none was asked for.

        Args:
            name: a key's name, or the path of its file; else what `SIGNING_VARIABLE` says, else the newest key.

        Raises:
            InvalidInput: there is no such key.
            MissingExtra: the package for it is not installed.
        """
        wanted = name or environ.get(SIGNING_VARIABLE)
        if not wanted:
            paths = sorted(self._paths(), key=lambda path: (path.stat().st_mtime_ns, path.name))
            return _read(paths[-1]) if paths else None
        for path in (self._path(wanted), Path(wanted).expanduser()):
            if path.is_file():
                return _read(path)
        raise InvalidInput(f"there is no key '{wanted}'", "picas keys list shows those there are.")

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def _paths(self) -> list[Path]:
        try:
            return [path for path in self.directory.iterdir() if path.suffix == ".pem"]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ConfigError(f"{self.directory} cannot be read: {error.strerror}") from error

    # --- Those that are trusted ---

    def trusted(self, path: Path | None = None) -> list[PublicKey]:
        """The keys that are trusted; none if there is no file of them.

        Args:
            path: the file; our own if None.
        """
        file = path or self.trusted_path
        try:
            check_ours(file)
            lines = file.read_text("utf-8").splitlines()
        except FileNotFoundError:
            if path is not None:
                raise ConfigError(f"there is no file {path}", "It has a public key on each line.") from None
            return []
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        return parse_lines(lines, str(file))

    def verifier(self, path: str | None = None, environ: Mapping[str, str] = os.environ) -> Verifier:
        """What checks tokens.

        Args:
            path: a file of trusted keys; else what `TRUSTED_VARIABLE` names, else our own.

        Raises:
            InvalidInput: no key is trusted.
            MissingExtra: the package for it is not installed.
        """
        named = path or environ.get(TRUSTED_VARIABLE)
        return Verifier(self.trusted(Path(named).expanduser() if named else None))

    def trust(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Trust these too; those that were not trusted before."""
        known = self.trusted()
        there = {key.raw for key in known}
        added = list({key.raw: key for key in keys if key.raw not in there}.values())
        if added:
            self._write_trusted([*known, *added])
        return added

    def distrust(self, which: str) -> list[PublicKey]:
        """Do not trust the keys of this id or name any more; which they were.

        Raises:
            InvalidInput: there are none.
        """
        known = self.trusted()
        gone = [key for key in known if which in (key.id, key.name)]
        if not gone:
            raise InvalidInput(f"no key '{which}' is trusted", "picas keys list shows those that are.")
        self._write_trusted([key for key in known if key not in gone])
        return gone

    def _write_trusted(self, keys: Sequence[PublicKey]) -> None:
        target = self.trusted_path
        new = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_private(new, "".join(f"{key.line}\n" for key in keys).encode("utf-8"))
            new.replace(target)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}") from error


def parse_lines(lines: Iterable[str], source: str) -> list[PublicKey]:
    """The public keys in a text; empty lines and those that begin with ``#`` are passed over.

    Raises:
        InvalidInput: a line has none.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(PublicKey.parse(line))
            except InvalidInput as error:
                raise InvalidInput(f"{source}, line {number}: {error.message}", error.advice) from None
    return found


def _read(path: Path) -> Signer:
    """The key in a file of ours.

    Raises:
        ConfigError: it cannot be read, or others can read it too.
    """
    try:
        check_private(path)
        return Signer(path.read_bytes(), path.stem)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _default_name() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = "key"
    return re.sub(r"[^A-Za-z0-9_.@-]", "-", f"{user}@{socket.gethostname()}")[:64].lstrip(".-")
