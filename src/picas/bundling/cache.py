"""What pilots from bundles keep on a machine for the next ones: the user's files of a bundle, unpacked, and compiled code.

It all lies in one directory, where nobody else may write; what it is for can be done without, but for the files.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from picas.settings.places import home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UNUSED_SECONDS = 30 * 86_400.0
"""What no pilot has used for so long is removed when another bundle is unpacked beside it."""

TRIES = 3
"""How often it is tried to take a place from which another pilot removes what is not whole."""


class NoPlace(Exception):
    """Nowhere on this machine the files can be unpacked; the text says why, place by place."""


def unpacked(name: str, listed: Sequence[tuple[str, int, int]], read: Callable[[str], bytes]) -> Path:
    """The directory with a bundle's files, unpacked now if they are not there yet.

    Args:
        name: what tells this bundle from others.
        listed: name, size and mode of each file.
        read: the content of a file.

    Raises:
        NoPlace: there is no directory that will take them.
    """
    problems = []
    for place in places():
        target = place / name
        try:
            if not _is_whole(target, listed):
                make_private(place)
                _unpack(target, listed, read)
            with suppress(OSError):
                os.utime(target)
        except OSError as error:
            problems.append(f"{place}: {error.strerror or error}")
            continue
        if all(os.access(target / name, os.X_OK) for name, _, mode in listed if mode & stat.S_IXUSR):
            return target
        problems.append(f"{place}: programs there cannot be executed")
    raise NoPlace("\n".join(problems))


def places() -> Iterator[Path]:
    """Where files may be unpacked, the best place first: the user's cache, then where temporary files go."""
    folders = [Path(os.environ.get("XDG_CACHE_HOME", ""))]
    if home().is_dir():
        folders.append(home() / ".cache")
    yield from (folder / "picas" / "bundles" for folder in folders if folder.is_absolute())
    for text in dict.fromkeys((os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp")):  # noqa: S108
        if Path(text).is_absolute():
            yield Path(text) / f"picas-bundles-{os.getuid()}"
    with suppress(FileNotFoundError):  # it has been removed
        yield Path.cwd() / f".picas-bundles-{os.getuid()}"


def make_private(place: Path) -> None:
    """Make a directory that nobody else may write to.

    Raises:
        OSError: that cannot be, or somebody else has made it.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(place)


def _check_private(place: Path) -> None:
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "others may write to it")


def _is_whole(target: Path, listed: Sequence[tuple[str, int, int]]) -> bool:
    """Whether all is there: what cleans up temporary files takes single ones."""
    try:
        mine = target.lstat().st_uid == os.getuid()
        return mine and all((target / name).stat().st_size == size for name, size, _ in listed)
    except OSError:
        return False


def _unpack(target: Path, listed: Sequence[tuple[str, int, int]], read: Callable[[str], bytes]) -> None:
    """Unpack beside the place, then rename: others see all of it or nothing."""
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    old = new.with_suffix(".old")
    try:
        for name, _, mode in listed:
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(name))
            path.chmod(mode)
        for _ in range(TRIES):
            try:
                new.rename(target)
            except OSError:
                if _is_whole(target, listed):  # another pilot was faster
                    return
                # Not whole any more. Away with it, in one go, for others look at it as well.
                with suppress(OSError):
                    target.rename(old)
                    shutil.rmtree(old, ignore_errors=True)
            else:
                return
        raise FileExistsError(errno.EEXIST, f"{target.name} is in the way")
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _remove_unused(target.parent)


def _remove_unused(place: Path) -> None:
    oldest = time.time() - UNUSED_SECONDS
    with suppress(OSError):
        for each in place.iterdir():
            with suppress(OSError):
                found = each.lstat()
                if found.st_mtime < oldest:
                    shutil.rmtree(each) if stat.S_ISDIR(found.st_mode) else each.unlink()


def kept_code(name: str) -> bytes:
    """The compiled code that a pilot has kept under this name; nothing if none has."""
    for place in places():
        with suppress(OSError):
            _check_private(place)
            path = place / name
            code = path.read_bytes()
            os.utime(path)
            return code
    return b""


def keep_code(name: str, code: bytes) -> None:
    """Keep compiled code for the next pilots, where there is a place for it."""
    for place in places():
        with suppress(OSError):
            make_private(place)
            number, new = tempfile.mkstemp(prefix=".new-", dir=place)
            try:
                with open(number, "wb") as file:
                    file.write(code)
                Path(new).replace(place / name)
            except OSError:
                Path(new).unlink()
                raise
            _remove_unused(place)
            return
