"""Changing the password that the configuration file of 1.x has, on the server and in the file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from picas.settings import classicfile
from picas.settings.config import Access
from picas.settings.credentials import Login, Source
from picas.stores import connect
from picas.stores.couch.admin import exchange_password, who_am_i

if TYPE_CHECKING:
    from pathlib import Path


def change_password(path: Path, key_file: Path, password: str) -> classicfile.ClassicConfig:
    """Give the user of a configuration file a new password; the old one is forgotten when the server has it.

    Args:
        path: the file.
        key_file: the key of the password in it.

    Returns:
        What the file says now.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it, or the key, cannot be used.
        InvalidInput: the server does not take this password.
        PoolRefused, PoolUnavailable: the server does not change it, or does not answer.
        MissingExtra: the packages for the file are not installed.
    """
    old = classicfile.read(path)
    login = Source(str(path), old.username, classicfile.password_of(old, key_file))
    encrypted = classicfile.encrypt(password.encode(), key_file.read_bytes())
    new = replace(old, encrypted_password=encrypted.decode())
    access = Access((login,))
    server = connect(old.pool, access)[0]
    with closing(server):
        user = who_am_i(server)
        staged = classicfile.stage(path, new)
        exchange_password(server, user, Login(old.username, password), access, staged)
    staged.replace(path)
    return new
