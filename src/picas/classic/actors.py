"""Actors: programs that work on tokens one after the other, as picasclient knows them: ``picas.actors``.

An actor says what is to be done with a token. That it is claimed, what becomes of its result, what happens when time is
up or a signal comes, is the business of `picas.pilot.loop.Pilot`, which runs it.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable

from picas import jobid
from picas.pilot.loop import Pilot

from .actor_work import ActorWork, mark_failed
from .documents import Document
from .iterators import TaskViewIterator, ViewIterator
from .limits import Limit, TokenTimeout
from .sources import source_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

    from picas.pilot.summary import Event

log = logging.getLogger(__name__)


class AbstractRunActor:
    """Works on tokens; a subclass says how, in ``process_task``.

    A subclass need not call this ``__init__``, if it sets ``iterator``, and ``db`` where it is not the iterator's.

    Args:
        db: a `picas.clients.CouchDB`; or any object with ``get_single_from_view``, ``get``, ``save`` and ``copy``.
        iterator: where the tokens come from; if None, from the view. In 0.x the iterator comes first, and then a
            modifier.
        view: the view that lists tokens to work on.
        token_reset_values: ``lock`` and ``done`` of a token that is put back because of a signal.
        view_params: what else is asked of the view, such as ``design_doc``.

    Attributes:
        current_task: the token that is being worked on, or was last; None if there are no more.
        subprocess: for a program to keep the process that it waits for; nothing here depends on it.
        tasks_processed: how many tokens have been worked on.
        timed_out: the last of them took longer than it may.
    """

    # Here too, for those that do not call __init__.
    db: Any = None
    iterator: Any = None
    token_reset_values: Sequence[int] = (0, 0)
    current_task: Any = None
    subprocess: Any = None
    tasks_processed = 0
    timed_out = False
    _limit: Limit | None = None
    _work: ActorWork | None = None

    def __init__(
        self,
        db: Any,
        iterator: Any = None,
        view: str = "todo",
        token_reset_values: Sequence[int] = (0, 0),
        **view_params: Any,
    ) -> None:
        if isinstance(db, ViewIterator):
            self.iterator, self.modifier = db, iterator
            self.db = self.client = db.database
        else:
            self.db = db
            self.iterator = TaskViewIterator(db, view, **view_params) if iterator is None else iterator
        self.token_reset_values = list(token_reset_values)
        self.current_task = None
        self.subprocess = None
        self.tasks_processed = 0

    # --- What a subclass may give ---

    def process_task(self, task: Any) -> Any:
        """Work on a token. What the task holds afterwards is written to the database.

        An exception marks it as failed.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no process_task(self, task), which does the work."
        )

    def prepare_env(self, *args: Any, **kwargs: Any) -> Any:
        """Called before the first token."""

    def prepare_run(self, *args: Any, **kwargs: Any) -> Any:
        """Called before each token."""

    def cleanup_run(self, *args: Any, **kwargs: Any) -> Any:
        """Called after each token."""

    def cleanup_env(self, *args: Any, **kwargs: Any) -> Any:
        """Called at the end, whatever that was."""

    # --- Running ---

    def run(self, max_token_time: float | None = None) -> None:
        """Work until there are no more tokens.

        Args:
            max_token_time: as of `RunActor.run`.
        """
        self._run_all(max_token_time)

    def _run_all(
        self,
        max_token_time: float | None,
        *,
        max_total_time: float | None = None,
        max_tasks: int | None = None,
        max_scrub: int = 0,
        is_over: Callable[[], object] = lambda: False,
    ) -> None:
        source = source_of(self)
        work = ActorWork(self, source, max_token_time, max_scrub, is_over)
        pilot = Pilot(
            source.pool, work, max_time=max_total_time, max_tasks=max_tasks, wait=source.wait, on_event=_tell
        )
        work.stop = pilot.stop
        self._work = work
        try:
            self.prepare_env()
            self.setup_handler()
            with source.ending(pilot.stop):
                summary = pilot.run()
            if work.error is not None:
                raise work.error
            if summary.reason == "empty":
                self.current_task = None
        except BaseException:
            self._leave()
            raise
        if summary.signal is None:
            self._leave()
        else:
            self._work = None
            self.current_task = None  # it has been put back
            self.handler(summary.signal, None)
            sys.exit(0)

    def _leave(self) -> None:
        self._work = None
        self.cleanup_env()

    def _run(self, task: Any, timeout: float | None) -> None:
        """Work on one token; `run` calls it for each. Called by itself, it saves the token too.

        Args:
            timeout: seconds after which it is stopped; None for no limit.
        """
        self.current_task = task
        self.timed_out = False
        limit = self._limit = Limit(timeout)
        try:
            with limit:
                self._process(task)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the token's end, not the program's
            message = f"Exception {type(error)} occurred during processing: {error}"
            log.info(message)
            if isinstance(error, TokenTimeout):
                self.timed_out = True
                log.info("Token execution exceeded timeout limit of %s seconds", timeout)
            mark_failed(task, message, error)
        finally:
            limit.close()
            self._limit = None
        self.tasks_processed += 1
        if self._work is None:
            self.db.save(task)

    def _process(self, task: Any) -> None:
        """Call what the subclass has: ``process_task(task)``, or ``process_token(key, token)`` of 0.x."""
        if self.is_oldest:
            fields = task.doc if isinstance(task, Document) else task
            self.process_token(fields["_id"], fields)  # type: ignore[attr-defined]
        else:
            self.process_task(task)

    @property
    def is_oldest(self) -> bool:
        """Whether this is an actor of 0.x: it has ``process_token``, and no ``process_task`` of its own."""
        has_task = type(self).process_task is not AbstractRunActor.process_task or "process_task" in vars(
            self
        )
        return callable(getattr(self, "process_token", None)) and not has_task

    def stop_children(self) -> None:
        """Let what ``process_task`` has started end, by KILL if it has to be; for signal handlers."""
        if self._limit is not None:
            self._limit.stop()

    # --- Signals ---

    def setup_handler(self) -> None:
        """Have `handler` called for TERM and INT. While `run` runs it sees to signals itself."""
        if self._work is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handler)

    def handler(self, signum: int, frame: FrameType | None) -> NoReturn:
        """Put the current token back and exit. `run` calls it too, after it has put the token back by itself."""
        log.info("PiCaS shutting down, called with signal %d", signum)
        self.stop_children()
        if self.current_task is not None:
            self.put_back(self.current_task)
            self.db.save(self.current_task)
        self.cleanup_env()
        sys.exit(0)

    def put_back(self, task: Any) -> None:
        """Mark a token as not worked on."""
        task["lock"], task["done"] = self.token_reset_values
        task["exit_code"] = ""
        jobid.remove_job_id(task.doc if isinstance(task, Document) else task)

    def reconnect(self) -> None:
        """Use a connection to the database of one's own, as after a fork."""
        self.db = self.db.copy()
        self.iterator.reconnect(self.db)


class RunActor(AbstractRunActor):
    """An actor that can be told when to end. See `AbstractRunActor`.

    Example:
        >>> class Upper(RunActor):
        ...     def process_task(self, task):
        ...         task["output"] = {"text": task["input"].upper()}
        ...         task["exit_code"] = 0
        ...         task.done()
        >>> Upper(CouchDB(url="sqlite:///pool.db")).run()            # doctest: +SKIP
    """

    def run(
        self,
        max_token_time: float | None = None,
        max_total_time: float | None = None,
        max_tasks: int | None = None,
        max_scrub: int = 0,
        stop_function: Callable[..., object] | None = None,
        **stop_function_args: Any,
    ) -> None:
        """Work until there are no more tokens or it is time to end.

        TERM or INT: what the token's work has started is stopped, the token put back, and the program exits with 0.

        Args:
            max_token_time: stop a token's work after so many seconds, and all processes that it has started; the
                token is then in error.
            max_total_time: begin no more tokens after so many seconds.
            max_tasks: work on so many tokens at the most.
            max_scrub: how often a token is handed out again after it has ended with another exit code than 0.
            stop_function: called after each token; when it says True there are no more.
            stop_function_args: what it is called with. With an actor of 0.x, ``maxtime`` is ``max_total_time``.

        Raises:
            SystemExit: after a signal.
            Exception: what ``prepare_run``, ``cleanup_run`` or ``stop_function`` raised.
        """
        if self.is_oldest:  # run(maxtime=-1), where no number above 0 is no limit
            oldest_time = stop_function_args.pop("maxtime", max_token_time)
            max_total_time = max_total_time or (oldest_time if (oldest_time or 0) > 0 else None)
            max_token_time = None
        function = stop_function
        self._run_all(
            max_token_time or None,
            max_total_time=max_total_time or None,
            max_tasks=max_tasks or None,
            max_scrub=max_scrub,
            is_over=(lambda: False) if function is None else (lambda: function(**stop_function_args)),
        )


def _tell(event: Event) -> None:
    if event.kind == "problem":
        log.warning("%s", event.message)
    elif event.kind == "waiting":
        log.info("%s", event.message)
