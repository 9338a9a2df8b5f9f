"""What running a token means where it is a command, and what any work is told of its token."""

from __future__ import annotations

import json
import os
import re
import subprocess
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InfrastructureError, InvalidInput
from picas.programs import find, start_error
from picas.settings.credentials import split_login
from picas.staging import IN, OUT, is_wanted
from picas.text.template import render_argv
from picas.trust.secrecy import PASSWORD_VARIABLE, URL_VARIABLE, allow_core_files

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from picas.staging.launch import Errand
    from picas.staging.plan import Staging
    from picas.tokens import Token
    from picas.work.containers import Container
    from picas.work.scratch import Attempt

MAX_VARIABLE_BYTES = 100_000
"""Fields longer than this are not put into the environment: one string of it may have 128 KiB (execve(2))."""

MAX_VARIABLES_BYTES = 500_000
"""Fields together fill no more of the environment than this: all of it and the arguments may have 2 MiB."""

SETTINGS = frozenset(
    f"PICAS_{name}"
    for name in "AUTH BUNDLE BUNDLE_FILES CA CLIENT_CERT CLIENT_KEY CONFIG DEBUG INSECURE POOL SIGNING_KEY SPOOL TRUSTED_KEYS USERNAME".split()
)
"""Variables that a pilot within a token's work takes over."""

SECRETS = (PASSWORD_VARIABLE,)
"""What no work is told: programs print their environment, and what they print is kept where others can read it."""

OWN_VARIABLES = frozenset(
    (*SETTINGS, *SECRETS, *(f"PICAS_{name}" for name in "ATTEMPT CLAIM OUTPUT TOKEN_FILE TOKEN_ID".split()))
)
"""Environment variables with a meaning of their own, which no field of a token can set."""


class CommandWork:
    """A command: an argument list with ``{field}`` in it, or by default ``bash -c "$INPUT"``.

    Args:
        argv: the command and its arguments; None for the token's own ``input`` in bash.
        pool_url: told to the command, so that it can push tokens of its own.
        hidden: variables of ours that it is not to have; ``*`` and ``?`` stand for any letters.
        container: what it runs in; None for this machine itself.
        stager: what fetches and brings away files for it.

    Raises:
        InvalidInput: there is no such command on this machine.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]] | None,
        pool_url: str,
        hidden: Collection[str] = SECRETS,
        container: Container | None = None,
        stager: Stager | None = None,
    ) -> None:
        self.container = container
        self._stager = stager if stager is not None else Stager(None, pool_url, hidden)
        self.argv = None if argv is None else _checked([_text(part) for part in argv])
        if self.argv is not None and container is None and "{" not in self.argv[0]:
            self.argv[0] = find(self.argv[0])  # now, from where the pilot stands: tokens run elsewhere
        self._place = Path.cwd()
        self._environment = _encoded({**outer_environment(hidden), "PICAS_POOL": pool_url})
        self._bash = find("bash") if argv is None and container is None else ""

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
            if (
                "/" in argv[0] and self.container is None
            ):  # relative to where the pilot stands, as everywhere on a command line
                argv[0] = str(self._place / argv[0])
            return argv
        if not isinstance(token.input, str):
            raise InfrastructureError(
                f"the token's input is {_describe(token.input)}, not a shell command",
                "Give picas run a command after --, with {input} or other fields in it.",
                of_token=True,
            )
        if self.container is not None:
            return self.container.shell(token.input)
        return [self._bash, "-c", token.input]

    def start(self, attempt: Attempt) -> int:
        """Start the command in a session of its own; its pid.

        Raises:
            InfrastructureError: it cannot be started.
        """
        argv = self.command(attempt.token)
        told = variables(attempt)
        environment = {**self._environment, **_encoded(told)}
        if self.container is not None:
            argv = self._contained(attempt, self.container, argv, told, environment)
        errand = self._stager.errand(attempt) if self._stager.has_for(attempt.token) else None
        with attempt.prepare() as (out, err):
            if errand is not None:
                return self._start_staged(errand, argv, environment, out, err)
            return _started(argv, environment, subprocess.DEVNULL, out, err, attempt.work)

    def _contained(
        self,
        attempt: Attempt,
        container: Container,
        argv: list[str],
        told: dict[str, str],
        environment: dict[bytes, bytes],
    ) -> list[str]:
        """The command line that runs the command in the container, whose own variables are added to the environment."""
        told = {**told, URL_VARIABLE: os.fsdecode(self._environment[URL_VARIABLE.encode()])}
        environment.update(_encoded(container.environment(told)))
        claim = attempt.token.claim_id or ""
        return container.argv(argv, attempt.directory, attempt.work, claim, told)

    def _start_staged(
        self, errand: Errand, argv: list[str], environment: dict[bytes, bytes], out: int, err: int
    ) -> int:
        """Start the process that stages, which then runs the command."""
        all_of_it = {**self._stager.environment, **environment}
        hidden = [os.fsdecode(name) for name in all_of_it.keys() - environment.keys()]
        with errand.told(argv, hidden) as told:
            return _started(errand.argv, all_of_it, told.fileno(), out, err, None)


class Stager:
    """Knows which tokens have something staged, and how; the rest is loaded for the first that has.

    Args:
        staging: what the pilot's owner wants and allows; None for no more than tokens may have by themselves.
        pool_url: told to what copies.
        hidden: variables that the work is not to have. What copies has all but ours: credentials may be among them.
        trusted: tokens may name any place.
    """

    def __init__(
        self, staging: Staging | None, pool_url: str, hidden: Collection[str], *, trusted: bool = False
    ) -> None:
        self._staging = staging
        self._for_all = staging is not None and staging.for_all
        self._trusted = trusted
        ours = tuple(name for name in hidden if name in SECRETS)
        self.environment = _encoded({**outer_environment(ours), URL_VARIABLE: pool_url})

    def has_for(self, token: Token) -> bool:
        """Whether a token has something to be staged."""
        return self._for_all or is_wanted(token.body)

    def errand(self, attempt: Attempt) -> Errand:
        """What is staged for an attempt.

        Raises:
            InfrastructureError: its token asks for what cannot be, or what it may not have.
        """
        from picas.staging.launch import Errand  # noqa: PLC0415 - most tokens have nothing staged
        from picas.staging.plan import Staging  # noqa: PLC0415

        staging = self._staging = self._staging or Staging()
        token, trusted = attempt.token, self._trusted
        fetch = staging.items(token, IN, trusted=trusted)
        return Errand(
            staging, attempt.directory, attempt.work, fetch, staging.items(token, OUT, trusted=trusted)
        )


def _started(
    argv: Sequence[str],
    environment: Mapping[bytes, bytes],
    stdin: int,
    out: int,
    err: int,
    place: str | None,
) -> int:
    """Start a process in a session of its own; its pid.

    Raises:
        InfrastructureError: it cannot be started.
    """
    try:
        process = subprocess.Popen(
            argv, stdin=stdin, stdout=out, stderr=err, cwd=place, env=environment, start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise start_error(argv, error) from error
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


def _checked(argv: list[str]) -> list[str]:
    if not argv:
        raise InvalidInput(
            "there is no command after --", "Write it there: picas run -- ./process.sh {input}"
        )
    return argv


def _describe(value: object) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "missing" if value is None else names.get(type(value), "something else")
