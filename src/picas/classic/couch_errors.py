"""What a database says no with, under the names that couchdb-python gives it.

Programs that import couchdb-python beside us catch its errors: what is raised here is then one of those too.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from picas.errors import PoolError, PoolRefused, TokenNotFound

COUCHDB_PYTHON = "couchdb.http"
"""Where couchdb-python has its errors."""


_Error = TypeVar("_Error", bound=PoolError)


class ResourceNotFound(TokenNotFound):
    """There is no such document, view or database."""


class ResourceConflict(PoolError):
    """The document is not the version any more that was read."""


class PreconditionFailed(PoolRefused):
    """What was to be made is there already."""


class Unauthorized(PoolRefused):
    """The server does not know user and password."""


def not_found(message: str, advice: str = "") -> ResourceNotFound:
    """The error for what is not there."""
    return _kind(ResourceNotFound)(message, advice)


def conflict(message: str, advice: str = "") -> ResourceConflict:
    """The error for a write that came too late."""
    return _kind(ResourceConflict)(message, advice)


def exists(message: str, advice: str = "") -> PreconditionFailed:
    """The error for what is there already."""
    return _kind(PreconditionFailed)(message, advice)


def unauthorized(message: str, advice: str = "") -> Unauthorized:
    """The error for a wrong password."""
    return _kind(Unauthorized)(message, advice)


def is_conflict(error: BaseException) -> bool:
    """Whether an error of any database tells of a write that came too late."""
    return isinstance(error, (ResourceConflict, *_theirs(ResourceConflict)))


def is_not_found(error: BaseException) -> bool:
    """Whether an error of any database tells that something is not there."""
    return isinstance(error, (ResourceNotFound, *_theirs(ResourceNotFound)))


_joined: dict[tuple[type, type], type[Any]] = {}  # by ours and theirs


def _kind(ours: type[_Error]) -> type[_Error]:
    """The class to raise: ours, and theirs as well where somebody may be waiting for it."""
    for theirs in _theirs(ours):
        if (ours, theirs) not in _joined:
            told = {"__doc__": ours.__doc__, "__module__": ours.__module__}
            _joined[ours, theirs] = type(ours.__name__, (ours, theirs), told)
        return _joined[ours, theirs]
    return ours


def _theirs(ours: type[BaseException]) -> tuple[type[BaseException], ...]:
    """couchdb-python's error of the same name, if somebody uses it: it is not imported for this."""
    found = getattr(sys.modules.get(COUCHDB_PYTHON), ours.__name__, None)
    return (found,) if isinstance(found, type) and issubclass(found, BaseException) else ()
