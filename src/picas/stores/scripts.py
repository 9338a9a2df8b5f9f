"""The SQL and JavaScript beside this module, wherever Python has found it: in a folder, or in a bundle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import ResourceLoader

_FOLDER = os.path.dirname(__file__)  # noqa: PTH120 - what loaders are given is a string


def script(name: str) -> str:
    """The text of a file, such as ``views/tokens.js``.

    It is asked of what has loaded this module: `importlib.resources` would do so too, and take longer to load than all
    that a pilot does before its first claim.
    """
    loader = cast("ResourceLoader", __spec__.loader)
    return loader.get_data(f"{_FOLDER}/{name}").decode("utf-8")
