"""Files that travel with pilots to machines that do not have our file system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence


def brought(names: Sequence[str], bundle: str | None) -> dict[str, Any]:
    """The fields of a request by which these files are brought, and the bundle, if there is one, is run there.

    Raises:
        InvalidInput: one is not there, or two have the same name.
    """
    files = [_file(name) for name in (*([bundle] if bundle else []), *names)]
    twice = {each.name for each in files if [other.name for other in files].count(each.name) > 1}
    if twice:
        raise InvalidInput(f"two files would both be {min(twice)} there", "Bring each name once.")
    program = {"program": ("python3", files[0].name)} if bundle else {}
    return {"files": tuple(files), **program}


def _file(name: str) -> Path:
    path = Path(name).absolute()
    if not path.is_file():
        raise InvalidInput(f"there is no file {path} to bring there")
    return path
