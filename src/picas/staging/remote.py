"""All other kinds of places, through fsspec and its file systems: S3, XRootD, SFTP, the clouds.

They find the user's credentials where their own libraries do.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from picas.staging import places
from picas.staging.transfer import CHUNK_BYTES, TransferError, check_room

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from picas.staging.places import Place
    from picas.staging.plan import Item
    from picas.staging.transfer import Partial

EXTRAS = {"s3": "s3", "s3a": "s3", "root": "xrootd", "xroot": "xrootd"}
"""Schemes whose package comes with an extra of ours."""

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError, TypeError, ValueError)


class Remote:
    """Carries by way of fsspec."""

    def get(self, place: Place, item: Item, partial: Partial) -> None:
        """Fetch a file or the rest of it; see `picas.staging.transfer.Carrier`."""
        system, path = _system(place)
        try:
            info = system.info(path)
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            raise _problem(error) from None
        size, mark = info.get("size"), str(info)
        begun = partial.size
        if begun and (not isinstance(size, int) or begun > size or mark != partial.mark):
            partial.drop()
            begun = 0
        partial.mark = mark
        if isinstance(size, int):
            check_room(partial.path.parent, size - begun)
        try:
            if begun:
                _fetch_rest(system, path, partial.path, begun)
            else:
                system.get_file(path, str(partial.path))
        except Exception as error:  # noqa: BLE001
            raise _problem(error) from None
        if isinstance(size, int) and partial.size != size:
            raise TransferError(f"{partial.size:,} of its {size:,} bytes came", again=True)

    def put(self, place: Place, item: Item, source: Path) -> Mapping[str, str]:
        """Bring a file there; see `picas.staging.transfer.Carrier`."""
        system, path = _system(place)
        folder = path.rpartition("/")[0]
        with suppress(Exception):  # many know no folders; where one is missing, the writing fails
            system.makedirs(folder, exist_ok=True)
        try:
            system.put_file(str(source), path)
            system.invalidate_cache()
            there = system.info(path).get("size")
        except Exception as error:  # noqa: BLE001
            raise _problem(error) from None
        size = source.stat().st_size
        if isinstance(there, int) and there != size:
            raise TransferError(f"{there:,} of its {size:,} bytes are there", again=True)
        return {}


def _fetch_rest(system: Any, path: str, target: Path, begun: int) -> None:
    with system.open(path, "rb") as source, open(target, "ab") as file:
        source.seek(begun)
        shutil.copyfileobj(source, file, CHUNK_BYTES)


def _system(place: Place) -> tuple[Any, str]:
    """The file system of a place, and the path in it.

    Raises:
        TransferError: it cannot be used.
    """
    extra = EXTRAS.get(place.scheme, "data")
    try:
        core = import_module("fsspec.core")
        system, path = core.url_to_fs(place.url)
    except ImportError as error:
        missing = str(error) if extra == "data" and "fsspec" not in str(error) else ""
        raise TransferError(
            f"the package for {place.scheme}:// is not installed", missing or f"pip install 'picas[{extra}]'"
        ) from None
    except ValueError:
        raise TransferError(f"nobody here knows what {place.scheme}:// is", "Is it written right?") from None
    except Exception as error:  # noqa: BLE001 - each file system has errors of its own
        raise _problem(error) from None
    return system, str(path)


def _problem(error: Exception) -> TransferError:
    if isinstance(error, FileNotFoundError):
        return TransferError("there is no such file")
    if isinstance(error, TransferError):
        return error
    said = places.without_secrets(str(error)).strip().splitlines()
    message = f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
    return TransferError(message, again=not isinstance(error, _FINAL))
