"""The process of an attempt that stages: it fetches, runs the work, and brings away what that made.

It leads the attempt's group in place of the work. What the work's end would be is its own: the same exit code, or the
same signal. A program of its own and no thread of the pilot, so that everything that stops the attempt stops it too.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.programs import start_error
from picas.staging import EXIT_NOT_MADE, EXIT_STAGING, STAGED
from picas.staging.plan import Item
from picas.staging.transfer import Means, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from picas.errors import InfrastructureError
    from picas.staging.places import Place
    from picas.staging.transfer import Carrier

PARTS = "staging"
"""The folder in an attempt's directory where files grow that are being fetched."""

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_LEFT_ALONE = frozenset(
    getattr(signal, f"SIG{name}")
    for name in "KILL STOP CHLD CONT TSTP TTIN TTOU PIPE SEGV BUS FPE ILL ABRT TRAP SYS XFSZ".split()
)
"""Signals that nobody sends to warn work of something."""


_MEANINGLESS = frozenset((signal.SIGURG, signal.SIGWINCH))
"""Signals that change nothing where nobody expects them."""


class Stopped(BaseException):
    """The attempt is to end while something is being staged."""


class Stage:
    """An attempt as this process knows it.

    Args:
        told: what the pilot says of it; see `picas.staging.launch`.
        directory: the attempt's.
    """

    def __init__(self, told: dict[str, Any], directory: Path) -> None:
        self._told = told
        self._directory = directory
        self._work = Path(told["work"])
        self._means = Means(
            self._choose, told["tries"], say, tuple(told["pauses"]), foreign=bool(told["command"])
        )
        self._carriers: dict[str, Carrier] = {}
        self._found: dict[str, Any] = {"phase": "", "problem": "", "works": False, "uploads": {}}
        self._signal: int = 0  # the last that said to stop
        self._moving = False
        self._begun = not told["in"]  # the work, or what comes after it

    def run(self) -> int:
        """Do all of it; the exit code of this process."""
        for number in signal.valid_signals():
            usual = signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
            if usual and number not in _LEFT_ALONE:
                signal.signal(number, self._on_signal)
        try:
            self._fetch()
            code = self._run_work() if self._told["argv"] else 0
            if code == 0 and not self._is_stopped():
                self._bring()
        except TransferError as error:
            advice = f". {error.advice}" if error.advice else ""
            return self._failed(f"{error.message}{advice}")
        except OSError as error:
            return self._failed(f"staging failed: {error}")
        except NotMade as error:
            self._failed(str(error), works=True)
            return EXIT_NOT_MADE
        except Stopped:
            die_by(self._signal)
            return 128 + self._signal
        return code

    def _failed(self, problem: str, *, works: bool = False) -> int:
        """Note why it did not work; the exit code."""
        say(problem)
        with suppress(OSError):  # the disk may be full; the log has it
            self._note(problem=problem, works=works)
        return EXIT_STAGING

    def _note(self, **found: Any) -> None:
        """Leave for the pilot what is known so far."""
        self._found.update(found)
        new = self._directory / f"{STAGED}.new"
        new.write_text(json.dumps(self._found), "ascii")
        new.replace(self._directory / STAGED)

    # --- Before and after the work ---

    def _fetch(self) -> None:
        items = [Item(**item) for item in self._told["in"]]
        if not items:
            return
        self._note(phase="in")
        parts = self._directory / PARTS
        parts.mkdir(0o700, exist_ok=True)
        for number, item in enumerate(items):
            part = parts / str(number)
            with self._may_be_stopped():
                self._means.fetch(item, part)
                self._place(part, item)
        with suppress(OSError):
            parts.rmdir()
        self._note(phase="")

    def _place(self, part: Path, item: Item) -> None:
        """Put a file that was fetched where the work will look for it."""
        target = self._work / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_inside(target.parent) or target.is_dir():
            raise TransferError(f"{item.path} cannot be written in the token's directory")
        part.replace(target)

    def _bring(self) -> None:
        items = [Item(**item) for item in self._told["out"]]
        if not items:
            return
        self._note(phase="out")
        for item in items:
            for path in self._made(item):
                name = path.relative_to(self._work).as_posix()
                url = item.url + path.name if item.is_pattern else item.url
                with self._may_be_stopped():
                    noted = self._means.deliver(item, url, path)
                self._note(uploads={**self._found["uploads"], name: noted})
        self._note(phase="")

    def _made(self, item: Item) -> list[Path]:
        """The files that the work made.

        Raises:
            NotMade: there are none.
        """
        if item.is_pattern:
            found = sorted(path for path in self._work.glob(item.path) if path.is_file())
        else:
            found = [self._work / item.path]
        for path in found:
            if not path.is_file() or not self._is_inside(path):
                raise NotMade(f"the work ended well, but there is no file {item.path} to stage out")
        if not found:
            raise NotMade(f"the work ended well, but no file is like {item.path}, which was to be staged out")
        return found

    def _is_inside(self, path: Path) -> bool:
        """Whether what is there, behind all links, is in the token's directory."""
        real, work = os.path.realpath(path), os.path.realpath(self._work)
        return real == work or real.startswith(work + os.sep)

    def _choose(self, place: Place) -> Carrier:
        kind = "tool" if self._told["command"] else "http" if place.is_http else place.scheme
        if kind not in self._carriers:
            self._carriers[kind] = _carrier(kind, self._told["command"])
        return self._carriers[kind]

    # --- The work ---

    def _run_work(self) -> int:
        if self._is_stopped():
            raise Stopped
        self._begun = True
        hidden = set(self._told["hidden"])
        argv = self._told["argv"]
        environment = {name: value for name, value in os.environb.items() if os.fsdecode(name) not in hidden}
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, cwd=self._work, env=environment)
        except (OSError, ValueError) as error:
            problem = start_error(argv, error)
            return self._not_started(problem)
        if self._is_stopped():  # it came too early for the work
            process.send_signal(self._signal)
        code = process.wait()
        if code >= 0:
            return code
        die_by(-code)
        return 128 - code

    def _not_started(self, problem: InfrastructureError) -> int:
        self._failed(problem.message if not problem.advice else f"{problem.message}. {problem.advice}")
        return problem.exit_code

    # --- Signals ---

    def _is_stopped(self) -> bool:
        """Whether the attempt is to end; a signal may say so at any moment."""
        return self._signal != 0

    @contextmanager
    def _may_be_stopped(self) -> Iterator[None]:
        """What is done in here ends at once when the attempt is to end."""
        self._moving = True
        try:
            if self._is_stopped():
                raise Stopped
            yield
        finally:
            self._moving = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The work gets it too, and says by its end what it makes of it.

        One that warns of the end of the time is not for us, unless the work has not begun: then it does not any more.
        """
        if number not in _STOP and (self._begun or number in _MEANINGLESS):
            return
        self._signal = number
        if self._moving:
            self._moving = False
            raise Stopped


class NotMade(Exception):
    """The work did not make what it was to make: its own fault."""


def die_by(number: int) -> None:
    """End as the work has ended, so that the pilot sees it; without a core file, which is the work's to leave."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def say(text: str) -> None:
    """A line for the attempt's log."""
    sys.stderr.write(f"picas: {text}\n")
    sys.stderr.flush()


def _carrier(kind: str, command: list[str]) -> Carrier:
    """What speaks to places of this kind; only what is wanted is loaded."""
    if kind == "tool":
        from picas.staging.tool import Tool  # noqa: PLC0415

        return Tool(command)
    if kind == "http":
        from picas.staging.access import Access  # noqa: PLC0415
        from picas.staging.http import Http  # noqa: PLC0415

        return Http(Access())
    if kind == "file":
        from picas.staging.local import Local  # noqa: PLC0415

        return Local()
    from picas.staging.remote import Remote  # noqa: PLC0415

    return Remote()


def main() -> None:
    """Run as a program: ``DIRECTORY`` in the arguments, what the pilot says in the standard input."""
    told = json.load(sys.stdin)
    sys.exit(Stage(told, Path(sys.argv[1])).run())
