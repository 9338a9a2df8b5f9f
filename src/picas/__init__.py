"""PiCaS: run very many independent pieces of work on whatever machines one can get.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from picas._version import __version__

if TYPE_CHECKING:
    from picas.classic.actors import RunActor
    from picas.classic.clients import CouchDB
    from picas.classic.documents import Document, Job, Task, User
    from picas.classic.iterators import (
        EndlessViewIterator,
        PrioritizedViewIterator,
        TaskViewIterator,
        ViewIterator,
    )
    from picas.errors import PicasError
    from picas.pilot.loop import Pilot
    from picas.pool import Pool, open_pool
    from picas.selection import Selection
    from picas.tokens import Failure, Outcome, State, Token

# Here too are the modules of picasclient 1.x, such as picas.actors.
__path__.append(f"{__path__[0]}/classic")

_HOMES = {
    "CouchDB": "picas.clients",
    "Document": "picas.documents",
    "EndlessViewIterator": "picas.iterators",
    "Failure": "picas.tokens",
    "Job": "picas.documents",
    "Outcome": "picas.tokens",
    "PicasError": "picas.errors",
    "Pilot": "picas.pilot.loop",
    "Pool": "picas.pool",
    "PrioritizedViewIterator": "picas.iterators",
    "RunActor": "picas.actors",
    "Selection": "picas.selection",
    "State": "picas.tokens",
    "Task": "picas.documents",
    "TaskViewIterator": "picas.iterators",
    "Token": "picas.tokens",
    "User": "picas.documents",
    "ViewIterator": "picas.iterators",
    "open_pool": "picas.pool",
}

__all__ = [
    "CouchDB",
    "Document",
    "EndlessViewIterator",
    "Failure",
    "Job",
    "Outcome",
    "PicasError",
    "Pilot",
    "Pool",
    "PrioritizedViewIterator",
    "RunActor",
    "Selection",
    "State",
    "Task",
    "TaskViewIterator",
    "Token",
    "User",
    "ViewIterator",
    "__version__",
    "open_pool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'picas' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
