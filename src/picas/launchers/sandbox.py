"""What travels with a job to a machine that shares no folder with this one: files, the pool's address and its login."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, LaunchError
from picas.settings import config
from picas.settings.credentials import find, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.launchers.base import Script
    from picas.settings.config import Settings

CONFIG = "config.toml"
"""The name of the configuration file that travels: what ``PICAS_CONFIG`` is set to there."""

_TRUSTED = "trusted-keys"
_CERTIFICATES = {"ca": "ca.pem", "client_cert": "client-cert.pem", "client_key": "client-key.pem"}

OWN_NAMES = frozenset((CONFIG, _TRUSTED, *_CERTIFICATES.values()))
"""The names of files that are not the user's."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=-]*")
_SHOWN = 3  # of the largest files


# --- Files -------------------------------------------------------------------------------------------


def name_of(file: Path) -> str:
    """What a file is called where it arrives.

    Raises:
        InvalidInput: batch systems split such names, or give them a meaning.
    """
    if not _NAME.fullmatch(file.name):
        raise InvalidInput(
            f"'{file.name}' is no name for a file that travels with a job",
            "Rename it, with letters, digits and . _ + - @ = only: batch systems stumble over others.",
        )
    return file.name


def check(script: Script) -> None:
    """Refuse what cannot travel with this script.

    Raises:
        InvalidInput: a file is not there, two have one name, or all of it is larger than the batch system takes.
    """
    names = [script.name, *script.companions]
    for file in script.files:
        if not file.exists():
            raise InvalidInput(f"there is no {file} to send along")
        if name_of(file) in names:
            raise InvalidInput(
                f"two files called {file.name} cannot travel with one job", "Rename one of them."
            )
        names.append(file.name)
    if script.most_bytes is not None:
        _check_size(script, script.most_bytes)


def _check_size(script: Script, most: int) -> None:
    sizes = {str(file): _size(file) for file in script.files}
    if sum(sizes.values()) + sum(map(len, script.companions.values())) <= most:
        return
    packed = _packed_size(script.files)
    if packed <= most:
        return
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_SHOWN]
    shown = ", ".join(f"{name} ({_megabytes(size)})" for name, size in largest)
    raise InvalidInput(
        f"what travels with each job is {_megabytes(packed)}, compressed; no more than {_megabytes(most)} may",
        f"Largest: {shown}. Put large files on storage that the jobs reach, and fetch them there.",
    )


def _size(file: Path) -> int:
    if file.is_dir():
        return sum(each.stat().st_size for each in file.rglob("*") if each.is_file())
    return file.stat().st_size


def _packed_size(files: Sequence[Path]) -> int:
    """Of an archive as DIRAC makes one."""
    counter = _Counter()
    with tarfile.open(fileobj=counter, mode="w|bz2") as archive:
        for file in files:
            archive.add(file.resolve(), file.name)
    return counter.count


class _Counter(io.RawIOBase):
    """A file that keeps nothing but how much was written to it."""

    count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.count += len(data)
        return len(data)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


# --- The way to the pool -----------------------------------------------------------------------------


@contextmanager
def travelling_config(settings: Settings) -> Iterator[tuple[Path, ...]]:
    """The files of `write_config` in a folder of their own, for as long as it takes to submit them; then removed."""
    with tempfile.TemporaryDirectory(prefix="picas-submit-") as folder:  # for its owner alone
        yield tuple(write_config(Path(folder), settings))


def write_config(folder: Path, settings: Settings) -> list[Path]:
    """Write what a pilot has to know to reach the pool, as files that only their owner can read.

    Args:
        folder: where; what is there under these names is replaced.
        settings: of which the pool's address, its login wherever that is kept, certificates, and the defaults of
            `picas run` travel.

    Returns:
        The configuration file, and the files that it names.

    Raises:
        InvalidInput: the pool is a file, which no other machine reaches; or there is one half of a login only.
        LaunchError: they cannot be written.
    """
    if settings.pool.startswith("sqlite:"):
        raise InvalidInput(
            f"{settings.pool} is a file, which the machines of a grid cannot reach",
            "Move it to a server: picas copy SRC DST; see docs/how-to/move-a-pool.md.",
        )
    from picas.stores.couch.http import split_url  # noqa: PLC0415 - start-up: most launchers have no sandbox

    access = settings.access
    login = find(split_url(settings.pool)[0], access.sources, named=access.auth != "jwt")
    couchdb: dict[str, Any] = {"auth": access.auth, "insecure": access.insecure}
    if login is not None:
        couchdb.update(username=login.username, password=login.password)
    try:
        others = []
        for name, target in _CERTIFICATES.items():
            if getattr(access, name):
                couchdb[name.replace("_", "-")] = target
                others.append(_copied(Path(getattr(access, name)), folder / target))
        trusted = config.config_path().with_name(_TRUSTED)
        if trusted.exists():
            others.append(_copied(trusted, folder / _TRUSTED))
        tables = {"couchdb": couchdb, "run": _portable(settings.run)}
        return [_written(folder / CONFIG, _toml(settings.pool, tables).encode()), *others]
    except OSError as error:
        raise LaunchError(f"{error.filename or folder} cannot be used: {error.strerror}") from error


def _portable(run: Any) -> dict[str, Any]:
    """Defaults of `picas run` that mean the same on another machine: all but paths."""
    here = ("scratch", "trusted_keys")
    return {name.replace("_", "-"): value for name, value in run.items() if name not in here}


def _toml(pool: str, tables: dict[str, dict[str, Any]]) -> str:
    lines = [f"pool = {_value(pool)}"]
    for name, table in tables.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{key} = {_value(value)}" for key, value in table.items() if value != ""),
        ]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """TOML's form: for these types JSON's, but for DEL, which must be written out."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _copied(source: Path, target: Path) -> Path:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target
    return _written(target, source.read_bytes())


def _written(path: Path, data: bytes) -> Path:
    path.unlink(missing_ok=True)
    write_private(path, data)
    return path
