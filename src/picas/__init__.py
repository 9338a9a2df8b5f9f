"""PiCaS: run very many independent pieces of work on whatever machines one can get.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from picas._version import __version__

if TYPE_CHECKING:
    from picas.errors import PicasError
    from picas.functions import Job
    from picas.pilot import Pilot
    from picas.pool import Pool, open_pool
    from picas.selection import Selection
    from picas.tokens import Failure, Outcome, State, Token

_HOMES = {
    "Failure": "picas.tokens",
    "Job": "picas.functions",
    "Outcome": "picas.tokens",
    "PicasError": "picas.errors",
    "Pilot": "picas.pilot",
    "Pool": "picas.pool",
    "Selection": "picas.selection",
    "State": "picas.tokens",
    "Token": "picas.tokens",
    "open_pool": "picas.pool",
}

__all__ = [
    "Failure",
    "Job",
    "Outcome",
    "PicasError",
    "Pilot",
    "Pool",
    "Selection",
    "State",
    "Token",
    "__version__",
    "open_pool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'picas' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
