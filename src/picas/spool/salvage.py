"""Writing back what a pool takes of a result that it does not take whole.

Something of it is then missing, so the token does not end as done: it says what is missing and why, and its
directory is left where it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from picas.errors import InvalidInput, PicasError, TokenRefused, TokenTooLarge
from picas.tokens import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from picas.budgets import Budgets
    from picas.finishing import Result, Verdict
    from picas.payload import Payload
    from picas.pool import Pool
    from picas.tokens import Outcome

EXIT_NOT_SAVED = 126
"""Exit code of an attempt that succeeded and whose result the pool does not take whole."""

MISSING_NAMED = 5
"""So many of the files that are missing are named."""


def salvage(
    pool: Pool, result: Result, error: Exception, budgets: Budgets
) -> tuple[Result, Verdict | None, Exception]:
    """Write back a result without some of its files; if need be without any, and without its logs.

    Args:
        error: why the pool did not take it whole.
        budgets: how often a token whose attempt failed is tried again; one that succeeded is not, since what it made
            would not be taken the next time either.

    Returns:
        the result as it was written, what became of it, and the last reason why more of it was not taken;
        the whole result and None if the pool takes nothing of it.

    Raises:
        PoolUnavailable, PoolRefused: the pool cannot be used.
    """
    files = sorted(result.files, key=lambda file: file.length)
    logs, outcome = result.logs, result.outcome
    missing: list[str] = []
    is_bare = False
    count = (
        1  # of files to leave out where it is not known which: ever more, so that many do not take for ever
    )
    while True:
        if files:
            going = _going(files, error, count)
            files = [file for file in files if file not in going]
            missing += [f"{file.name} ({file.length:,} bytes)" for file in going]
            count *= 2
        elif not is_bare:
            is_bare = True
            outcome = replace(outcome, output=None)
        elif logs:
            missing += [log.name for log in logs]
            logs = ()
        else:
            return result, None, error
        kept = tuple(file for file in result.files if file in files)
        told = _told(outcome, missing, error, result.directory)
        less = replace(result, outcome=told, files=kept, logs=logs)
        try:
            return less, pool.finish_many([less], budgets=budgets)[0], error
        except (InvalidInput, TokenRefused, TokenTooLarge, OSError) as again:
            error = again


def _going(files: Sequence[Payload], error: Exception, count: int) -> Sequence[Payload]:
    """The files to leave out next, of some in order of size."""
    if not isinstance(error, TokenTooLarge):
        return files
    named = [file for file in files if file.name == error.attachment]
    return named or files[-count:]


def _told(outcome: Outcome, missing: Sequence[str], error: Exception, directory: str) -> Outcome:
    """How the attempt ended, with what is missing of it."""
    if outcome.failure is Failure.RELEASED:
        return outcome
    more = f" and {len(missing) - MISSING_NAMED} more" if len(missing) > MISSING_NAMED else ""
    what = ", ".join(missing[:MISSING_NAMED]) + more or "the result"
    reason = error.message if isinstance(error, PicasError) else str(error)
    message = f"{what} could not be saved: {reason}"
    told = replace(outcome, kept=directory, notes=(*outcome.notes, message))
    if outcome.failure is not None:
        return told
    return replace(
        told, exit_code=EXIT_NOT_SAVED, failure=Failure.INFRASTRUCTURE, message=message, final=True
    )
