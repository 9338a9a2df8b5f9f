"""The entry point: start quickly, and turn whatever ends a verb into a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from picas import _version, bundling
from picas.cli import output
from picas.errors import InvalidInput, MissingExtra, PicasError
from picas.trust import secrecy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAILED = 1
USAGE = 2
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE

DEBUG_VARIABLE = "PICAS_DEBUG"
"""Set to anything, it shows the traceback of an unexpected error."""


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run a command line; its exit code."""
    output.prepare()
    secrecy.cover(args)
    secrecy.no_core_files()
    own = list(args[: args.index("--")]) if "--" in args else list(args)
    return guarded(lambda: _dispatch(list(args) or ["--help"]), as_json="--json" in own)


def _dispatch(args: list[str]) -> int:
    if args == ["--version"]:  # asked often, by scripts and people: answered before anything is loaded
        output.say(f"picas {_version.__version__}")
        return 0
    from picas.cli import group  # noqa: PLC0415 - start-up: click takes longer than Python itself

    return group.invoke(args)


def guarded(action: Callable[[], int], *, as_json: bool) -> int:
    """Do what a command line means; what ends it becomes a message and an exit code."""
    try:
        return action()
    except PicasError as error:
        if isinstance(error, MissingExtra) and bundling.is_bundled():
            error.advice = (
                "A bundle holds pure Python alone, and this is not. What is installed for the Python that runs the bundle "
                f"is found too; for it: {error.advice}"
            )
        output.fail(error, as_json=as_json)
        return USAGE if isinstance(error, InvalidInput) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        output.silence()
        return PIPE_CLOSED
    except OSError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        output.settle()
        output.problem("OSError", str(error), f"{DEBUG_VARIABLE}=1 shows where.", as_json=as_json)
        return FAILED
    except Exception as error:  # the last resort: nobody is shown a bare traceback
        if os.environ.get(DEBUG_VARIABLE):
            raise
        output.problem(
            "InternalError",
            f"{type(error).__name__}: {error}",
            f"That should not have happened. {DEBUG_VARIABLE}=1 shows where; please report it.",
            as_json=as_json,
        )
        return INTERNAL
