"""Data that tokens need and make: fetched before the work begins, brought where it belongs after it has ended well.

What is to be staged stands in a token's fields ``stage_in`` and ``stage_out``, or is the same for all tokens of a pilot.
`picas.staging.plan` reads it and says what is allowed; `picas.staging.process` is a process of the attempt's own that
does it, so that limits, signals and slots hold for it as for the work. Of all this a pilot whose tokens have no such
fields loads this file alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

IN, OUT = "stage_in", "stage_out"
"""The fields of tokens."""

STAGED = "staged.json"
"""The file in an attempt's directory that tells the pilot what was staged."""

EXIT_STAGING = 74
"""Exit code of an attempt whose files could not be fetched or brought away (EX_IOERR of sysexits.h)."""

EXIT_NOT_MADE = 65
"""Exit code of one that succeeded, but did not make the files that it was to make (EX_DATAERR)."""


def is_wanted(fields: Mapping[str, Any]) -> bool:
    """Whether a token with these fields has something to be staged."""
    return bool(fields.get(IN) or fields.get(OUT))
