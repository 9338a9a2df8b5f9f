"""The user's own files for a bundle: programs, modules, tables; never a secret."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEARCHED_BYTES = 1_000_000
"""Files larger than this are not searched for secrets: nobody keeps those in them."""

_LEFT_OUT = ("__pycache__", ".git", ".svn", ".hg")

_SECRETS = (
    (re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(rb"(?m)^[ \t]*(encrypted_)?password[ \t]*[:=][ \t]*[^ \t\r\n#]"), "a password"),
    (re.compile(rb"(?m)^[ \t]*pool[ \t]*=[ \t]*[\"']https?://[^/\"':]*:[^/\"']*@"), "a password"),
    (re.compile(rb"\A[A-Za-z0-9_-]{43}=\s*\Z"), "a key"),
)
"""What configuration files and key files of PiCaS, and those of 1.x, hold; nothing in programs is looked for."""

_CONFIGURATION = (".toml", ".yml", ".yaml", ".dat", ".pem", ".key", ".ini", ".cfg", "")
"""How the names of such files end."""


@dataclass(frozen=True)
class UserFile:
    """One file.

    Attributes:
        name: where it is among the bundle's files, with ``/`` in it below a folder.
        content: of it.
        mode: 0o755 for what can be executed, 0o644 for the rest.
    """

    name: str
    content: bytes
    mode: int


def read(paths: Iterable[Path]) -> list[UserFile]:
    """These files, and all in these folders, under their own names.

    Raises:
        InvalidInput: one is missing, holds a secret, has the name of another, or is no file.
    """
    found: dict[str, UserFile] = {}
    for path in paths:
        for name, each in _walk(path):
            if name in found:
                raise InvalidInput(
                    f"two files would be {name} in the bundle", "Rename one, or put both into folders."
                )
            found[name] = _file(name, each)
    return sorted(found.values(), key=lambda file: file.name)


def _walk(path: Path) -> Iterator[tuple[str, Path]]:
    path = Path(os.path.abspath(path))
    if not path.is_dir():
        yield path.name, path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(each for each in folders if each not in _LEFT_OUT)
        for name in (*names, *(each for each in folders if Path(folder, each).is_symlink())):
            if not name.endswith(".pyc"):
                each = Path(folder, name)
                yield each.relative_to(path.parent).as_posix(), each


def _file(name: str, path: Path) -> UserFile:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InvalidInput(f"{path} is no file", "Only files, and folders of files, go into a bundle.")
        content = path.read_bytes()
        name.encode("utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the name of {path!r} is no text", "Rename it.") from error
    is_program = content.startswith(b"#!")
    if path.suffix.lower() in _CONFIGURATION and len(content) <= SEARCHED_BYTES and not is_program:
        for pattern, what in _SECRETS:
            if pattern.search(content):
                raise InvalidInput(
                    f"{path} holds {what}, and a bundle is copied to where others can read it",
                    "Send it beside the bundle, closed to others (chmod 600), and name it in PICAS_CONFIG, "
                    "or set PICAS_USERNAME and PICAS_PASSWORD where the pilot starts.",
                )
    return UserFile(name, content, 0o755 if mode & stat.S_IXUSR else 0o644)
