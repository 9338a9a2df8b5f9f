"""Every error that PiCaS raises on purpose, in one tree.

    PicasError
    ├── InvalidInput            what a person gave cannot be used; nothing was changed
    │   ├── TokenFileError      a line of a token file; knows the file and the line
    │   ├── SelectionError      a condition such as ``cores == 4``
    │   └── ConfigError         the configuration file, an environment variable or an option
    ├── PoolError
    │   ├── PoolUnavailable     may pass by itself (busy, full, unreachable): pilots retry it for ever
    │   ├── PoolRefused         will not pass by itself (wrong file, no rights): stop and tell
    │   ├── TokenNotFound       no token of that id
    │   ├── TokenExists         a token of that id is there already
    │   ├── TokenRefused        the pool does not take this document, whatever becomes of others
    │   └── TokenTooLarge       the document is over what the store can keep whole
    ├── InfrastructureError     the work could not even be started (no such command, no scratch directory)
    ├── LaunchError             a batch system did not do what it was asked for; knows what was submitted before
    └── MissingExtra            an optional dependency is not installed; the message names the pip command

Errors of other libraries are turned into these in one place per library, so callers catch `PicasError`
and nothing else. The message says what happened; ``advice`` says what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class PicasError(Exception):
    """Base of all errors of this package.

    Args:
        message: what happened, in one sentence, naming the thing it happened to.
        advice: what the reader can do now; shown on a line of its own.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}" if self.advice else self.message


class InvalidInput(PicasError):
    """What a person gave cannot be used. Nothing was changed."""


class TokenFileError(InvalidInput):
    """A token file has something in it that cannot become a token.

    Args:
        source: the file's name, ``<stdin>`` for standard input.
        line: the line, counted from 1; 0 when the whole file is meant.
    """

    def __init__(self, source: str, line: int, message: str, advice: str = "") -> None:
        place = f"{source}, line {line}" if line else source
        super().__init__(f"{place}: {message}", advice)
        self.source = source
        self.line = line


class SelectionError(InvalidInput):
    """A condition on tokens cannot be understood."""


class ConfigError(InvalidInput):
    """The configuration file, an environment variable or an option cannot be used."""


class PoolError(PicasError):
    """The pool, or one token in it, is not as it should be."""


class PoolUnavailable(PoolError):
    """The pool did not answer or did not take a write, but may do so later.

    Args:
        after: for how many seconds it asks to be left alone.
    """

    def __init__(self, message: str, advice: str = "", *, after: float = 0.0) -> None:
        super().__init__(message, advice)
        self.after = after


class PoolRefused(PoolError):
    """The pool cannot be used like this, and waiting will not help."""


class TokenNotFound(PoolError):
    """There is no token of that id in the pool."""


class TokenExists(PoolError):
    """There is a token of that id in the pool already."""


class TokenRefused(PoolError):
    """The pool does not take a document: its own rules forbid it, or it cannot be written.

    Args:
        answers: what the write would have returned without this: the tokens as they were written, None for
            those that changed since and those that are refused. Empty where nothing was written.
    """

    def __init__(self, message: str, advice: str = "", answers: Sequence[Any] = ()) -> None:
        super().__init__(message, advice)
        self.answers = answers


class TokenTooLarge(PoolError):
    """The token's document, or a file with it, is larger than the store keeps. It is refused whole, never cut.

    Args:
        attachment: the file that is meant, where it is one.
    """

    def __init__(self, message: str, advice: str = "", attachment: str = "") -> None:
        super().__init__(message, advice)
        self.attachment = attachment


class LaunchError(PicasError):
    """A batch system does not take a job, does not answer, or says something that nobody understands.

    Args:
        submitted: ids of jobs that were submitted before, or beside what was not.
    """

    def __init__(self, message: str, advice: str = "", submitted: Sequence[str] = ()) -> None:
        super().__init__(message, advice)
        self.submitted = tuple(submitted)


class InfrastructureError(PicasError):
    """The work could not even be started.

    Args:
        exit_code: what a shell would have answered: 127 for a command that is not there, 126 for one
            that cannot be executed.
        of_machine: it has nothing to do with the token: any other would fare the same here and now.
        of_token: it is the token that is wrong: it would fare the same anywhere.
    """

    def __init__(
        self,
        message: str,
        advice: str = "",
        exit_code: int = 126,
        *,
        of_machine: bool = False,
        of_token: bool = False,
    ) -> None:
        super().__init__(message, advice)
        self.exit_code = exit_code
        self.of_machine = of_machine
        self.of_token = of_token


class MissingExtra(PicasError):
    """An optional dependency is needed and not installed."""
