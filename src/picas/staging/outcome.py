"""What came of staging, as the attempt's own process leaves it for the pilot."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from picas.staging import STAGED

MOST_BYTES = 16 << 20
"""More than that is nothing that we wrote."""

DOING = {"in": "while its files were being fetched", "out": "while its files were being brought away"}


@dataclass(frozen=True)
class Staged:
    """What came of it.

    Attributes:
        uploads: what was brought away, by its path in the token's directory: where it is, its size, its checksum.
        problem: why it failed; "" if it did not.
        is_works: the failure is the work's own, which did not make what it was to make.
        doing: what was going on last, in words; "" for the work itself.
    """

    uploads: dict[str, Any]
    problem: str = ""
    is_works: bool = False
    doing: str = ""


def read(directory: str) -> Staged:
    """What the process left; nothing if the work has spoilt it."""
    try:
        handle = os.open(f"{directory}/{STAGED}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, encoding="ascii") as file:
            told = json.loads(file.read(MOST_BYTES))
        uploads = {str(name): dict(noted) for name, noted in told["uploads"].items()}
        problem, phase = str(told["problem"]), str(told["phase"])
        return Staged(uploads, problem, bool(told["works"]), DOING.get(phase, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Staged({})
