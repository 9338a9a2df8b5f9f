"""What a look at a pool finds, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = "ok"
WARNING = "warning"
FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at, such as ``login``.
        level: `OK`; `WARNING` for what can be lived with; `FAILURE` for what keeps pilots from working.
        text: what was found.
        advice: what to do about it.
        data: the same as values, for programs.
    """

    name: str
    level: str
    text: str
    advice: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ailment:
    """What `picas doctor` found, or that there is nothing of the kind, and what can be done about it.

    Attributes:
        mend: puts it right, and says in a few words what was done; raises a `picas.errors.PicasError` if something
            is left. None where only people can.
        harmless: mending it is what anybody would want; else somebody has to want it by name.
    """

    finding: Finding
    mend: Callable[[], str] | None = None
    harmless: bool = True
