"""What running a token means: a command with the token's fields in it, or a function of the token."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
import warnings
from functools import lru_cache
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Union

from picas.errors import InfrastructureError, InvalidInput
from picas.payload import Payload, file_payload
from picas.scratch import Attempt, scratch_error
from picas.template import render_argv
from picas.tokens import check_id, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from picas.tokens import Token

    WorkLike = Union[None, str, Sequence[str], Callable[..., object]]

MAX_VARIABLE_BYTES = 100_000
"""Fields longer than this are not put into the environment: one string of it may have 128 KiB (execve(2))."""

OWN_VARIABLES = frozenset(
    f"PICAS_{name}"
    for name in "ATTEMPT CLAIM CONFIG DEBUG OUTPUT PASSWORD POOL SPOOL TOKEN_FILE TOKEN_ID USERNAME".split()
)
"""Environment variables with a meaning of their own, which no field of a token can set."""

EXIT_FUNCTION_RAISED = 1
"""Exit code of an attempt whose function raised an exception, as of a Python program that does."""


class Job:
    """What a function may use beside its token, if it takes a second argument.

    Example:
        >>> def work(token, job):
        ...     (job.scratch / "table.txt").write_text("1 2 3")
        ...     job.attach("table.txt", job.scratch / "table.txt")
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def scratch(self) -> Path:
        """The attempt's own directory; made when first asked for, removed after the attempt."""
        if not self._attempt.made:
            self._attempt.make()
        return Path(self._attempt.work)

    def attach(self, name: str, data: bytes | str | os.PathLike[str]) -> None:
        """Attach bytes, or a file by its path, to the token when the function has returned.

        Args:
            name: the attachment's name; may hold ``/``.
            data: bytes as they are; a string or path names a file.

        Raises:
            InvalidInput: the name cannot be one.
            OSError: the file cannot be read.
        """
        import mimetypes  # noqa: PLC0415 - reads the system's tables, and most functions attach nothing

        check_id(name)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if isinstance(data, bytes):
            self._attempt.files.append(Payload(name, kind, (data,) if data else ()))
        else:
            self._attempt.files.append(file_payload(name, kind, Path(data)))


class CommandWork:
    """A command: an argument list with ``{field}`` in it, or by default ``bash -c "$INPUT"``.

    Args:
        argv: the command and its arguments; None for the token's own ``input`` in bash.
        pool_url: told to the command, so that it can push tokens of its own.

    Raises:
        InvalidInput: there is no such command on this machine.
    """

    def __init__(self, argv: Sequence[str] | None, pool_url: str) -> None:
        self.argv = None if argv is None else _absolute(list(argv))
        self._environment = _encoded({**os.environ, "PICAS_POOL": pool_url})
        self._bash = _find("bash") if argv is None else ""

    def command(self, token: Token) -> list[str]:
        """The argument list for a token.

        Raises:
            InfrastructureError: the token does not fit the command.
        """
        if self.argv is not None:
            try:
                return render_argv(self.argv, token.body, token.id)
            except InvalidInput as error:
                raise InfrastructureError(error.message, error.advice) from error
        if not isinstance(token.input, str):
            raise InfrastructureError(
                f"the token's input is {_describe(token.input)}, not a shell command",
                "Give picas run a command after --, with {input} or other fields in it.",
            )
        return [self._bash, "-c", token.input]

    def start(self, attempt: Attempt) -> int:
        """Start the command in a session of its own; its pid.

        Raises:
            InfrastructureError: it cannot be started.
        """
        argv = self.command(attempt.token)
        attempt.make()
        attempt.write_token()
        with _log_files(attempt) as (out, err):
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
        process.returncode = 0  # the pilot waits for it by pid; Popen is not to
        return process.pid


class FunctionWork:
    """A Python function of a token, and of a `Job` if it takes two arguments."""

    def __init__(self, function: Callable[..., object], pool_url: str) -> None:
        self.function = function
        self._pool_url = pool_url
        self._takes_job = _takes_two(function)

    def call(self, attempt: Attempt) -> dict[str, Any] | None:
        """Call the function in this process; its return value as the token's output.

        Raises:
            InvalidInput: it returned something that JSON cannot say.
            BaseException: whatever the function raised.
        """
        value = (
            self.function(attempt.token, Job(attempt)) if self._takes_job else self.function(attempt.token)
        )
        return as_output(value)

    def start(self, attempt: Attempt) -> int:
        """Call the function in a child process with files for its output; the child's pid.

        The child is forked, so that any function will do, also one that cannot be named from outside. It
        runs nothing but the function, and never returns.
        """
        attempt.make()
        attempt.write_token()
        with _log_files(attempt) as (out, err):
            sys.stdout.flush()
            sys.stderr.flush()
            with warnings.catch_warnings():
                # Python warns of forking beside threads. The child takes no lock that ours could hold: it
                # replaces the standard streams, never touches the pool, and leaves by _exit.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._child(attempt, out, err)
        return pid

    def _child(self, attempt: Attempt, out: int, err: int) -> None:
        code = EXIT_FUNCTION_RAISED
        try:
            os.setsid()
            _restore_signals()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            # Whatever a notebook or a test put there, the child's output goes to its files.
            sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            os.environ.update(variables(attempt), PICAS_POOL=self._pool_url)
            os.chdir(attempt.work)
            output = self.call(attempt)
            if output:
                Path(attempt.output_file).write_text(encode_json(output), "ascii")
            for payload in attempt.files:
                target = Path(attempt.attached, payload.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(payload.read())
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001 - whatever it was, it is the function's end and goes to its log
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code & 0xFF)


def as_output(value: object) -> dict[str, Any] | None:
    """A function's return value as a token's ``output``: an object as it is, anything else under ``result``.

    Raises:
        InvalidInput: JSON cannot say it.
    """
    if value is None:
        return None
    output = value if isinstance(value, dict) else {"result": value}
    encode_json(output)
    return output


def variables(attempt: Attempt) -> dict[str, str]:
    """The environment variables that tell the work of its token.

    Every field that is a string, a number, true or false becomes ``PICAS_<FIELD>``, unless it is too long
    for an environment or would hide a variable with a meaning of its own.
    """
    token = attempt.token
    found: dict[str, str] = {}
    for name, value in token.body.items():
        if isinstance(value, str):
            text = value
        elif isinstance(value, (int, float)):  # bool is one too
            text = json.dumps(value)
        else:
            continue
        variable = _variable(name)
        if variable not in OWN_VARIABLES and "\0" not in text and len(text) <= MAX_VARIABLE_BYTES:
            found[variable] = text
    found["PICAS_TOKEN_ID"] = token.id
    found["PICAS_TOKEN_FILE"] = attempt.token_file
    found["PICAS_OUTPUT"] = attempt.output_file
    found["PICAS_ATTEMPT"] = str(token.attempt)
    found["PICAS_CLAIM"] = token.claim_id or ""
    return found


@lru_cache(maxsize=1000)
def _variable(field: str) -> str:
    return "PICAS_" + _NOT_IN_NAMES.sub("_", field).upper()


_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


def _encoded(strings: Mapping[str, str]) -> dict[bytes, bytes]:
    """An environment as the system takes it: what does not change is encoded once, not for every token."""
    return {os.fsencode(name): os.fsencode(value) for name, value in strings.items()}


class _log_files:  # noqa: N801 - used as a function
    """The attempt's two log files, open for writing while the child starts."""

    def __init__(self, attempt: Attempt) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        try:
            self._out = os.open(attempt.stdout, flags, 0o600)
            self._err = os.open(attempt.stderr, flags, 0o600)
        except OSError as error:
            raise scratch_error(attempt.directory, error) from error

    def __enter__(self) -> tuple[int, int]:
        return self._out, self._err

    def __exit__(self, *exc: object) -> None:
        os.close(self._out)
        os.close(self._err)


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
        return os.path.abspath(found)
    if os.path.isfile(program):
        raise InvalidInput(f"{program} is not executable", f"Make it so: chmod +x {program}")
    raise InvalidInput(
        f"there is no command '{program}' on this machine",
        "Check the spelling and PATH. No token was touched.",
    )


def _start_error(argv: Sequence[str], error: OSError | ValueError) -> InfrastructureError:
    program = argv[0] if argv else ""
    if isinstance(error, FileNotFoundError):
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
        )
    if isinstance(error, ValueError):
        return InfrastructureError(f"the command line cannot be used: {error}")
    return InfrastructureError(f"{program} cannot be started: {error.strerror}")


def _describe(value: object) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "missing" if value is None else names.get(type(value), "something else")


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in that does not tell
        return False
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is Parameter.empty]
    return len(needed) >= 2


def _restore_signals() -> None:
    import signal  # noqa: PLC0415 - in the child only

    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
