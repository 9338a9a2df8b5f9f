"""Writing a token's files below a directory: never outside of it, never half, never over others unasked."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, PicasError

if TYPE_CHECKING:
    from collections.abc import Iterable


def place_of(directory: Path, *names: str) -> Path:
    """The path of a file below a directory; ``/`` in a name makes sub-directories.

    Raises:
        InvalidInput: the name leads out of the directory, by itself or by a symbolic link that is there.
    """
    parts = [part for name in names for part in name.removeprefix("./").split("/")]
    if any(part in ("", ".", "..") or "\0" in part for part in parts) or PurePosixPath(*parts).is_absolute():
        shown = "/".join(names)
        raise InvalidInput(f"the name '{shown}' leads out of the directory, or nowhere", "It was not saved.")
    place = directory.joinpath(*parts)
    inside, root = Path(os.path.realpath(place.parent)), Path(os.path.realpath(directory))
    if inside != root and root not in inside.parents:
        raise InvalidInput(
            f"{place.parent} is a link that leads out of {directory}", "Nothing was saved there."
        )
    return place


def save(place: Path, pieces: Iterable[bytes], *, force: bool) -> int:
    """Write a file whole, under another name first; how many bytes it has.

    Args:
        force: replace what is there.

    Raises:
        PicasError: it is there already, or it cannot be written.
    """
    check_free(place, force=force)
    part = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            count = sum(file.write(piece) for piece in pieces)
        part.replace(place)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            what = f"{place} cannot be written: {error.strerror}"
            raise PicasError(what, "Choose another directory with -o.") from error
        raise
    return count


def check_free(place: Path, *, force: bool) -> None:
    """Make sure that nothing would be overwritten unasked.

    Raises:
        PicasError: something is there.
    """
    if os.path.lexists(place) and not force:
        raise PicasError(
            f"{place} is there already", "Save to another directory with -o, or write over it with --force."
        )
