"""What running a token means where it is a command, and what any work is told of its token."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from picas.credentials import split_login
from picas.errors import InfrastructureError, InvalidInput
from picas.secrecy import PASSWORD_VARIABLE, URL_VARIABLE, allow_core_files
from picas.template import render_argv

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from picas.scratch import Attempt
    from picas.tokens import Token

MAX_VARIABLE_BYTES = 100_000
"""Fields longer than this are not put into the environment: one string of it may have 128 KiB (execve(2))."""

MAX_VARIABLES_BYTES = 500_000
"""Fields together fill no more of the environment than this: all of it and the arguments may have 2 MiB."""

SETTINGS = frozenset(
    f"PICAS_{name}"
    for name in "AUTH CA CLIENT_CERT CLIENT_KEY CONFIG DEBUG INSECURE POOL SIGNING_KEY SPOOL TRUSTED_KEYS USERNAME".split()
)
"""Variables that a pilot within a token's work takes over."""

SECRETS = (PASSWORD_VARIABLE,)
"""What no work is told: programs print their environment, and what they print is kept where others can read it."""

OWN_VARIABLES = frozenset(
    (*SETTINGS, *SECRETS, *(f"PICAS_{name}" for name in "ATTEMPT CLAIM OUTPUT TOKEN_FILE TOKEN_ID".split()))
)
"""Environment variables with a meaning of their own, which no field of a token can set."""

EXHAUSTED = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""Errors that say that this machine has no room for another process."""

PROGRAM_MARKS = (b"#!", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ")
"""What a file begins with that a system can run: scripts, ELF (Linux), Mach-O (macOS), and by way of Wine."""


class CommandWork:
    """A command: an argument list with ``{field}`` in it, or by default ``bash -c "$INPUT"``.

    Args:
        argv: the command and its arguments; None for the token's own ``input`` in bash.
        pool_url: told to the command, so that it can push tokens of its own.
        hidden: variables of ours that it is not to have; ``*`` and ``?`` stand for any letters.

    Raises:
        InvalidInput: there is no such command on this machine.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]] | None,
        pool_url: str,
        hidden: Collection[str] = SECRETS,
    ) -> None:
        self.argv = None if argv is None else _absolute([_text(part) for part in argv])
        self._place = Path.cwd()
        self._environment = _encoded({**outer_environment(hidden), "PICAS_POOL": pool_url})
        self._bash = _find("bash") if argv is None else ""

    def command(self, token: Token) -> list[str]:
        """The argument list for a token.

        Raises:
            InfrastructureError: the token does not fit the command.
        """
        if self.argv is not None:
            try:
                argv = render_argv(self.argv, token.body, token.id)
            except InvalidInput as error:
                raise InfrastructureError(error.message, error.advice, of_token=True) from error
            if "/" in argv[0]:  # relative to where the pilot stands, as everywhere on a command line
                argv[0] = str(self._place / argv[0])
            return argv
        if not isinstance(token.input, str):
            raise InfrastructureError(
                f"the token's input is {_describe(token.input)}, not a shell command",
                "Give picas run a command after --, with {input} or other fields in it.",
                of_token=True,
            )
        return [self._bash, "-c", token.input]

    def start(self, attempt: Attempt) -> int:
        """Start the command in a session of its own; its pid.

        Raises:
            InfrastructureError: it cannot be started.
        """
        argv = self.command(attempt.token)
        with attempt.prepare() as (out, err):
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=attempt.work,
                    env={**self._environment, **_encoded(variables(attempt))},
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise _start_error(argv, error) from error
        allow_core_files(process.pid)
        process.returncode = 0  # the pilot waits for it by pid; Popen is not to
        return process.pid


def outer_environment(hidden: Collection[str] = SECRETS) -> dict[str, str]:
    """This process's environment, without what it says of a token that the pilot is the work of.

    Args:
        hidden: what else is left out; ``*`` and ``?`` stand for any letters. With the password, also one that is in
            the pool's URL.
    """
    inherited = {name: value for name, value in os.environ.items() if not is_hidden(name, hidden)}
    if URL_VARIABLE in inherited and PASSWORD_VARIABLE in hidden:
        inherited[URL_VARIABLE] = split_login(inherited[URL_VARIABLE])[0]
    if "PICAS_CLAIM" in inherited:
        for name in [name for name in inherited if name.startswith("PICAS_") and name not in SETTINGS]:
            del inherited[name]
    return inherited


def is_hidden(name: str, hidden: Collection[str]) -> bool:
    """Whether a variable of this name is among those that are not to be seen."""
    return any(fnmatchcase(name, pattern) for pattern in hidden)


def variables(attempt: Attempt) -> dict[str, str]:
    """The environment variables that tell the work of its token.

    Every field that is a string, a number, true or false becomes ``PICAS_<FIELD>``, unless it cannot be in
    an environment, is too long for one, or would hide a variable with a meaning of its own.
    """
    token = attempt.token
    found: dict[str, str] = {}
    room = MAX_VARIABLES_BYTES
    for name, value in token.body.items():
        if isinstance(value, str):
            text = value
        elif isinstance(value, (int, float)):  # bool is one too
            text = json.dumps(value)
        else:
            continue
        variable = _variable(name)
        size = _size(text)
        if variable not in OWN_VARIABLES and size <= min(room, MAX_VARIABLE_BYTES):
            found[variable] = text
            room -= size
    found["PICAS_TOKEN_ID"] = token.id
    found["PICAS_TOKEN_FILE"] = attempt.token_file
    found["PICAS_OUTPUT"] = attempt.output_file
    found["PICAS_ATTEMPT"] = str(token.attempt)
    found["PICAS_CLAIM"] = token.claim_id or ""
    return found


def _size(text: str) -> int:
    """Bytes of a text in an environment; more than fits for one that cannot be in it."""
    if "\0" in text:
        return MAX_VARIABLES_BYTES + 1
    try:
        return len(text) if text.isascii() else len(os.fsencode(text))
    except UnicodeEncodeError:
        return MAX_VARIABLES_BYTES + 1


@lru_cache(maxsize=1000)
def _variable(field: str) -> str:
    return "PICAS_" + _NOT_IN_NAMES.sub("_", field).upper()


_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


def _encoded(strings: Mapping[str, str]) -> dict[bytes, bytes]:
    """An environment as the system takes it: what does not change is encoded once, not for every token."""
    return {os.fsencode(name): os.fsencode(value) for name, value in strings.items()}


def _text(part: object) -> str:
    if isinstance(part, os.PathLike):
        part = os.fspath(part)
    if not isinstance(part, str):
        raise InvalidInput(f"a command is a list of strings; {part!r} is none")
    return part


def _absolute(argv: list[str]) -> list[str]:
    """The command with its program found now, from where the pilot stands: tokens run elsewhere."""
    if not argv:
        raise InvalidInput(
            "there is no command after --", "Write it there: picas run -- ./process.sh {input}"
        )
    if "{" not in argv[0]:
        argv[0] = _find(argv[0])
    return argv


def _find(program: str) -> str:
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


def _start_error(argv: Sequence[str], error: OSError | ValueError) -> InfrastructureError:
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


def _describe(value: object) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "missing" if value is None else names.get(type(value), "something else")
