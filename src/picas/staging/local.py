"""Files of this machine and of the file systems that it has mounted."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from picas.staging import places
from picas.staging.transfer import TransferError, check_room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.staging.places import Place
    from picas.staging.plan import Item
    from picas.staging.transfer import Partial


class Local:
    """Copies files. What is read or written is where the pilot's owner allows, also behind all links."""

    def get(self, place: Place, item: Item, partial: Partial) -> None:
        """Copy a file to here; see `picas.staging.transfer.Carrier`."""
        path = Path(place.path)
        _check_inside(path, item)
        if not path.is_file():
            path.stat()  # raises if it is not there
            raise TransferError(f"{path} is no file")
        check_room(partial.path.parent, path.stat().st_size)
        shutil.copyfile(path, partial.path)

    def put(self, place: Place, item: Item, source: Path) -> Mapping[str, str]:
        """Copy a file from here; whoever looks meanwhile sees the old one or the new one."""
        path = Path(place.path)
        standing = next(folder for folder in path.parents if folder.exists())
        if standing.is_relative_to(item.within):
            _check_inside(standing, item)  # before folders are made behind a link
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_inside(path.parent, item)
        if path.is_dir():
            raise TransferError(f"{path} is a folder", "End the URL in '/' to put files into it.")
        check_room(path.parent, source.stat().st_size)
        new = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.part")
        try:
            with open(source, "rb") as old, open(new, "xb") as file:
                shutil.copyfileobj(old, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()
        return {}


def _check_inside(path: Path, item: Item) -> None:
    """Refuse a path that links lead out of where it may be.

    Raises:
        TransferError: they do.
    """
    if not item.within:
        return
    real, site = os.path.realpath(path), os.path.realpath(item.within)
    if real != site and not real.startswith(site.rstrip("/") + "/"):
        raise TransferError(f"{places.shown(item.url)} leads out of {item.within}, which it may not")
