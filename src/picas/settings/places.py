"""Where a user's own files are, also on machines where a user has no home directory, or none to write to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NOWHERE = Path(os.devnull)
"""Below this there is nothing, and nothing can be made."""


def home() -> Path:
    """The home directory; `NOWHERE` if the user has none."""
    try:
        return Path.home()
    except (RuntimeError, KeyError):  # neither $HOME nor an entry among the users; the second in Python 3.9
        return NOWHERE


def config_dir() -> Path:
    """Where configuration is; below `NOWHERE` for a user without a home: what others could put elsewhere is not believed."""
    from platformdirs import user_config_path  # noqa: PLC0415 - start-up

    return _own(user_config_path) or NOWHERE / "picas"


def state_dir() -> Path:
    """Where is kept what outlives a process: among temporary files, if the home directory takes nothing."""
    from platformdirs import user_state_path  # noqa: PLC0415 - start-up

    own = _own(user_state_path)
    if own is not None and _takes_files(own):
        return own
    import tempfile  # noqa: PLC0415 - start-up

    return Path(tempfile.gettempdir()) / f"picas-{os.getuid()}"


def _own(find: Callable[..., Path]) -> Path | None:
    try:
        path = find("picas", appauthor=False)
    except RuntimeError:
        return None
    return path if path.is_absolute() else None  # older versions leave a ~ in it


def _takes_files(path: Path) -> bool:
    """Whether a directory is there, or can be made, and can be written to."""
    for each in (path, *path.parents):
        if each.exists():
            return each.is_dir() and os.access(each, os.W_OK | os.X_OK)
    return False
