"""The one place that prints. A verb returns a `View`; here it becomes text for people, or JSON.

Results go to standard output; errors, questions and progress go to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from picas.cli.text import cut, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from picas.errors import PicasError

NARROWEST = 40
"""Columns below which a terminal's width is not taken at its word."""

REFRESH_SECONDS = 0.2
"""How often a status line is written at most."""

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
_STATE_STYLES = {"todo": "blue", "locked": "yellow", "done": "green", "error": "red"}


class Screen:
    """What is known of the place that a text is printed to.

    Attributes:
        terminal: whether it is one.
        colour: whether colours are wanted there.
        width: columns of the terminal; None where lines may be as long as they are.
    """

    def __init__(self, stream: TextIO) -> None:
        self.terminal = stream.isatty()
        self.colour = self.terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.width: int | None = None
        if self.terminal:
            try:
                self.width = max(NARROWEST, os.get_terminal_size(stream.fileno()).columns)
            except OSError:
                self.width = 80

    def style(self, text: str, *names: str) -> str:
        """The text in these styles, where there are colours."""
        if not self.colour or not names:
            return text
        return f"\x1b[{';'.join(_STYLES[name] for name in names)}m{text}\x1b[0m"

    def state(self, name: str, text: str | None = None) -> str:
        """The name of a state, or a text about it, in its colour."""
        style = _STATE_STYLES.get(name)
        shown = name if text is None else text
        return self.style(shown, style) if style else shown

    def fit(self, line: str) -> str:
        """The line cut to the screen's width."""
        return line if self.width is None else cut(line, self.width)


class View:
    """What a verb found out: as data, and as lines for people. Sub-classes say both."""

    exit_code = 0

    def data(self) -> Any:
        """The documented JSON value."""
        raise NotImplementedError

    def json_lines(self) -> Iterator[str]:
        """The lines of ``--json``: one document, unless a view streams."""
        yield to_json(self.data(), indent=2)

    def lines(self, screen: Screen) -> Iterable[str]:
        """The lines for people."""
        raise NotImplementedError


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in ASCII: any terminal, pipe and encoding can take it."""
    from picas.text import deepjson  # noqa: PLC0415 - start-up

    return deepjson.dumps(value, indent=indent)


def show(view: View, *, as_json: bool) -> None:
    """Print a verb's result."""
    lines = view.json_lines() if as_json else view.lines(Screen(sys.stdout))
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """One line of result, at once."""
    write(line + "\n")


def note(line: str) -> None:
    """One line beside the result."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """Text of any length, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def raw(pieces: Iterable[bytes]) -> None:
    """Bytes as they are, to standard output."""
    sys.stdout.flush()
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def clear() -> None:
    """Empty the terminal and go to its top; nothing where there is no terminal."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[H\x1b[2J")


def fail(error: PicasError, *, as_json: bool) -> None:
    """Say what went wrong and what to do about it."""
    kind = type(error).__name__
    problem(kind, error.message, error.advice, as_json=as_json)


def problem(kind: str, message: str, advice: str, *, as_json: bool) -> None:
    """An error in words of our own."""
    if as_json:
        note(to_json({"error": {"kind": kind, "message": message, "advice": advice}}))
        return
    screen = Screen(sys.stderr)
    note(screen.style("picas:", "red", "bold") + " " + visible(message, keep="\n"))
    if advice:
        note(visible(advice, keep="\n"))


def warn(text: str, *, as_json: bool) -> None:
    """What should be known, and stops nothing."""
    note(to_json({"problem": text}) if as_json else "picas: " + visible(text))


def can_ask() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> bool:
    """Ask on the terminal; only a yes is a yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


def ask(question: str, default: str = "") -> str:
    """Ask on the terminal for a line; the default for an empty one."""
    shown = f" [{visible(default)}]" if default else ""
    sys.stderr.write(f"{question}{shown}: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip() or default


def ask_secret(question: str) -> str:
    """Ask on the terminal for what nobody is to see."""
    import getpass  # noqa: PLC0415 - start-up

    try:
        return getpass.getpass(f"{question}: ")
    except EOFError:
        return ""


def read_secret() -> str:
    """The first line of standard input, for a program that has the secret."""
    return sys.stdin.readline().rstrip("\r\n")


class StatusLine:
    """A line on a terminal's standard error that is overwritten now and then; nothing where there is none.

    Example:
        >>> with StatusLine() as line:          # doctest: +SKIP
        ...     line.update("1,000 pushed")
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._screen = Screen(self._stream)
        self._next = 0.0
        self._text = ""

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.clear()

    @property
    def shown(self) -> bool:
        """Whether there is a terminal for it, and one that can go back in a line."""
        return self._screen.terminal and os.environ.get("TERM") != "dumb"

    def update(self, text: str) -> None:
        """Show this now, unless the last text is too young."""
        if not self.shown or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH_SECONDS
        self._text = cut(text, (self._screen.width or NARROWEST) - 1)  # a full line would wrap
        self._write(f"\r\x1b[K{self._text}")

    def clear(self) -> None:
        """Take it away, so that something else can be printed."""
        if self._text:
            self._write("\r\x1b[K")
            self._text = ""

    def note(self, line: str) -> None:
        """A line that stays, in the same place."""
        self.clear()
        self._write(line + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Lines:
    """Lines of result while work goes on: nobody reading them any more is no reason to stop it."""

    def __init__(self) -> None:
        self._stream: TextIO | None = sys.stdout
        self.screen = Screen(sys.stdout)

    def say(self, line: str) -> None:
        """One line, at once."""
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._stream = None
            silence()


def silence() -> None:
    """Whoever read standard output is gone: let nothing more go there, nor complain at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def settle() -> None:
    """Bring out what is left; what cannot be (a full disk, say) is dropped, so that exiting does not fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        silence()


def prepare() -> None:
    """Make the standard streams fit for anything: closed ones lead nowhere, and no letter is an error."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - as long as the process
            setattr(sys, name, stream)
        # A name that the terminal's encoding lacks must not end a listing.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
