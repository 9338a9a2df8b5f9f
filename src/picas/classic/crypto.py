"""The encryption of the password in the configuration of 1.x; see `picas.settings.classicfile`."""

from __future__ import annotations

from pathlib import Path

from picas.settings import classicfile

CRYPTO_KEY_PATH = str(classicfile.key_path())
"""Where the key is unless a call names another."""


def generate_and_save_key(key_path: str | None = None, skip_if_exists: bool = True) -> None:  # noqa: FBT001, FBT002 - as in 1.x
    """Make a new key in a file that only its owner can read.

    Args:
        key_path: the file; `CRYPTO_KEY_PATH` if none is given.
        skip_if_exists: leave a key that is there. With False it is replaced if the user says yes, and what
            was encrypted with it cannot be read any more.

    Raises:
        ConfigError: it cannot be written.
        MissingExtra: the package for encryption is not installed.
    """
    path = Path(key_path or CRYPTO_KEY_PATH).expanduser()
    if path.exists() and not skip_if_exists:
        if input(f"{path} is there already. Replace it (y/N)? ").strip().lower() != "y":
            return
        path.unlink()
    classicfile.make_key(path)


def read_key() -> bytes:
    """The user's key.

    Raises:
        FileNotFoundError: there is none.
    """
    return Path(CRYPTO_KEY_PATH).read_bytes()


def encrypt_password(password: bytes | str, key: bytes | None = None) -> bytes:
    """A password, encrypted with the user's key if no other is given.

    Raises:
        FileNotFoundError: there is no key.
        MissingExtra: the package for encryption is not installed.
    """
    plain = password.encode() if isinstance(password, str) else password
    return classicfile.encrypt(plain, read_key() if key is None else key)


def decrypt_password(encrypted: bytes | str, key: bytes | None = None) -> bytes:
    """The password again.

    Raises:
        FileNotFoundError: there is no key.
        ConfigError: it was encrypted with another one.
        MissingExtra: the package for encryption is not installed.
    """
    token = encrypted.encode() if isinstance(encrypted, str) else encrypted
    return classicfile.decrypt(token, read_key() if key is None else key)
