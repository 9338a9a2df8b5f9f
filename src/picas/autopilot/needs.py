"""What a token says that it needs, in its fields ``cores``, ``gpus``, ``memory`` and ``walltime``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput
from picas.settings.config import parse_size
from picas.tokens import whole_number
from picas.walltime import declared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Path = tuple[str, ...]

FIELDS: tuple[Path, ...] = (("cores",), ("gpus",), ("memory",), ("walltime",))
"""Where it says so."""


@dataclass(frozen=True)
class Need:
    """What one token needs.

    Attributes:
        cores: at least 1.
        gpus: 0 for none.
        memory: bytes; None if it does not say.
        walltime: seconds; None if it does not say.
    """

    cores: int = 1
    gpus: int = 0
    memory: int | None = None
    walltime: float | None = None


def need_of(body: Mapping[str, Any]) -> Need:
    """What a token needs, by its fields; what makes no sense there is as good as nothing."""
    return Need(
        max(1, whole_number(body.get("cores"))),
        whole_number(body.get("gpus")),
        _memory(body.get("memory")),
        declared(body),
    )


def _memory(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = parse_size(value)
        except InvalidInput:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e18:
        return None
    return int(value)


def body_of(fields: Sequence[Path], values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """A token's id and a body that has these values in these fields, as far as they are there, and nothing else."""
    token_id = ""
    body: dict[str, Any] = {}
    given = set(fields)
    for path, value in zip(fields, values):
        if path == ("_id",):
            token_id = value
        elif value is not None and not any(path[:length] in given for length in range(1, len(path))):
            place = body
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = value
    return token_id, body
