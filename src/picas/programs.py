"""Programs: found before anything is begun, and what is wrong with one that cannot be started."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InfrastructureError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

EXHAUSTED = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""Errors that say that this machine has no room for another process."""

PROGRAM_MARKS = (b"#!", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ")
"""What a file begins with that a system can run: scripts, ELF (Linux), Mach-O (macOS), and by way of Wine."""


def find(program: str) -> str:
    """The absolute path of a program, as a shell finds it from where this process stands.

    Raises:
        InvalidInput: there is none of that name on this machine, or it cannot be run.
    """
    found = shutil.which(program)
    if found:
        found = os.path.abspath(found)
        wrong, advice = _wrong_with(found)
        if wrong:
            raise InvalidInput(f"{program} {wrong}", f"{advice} No token was touched.")
        return found
    if os.path.isfile(program):
        raise InvalidInput(f"{program} is not executable", f"Make it so: chmod +x {program}")
    raise InvalidInput(
        f"there is no command '{program}' on this machine",
        "Check the spelling and PATH. No token was touched.",
    )


def _wrong_with(program: str) -> tuple[str, str]:
    """Why the system would not run this executable file, and what to do; empty if nothing speaks against it."""
    try:
        with open(program, "rb") as file:
            beginning = file.read(1024)
    except OSError:  # executable, but not readable: that is allowed
        return "", ""
    if not beginning.startswith(PROGRAM_MARKS):
        if b"\0" in beginning:  # of a kind that this system may have been taught
            return "", ""
        return "is not a program", "If it is a script, its first line must say for what: #!/bin/bash."
    if beginning.startswith(b"#!"):
        line = beginning[2:].split(b"\n", 1)[0]
        interpreter = os.fsdecode(line.strip(b" \t").split(b" ")[0].split(b"\t")[0])
        if interpreter.endswith("\r"):
            return "has lines that end as on Windows", "Mend it: sed -i 's/\\r$//' FILE."
        if not Path(interpreter).exists():
            return (
                f"is a script for {interpreter}, which is not there",
                "Correct its first line, or try #!/usr/bin/env NAME.",
            )
    return "", ""


def start_error(argv: Sequence[str], error: OSError | ValueError) -> InfrastructureError:
    """Our error for one that came of starting a command."""
    program = argv[0] if argv else ""
    if isinstance(error, FileNotFoundError):
        wrong, advice = _wrong_with(program) if os.path.lexists(program) else ("", "")
        if wrong:
            return InfrastructureError(f"{program} {wrong}", advice, 127)
        return InfrastructureError(f"there is no command '{program}'", "Check its name and PATH.", 127)
    if isinstance(error, PermissionError):
        return InfrastructureError(f"{program} is not executable", f"Make it so: chmod +x {program}")
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return InfrastructureError(
            f"{program} is not a program", "If it is a script, its first line must say for what: #!/bin/bash"
        )
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        longest = max(len(os.fsencode(part)) for part in argv)
        return InfrastructureError(
            f"the command line is too long for this system (its longest argument has {longest:,} bytes)",
            "Let the command read the token's document instead: its path is in $PICAS_TOKEN_FILE.",
            of_token=True,
        )
    if isinstance(error, ValueError):
        return InfrastructureError(f"the command line cannot be used: {error}", of_token=True)
    return InfrastructureError(
        f"{program} cannot be started: {error.strerror}", of_machine=error.errno in EXHAUSTED
    )
