"""What running a token means where it is a Python function: in the pilot's process, or in a child of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from dataclasses import replace
from inspect import Parameter, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TextIO, Union

from picas.errors import InfrastructureError, InvalidInput
from picas.payload import Payload, file_payload
from picas.tokens import check_id, encode_json, log_names
from picas.work.children import name_process
from picas.work.command import SECRETS, Stager, outer_environment, variables

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from picas.staging.launch import Errand
    from picas.tokens import Token
    from picas.work.scratch import Attempt

    WorkLike = Union[None, str, Sequence[Union[str, os.PathLike[str]]], Callable[..., object]]

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

        if check_id(name) in log_names(self._attempt.token.id):
            raise InvalidInput(f"the name {name} belongs to the token's own log", "Choose another one.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if isinstance(data, bytes):
            self._attempt.files.append(Payload(name, kind, (data,) if data else ()))
        else:
            self._attempt.files.append(file_payload(name, kind, Path(data)))


class FunctionWork:
    """A Python function of a token, and of a `Job` if it takes two arguments.

    Args:
        hidden: variables that it is not to see, where it has a process of its own; as of `picas.work.command.CommandWork`.
        stager: what fetches and brings away files for it; it then has a process of its own.

    Raises:
        InvalidInput: it is a function of a kind that does nothing by being called.
    """

    def __init__(
        self,
        function: Callable[..., object],
        pool_url: str,
        hidden: Collection[str] = SECRETS,
        stager: Stager | None = None,
    ) -> None:
        if iscoroutinefunction(function) or isgeneratorfunction(function) or isasyncgenfunction(function):
            raise InvalidInput(
                f"{function!r} cannot be the work: calling it runs nothing, it is a generator or a coroutine",
                "Give a plain function; within it, list(...) or asyncio.run(...) runs the other one.",
            )
        self.function = function
        self.container: None = None  # it is no command
        self._pool_url = pool_url
        self._hidden = hidden
        self._takes_job = _takes_two(function)
        self._stager = stager if stager is not None else Stager(None, pool_url, hidden)

    def call(self, attempt: Attempt) -> dict[str, Any] | None:
        """Call the function in this process; its return value as the token's output.

        Raises:
            InvalidInput: it returned something that JSON cannot say.
            BaseException: whatever the function raised.
        """
        token = _own(attempt.token)
        return as_output(self.function(token, Job(attempt)) if self._takes_job else self.function(token))

    def is_staged(self, token: Token) -> bool:
        """Whether something is to be fetched or brought away for a token."""
        return self._stager.has_for(token)

    def start(self, attempt: Attempt) -> int:
        """Call the function in a child process with files for its output; the child's pid.

        The child is forked, so that any function will do, also one that cannot be named from outside. It
        runs nothing but the function, and never returns.
        """
        errand = self._stager.errand(attempt) if self.is_staged(attempt.token) else None
        with attempt.prepare() as (out, err):
            sys.stdout.flush()
            sys.stderr.flush()
            with warnings.catch_warnings():
                # Python warns of forking beside threads. The child takes no lock that ours could hold: it
                # replaces the standard streams, never touches the pool, and leaves by _exit.
                warnings.simplefilter("ignore", DeprecationWarning)
                try:
                    pid = os.fork()
                except OSError as error:
                    raise InfrastructureError(
                        f"no process can be made for the function: {error.strerror}", of_machine=True
                    ) from error
            if pid == 0:
                self._child(attempt, out, err, errand)
        return pid

    def _child(self, attempt: Attempt, out: int, err: int, errand: Errand | None) -> None:
        code = EXIT_FUNCTION_RAISED
        try:
            self._settle_in(attempt, out, err)
            code = self._call_staged(attempt, errand)
        except BaseException as error:  # noqa: BLE001 - whatever it was, it is the function's end
            code, message, exception = told(error)
            sys.stderr.write(exception)
            if code:
                Path(attempt.raised).write_text(json.dumps({"message": message, "exception": exception}))
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _call_staged(self, attempt: Attempt, errand: Errand | None) -> int:
        """Call the function between fetching and bringing away; the exit code."""
        environment = {**self._stager.environment, **os.environb}
        code = errand.run_fetch(environment) if errand is not None else 0
        if code:
            return code
        try:
            output = self.call(attempt)
        finally:
            _leave_files(attempt)
        if output:
            Path(attempt.output_file).write_text(encode_json(output), "ascii")
        return errand.run_bring(environment) if errand is not None else 0

    def _settle_in(self, attempt: Attempt, out: int, err: int) -> None:
        """Make a forked copy of the pilot into a process of the attempt's own."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        name_process(attempt.token.claim_id or "")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        # Whatever a notebook or a test put there, the child's streams are its files; line by line, so that
        # a function that is stopped has said what it said.
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = _text_file(1), _text_file(2)
        for name in os.environ.keys() - outer_environment(self._hidden).keys():
            del os.environ[name]
        os.environ.update(variables(attempt), PICAS_POOL=self._pool_url)
        os.chdir(attempt.work)
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:  # else all children draw the same numbers; Python's own random sees to itself
            numpy.seed()


def _text_file(number: int) -> TextIO:
    return open(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def as_output(value: object) -> dict[str, Any] | None:
    """A function's return value as a token's ``output``: an object as it is, anything else under ``result``.

    Raises:
        InvalidInput: JSON cannot say it.
    """
    if value is None:
        return None
    output = value if isinstance(value, dict) else {"result": value}
    # A copy: the function may return the same object for the next token, with something else in it.
    copy: dict[str, Any] = json.loads(encode_json(output))
    return copy


def told(error: BaseException) -> tuple[int, str, str]:
    """What a function's exception means: exit code, message, and the text for the error output.

    `SystemExit` means what it means in a program: its code, 0 if it has none, or its text and 1.
    """
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            code = (error.code or 0) & 0xFF
            return code, f"exit code {code}" if code else "", ""
        return EXIT_FUNCTION_RAISED, *_lines(str(error.code))
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    last = traceback.format_exception_only(type(error), error)[-1]
    return EXIT_FUNCTION_RAISED, _lines(last)[0], text


def _lines(text: str) -> tuple[str, str]:
    """The first line of a text, and the text with an end to its last line."""
    return text.strip().partition("\n")[0], text.rstrip("\n") + "\n"


def _own(token: Token) -> Token:
    """The token for a function to do with what it likes: what it changes does not go back to the pool."""
    body = {
        name: json.loads(encode_json(value)) if isinstance(value, (dict, list)) and name != "picas" else value
        for name, value in token.body.items()
    }
    return replace(token, body=body)


def _leave_files(attempt: Attempt) -> None:
    """Put what the function attached where the pilot finds it."""
    if not attempt.files:
        return
    index = []
    os.mkdir(attempt.attached)
    for number, payload in enumerate(attempt.files):
        with open(f"{attempt.attached}/{number}", "wb") as file:
            file.writelines(payload.chunks())
        index.append({"name": payload.name, "content_type": payload.content_type})
    Path(attempt.attached, "index.json").write_text(json.dumps(index))


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in that does not tell
        return False
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is Parameter.empty]
    return len(needed) >= 2
