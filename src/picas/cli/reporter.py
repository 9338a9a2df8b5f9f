"""What a person sees of a pilot while it runs: a line that is kept up to date, or a line per token."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from picas.cli import output, text
from picas.finishing import Verdict
from picas.tokens import Failure

if TYPE_CHECKING:
    from types import TracebackType

    from picas.pilot.summary import Event

REPEAT_SECONDS = 60.0
"""How long the same problem is not told again."""


class Reporter:
    """Takes the events of a pilot, from any thread.

    Args:
        verbose: a line for each token, in place of the one line.
        quiet: only problems, as JSON.
    """

    def __init__(self, *, verbose: bool, quiet: bool) -> None:
        # Opened now: while a function runs in this process, the standard streams are its own.
        self._out = output.Lines()
        self._line = output.StatusLine()
        self._quiet = quiet
        self._verbose = verbose and not quiet
        self._with_line = self._line.shown and not verbose and not quiet
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="picas-status", daemon=True)
        self._began = time.monotonic()
        self._started = self._ended = self._failed = 0
        self._last_problem = ("", 0.0)

    def __enter__(self) -> Reporter:
        if self._with_line:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._with_line:
            self._ticker.join()
        self._line.clear()

    def __call__(self, event: Event) -> None:
        """Note an event, and tell it if it is to be told."""
        with self._lock:
            if event.kind == "started":
                self._started += 1
            elif event.kind == "finished":
                self._finished(event)
            elif event.kind == "problem":
                self._problem(event.message)
            elif self._verbose and event.message:
                self._tell(event.message)

    def _finished(self, event: Event) -> None:
        outcome, token = event.outcome, event.token
        if outcome is None or token is None:
            return
        self._ended += 1
        failed = outcome.failure is not None and not _is_put_back(event)
        self._failed += failed
        if self._verbose:
            self._tell(self._token_line(event))
        if failed and outcome.kept and not self._quiet:
            self._tell(f"{text.visible(token.id)}: its directory is kept: {text.visible(outcome.kept)}")

    def _token_line(self, event: Event) -> str:
        outcome, token = event.outcome, event.token
        assert outcome is not None
        assert token is not None
        screen = self._out.screen
        parts = [time.strftime("%H:%M:%S"), text.visible(token.id)]
        if _is_put_back(event):
            parts.append("put back")
        else:
            verdict = event.verdict.value if event.verdict else "done"
            parts.append(screen.state(verdict))
            parts.append(text.duration(outcome.ended - outcome.started))
        if outcome.failure is not None and not _is_put_back(event):
            parts.extend((f"exit {outcome.exit_code}", text.visible(outcome.message)))
        return "  ".join(parts).rstrip()

    def _problem(self, message: str) -> None:
        last, when = self._last_problem
        now = time.monotonic()
        if message == last and now - when < REPEAT_SECONDS:
            return
        self._last_problem = (message, now)
        shown = "picas: " + text.visible(message, keep="\n")
        self._line.note(output.to_json({"problem": message}) if self._quiet else shown)

    def _tell(self, line: str) -> None:
        self._line.clear()
        self._out.say(line)

    def _tick(self) -> None:
        while not self._over.wait(output.REFRESH_SECONDS):
            with self._lock:
                self._line.update(self._summary())

    def _summary(self) -> str:
        seconds = max(time.monotonic() - self._began, 0.001)
        parts = [f"{text.number(self._ended - self._failed)} done"]
        if self._failed:
            parts.append(f"{text.number(self._failed)} failed")
        parts.append(f"{text.number(max(0, self._started - self._ended))} running")
        parts.append(f"{text.rate(self._ended / seconds)}/s")
        parts.append(text.duration(seconds))
        return ", ".join(parts)


def _is_put_back(event: Event) -> bool:
    """Whether a token went back through no fault of its work."""
    failure = event.outcome.failure if event.outcome is not None else None
    retried = event.verdict is Verdict.RETRY
    return failure is Failure.RELEASED or (failure is Failure.PREEMPTED and retried)
