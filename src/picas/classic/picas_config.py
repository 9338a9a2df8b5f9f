"""The configuration of 1.x as an object; see `picas.settings.classicfile`."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.errors import ConfigError
from picas.settings import classicfile

from . import crypto

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping


class PicasConfigSchemaError(Exception):
    """A configuration has not what it should have.

    Attributes:
        message: what is wrong with it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PicasConfig:
    """The configuration file, and what it says.

    Attributes:
        config_path: the file; ``~`` stands for the home directory.
        config: what it says, by name: `picas.settings.classicfile.FIELDS`; empty before it is loaded.

    Args:
        config_path: another file than the user's own.
        load: whether to read it at once.

    Raises:
        FileNotFoundError: there is no such file.
        PicasConfigSchemaError: it has not what it should have.
    """

    def __init__(self, config_path: str | None = None, load: bool = True) -> None:  # noqa: FBT001, FBT002 - as in 1.x
        self.config_path = config_path or "~/.config/picas/conf.yml"
        self.config: dict[str, Any] = {}
        if load:
            self.load_config()

    def load_config(self) -> None:
        """Read the file.

        Raises:
            FileNotFoundError: there is no such file.
            PicasConfigSchemaError: it has not what it should have.
        """
        try:
            self.config = asdict(classicfile.read(self._path))
        except FileNotFoundError:
            raise FileNotFoundError(f"configuration file not found: {self.config_path}") from None
        except ConfigError as error:
            raise PicasConfigSchemaError(f"configuration validation failed: {error.message}") from error

    def validate_config(self, config: Mapping[str, Any] | None = None) -> None:
        """Look whether a configuration, or the one that is loaded, has what it should have.

        Raises:
            PicasConfigSchemaError: it has not.
        """
        self._checked(config or self.config)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write another configuration into the file.

        Raises:
            PicasConfigSchemaError: it has not what it should have; the file is as it was.
        """
        content = self._checked(config)
        classicfile.write(self._path, content)
        self.config = asdict(content)

    def save_config(self, args: Namespace) -> None:
        """Write the file from ``args.host_url``, ``database``, ``username`` and ``password``.

        A password that is None is asked for. A key to encrypt it with is made if there is none.

        Raises:
            PicasConfigSchemaError: one of them is missing.
        """
        password = args.password if args.password is not None else getpass.getpass("Password: ")
        crypto.generate_and_save_key()
        self.write_config(
            {
                "host_url": args.host_url,
                "database": args.database,
                "username": args.username,
                "encrypted_password": crypto.encrypt_password(password).decode(),
            }
        )

    def change_password(self, args: Namespace) -> None:
        """Change the password on the server and in the file; ``args.new_password`` is asked for if it is None.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: the file or the key cannot be used.
            PoolRefused, PoolUnavailable: the server does not change it, or does not answer.
        """
        from picas import classiclogin  # noqa: PLC0415 - asks servers, which most programs with this object do not

        new = args.new_password if args.new_password is not None else getpass.getpass("New password: ")
        key = Path(crypto.CRYPTO_KEY_PATH)
        self.config = asdict(classiclogin.change_password(self._path, key, new))

    @property
    def _path(self) -> Path:
        return Path(self.config_path).expanduser()

    def _checked(self, config: Mapping[str, Any]) -> classicfile.ClassicConfig:
        try:
            return classicfile.check(dict(config))
        except ConfigError as error:
            raise PicasConfigSchemaError(f"configuration validation failed: {error.message}") from error
