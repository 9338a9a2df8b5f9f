"""What running a token means where it is an actor's: the actor works on a document, and that is the result."""

from __future__ import annotations

import base64
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Callable, Protocol

from picas.errors import InvalidInput
from picas.finishing import Result
from picas.jobid import remove_job_id
from picas.payload import Payload
from picas.text.jsvalues import js_parse_int
from picas.tokens import (
    TOKEN_TYPE,
    Edits,
    Failure,
    Outcome,
    State,
    Token,
    Usage,
    encode_json,
    log_names,
    state_of,
)
from picas.work.inprocess import Interrupted, OwnWork

from . import generation
from .documents import Task
from .iterated import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from picas.work.inprocess import Interruptible

    from .sources import Source

log = logging.getLogger("picas.actors")

EMPTY: dict[str, Any] = {"output": {}, "uploads": {}, "error": []}
"""Fields that programs count on, and that a token may lack."""

MISSING = object()
"""What a field that is not there has for a value."""

NOT_FIELDS = frozenset(("_id", "_rev", "_attachments", "picas"))
"""What is in a document and no field that a program changes."""


class Actor(Protocol):
    """What is asked of an actor, see `picas.actors.AbstractRunActor`."""

    iterator: Any
    current_task: Any
    timed_out: bool

    @property
    def is_oldest(self) -> bool:
        """Whether it is one of 0.x."""

    def prepare_run(self) -> Any:
        """Called before each token."""

    def _run(self, task: Any, timeout: float | None) -> None:
        """Work on a token."""

    def cleanup_run(self) -> Any:
        """Called after each token."""

    def put_back(self, task: Any) -> None:
        """Mark a token as not worked on."""

    def stop_children(self) -> None:
        """End what the work of a token has started."""


class ActorWork(OwnWork):
    """An actor at work.

    Args:
        timeout: seconds that a token may take; None for any.
        max_scrub: how often a token is handed out again after it has ended with another exit code than 0.
        is_over: asked after each token; if it says True there are no more.

    Attributes:
        stop: ends the pilot.
        error: what the actor raised where that does not concern the token.
    """

    def __init__(
        self,
        actor: Actor,
        source: Source,
        timeout: float | None,
        max_scrub: int,
        is_over: Callable[[], object],
    ) -> None:
        self._actor = actor
        self._source = source
        self._timeout = timeout
        self._max_scrub = max_scrub
        self._is_over = is_over
        self.in_turn = source.iterated is not None
        self.stop: Callable[[], object] = lambda: None
        self.error: BaseException | None = None

    def run(self, token: Token, interruptible: Interruptible) -> Result:
        """Have the actor work on a token; what it made of it."""
        actor = self._actor
        iterated = self._source.iterated
        task = iterated.given(token) if iterated is not None else Task(_own(token))
        fields = fields_of(task)
        actor.current_task = task
        started, clock, cpu = time.time(), time.monotonic(), time.process_time()
        put_back = False
        try:
            with interruptible.within(actor.stop_children):
                put_back = not self._work_on(task)
        except Interrupted:
            put_back = True
        if put_back or interruptible.interrupted:  # the latter also where the actor has caught that
            actor.put_back(task)
            failure: Failure | None = Failure.RELEASED
        else:
            failure = _failure(actor, fields)
            self._hand_out_again(token, task)
        if self.error is not None or self._wants_to_end():
            self.stop()
        usage = Usage(time.monotonic() - clock, time.process_time() - cpu)
        is_kept = iterated is None or iterated.is_kept
        edits, files = _changes(token, task) if is_kept else (Edits(), ())
        code = js_parse_int(fields.get("exit_code"))
        code = int(failure not in (None, Failure.RELEASED)) if code is None else code
        outcome = Outcome(code, started, time.time(), failure, _message(fields), usage=usage)
        own = log_names(token.id)
        logs = tuple(file for file in files if file.name in own)
        return Result(
            token, outcome, logs, tuple(file for file in files if file.name not in own), edits=edits
        )

    def _work_on(self, task: Any) -> bool:
        """Call what the actor has for a token; whether its work began."""
        actor = self._actor
        with generation.oldest(is_one=actor.is_oldest):
            try:
                actor.prepare_run()
            except Exception as error:  # noqa: BLE001 - raised again when the pilot has left
                self.error = error
                return False
            try:
                actor._run(task, self._timeout)  # noqa: SLF001 - programs know it by that name
            except Interrupted:
                raise
            except BaseException as error:  # noqa: BLE001 - as above: SystemExit and the like
                self.error = error
                mark_failed(task, f"{type(error).__name__} ended the program: {error}", error)
            try:
                actor.cleanup_run()
            except Exception as error:  # noqa: BLE001 - as above
                self.error = self.error or error
        return True

    def _hand_out_again(self, token: Token, task: Any) -> None:
        """Make a token free that has ended with another exit code than 0, if it may have another try."""
        fields = fields_of(task)
        if (
            js_parse_int(fields.get("exit_code")) == 0
            or state_of({**fields, "type": TOKEN_TYPE}) is State.TODO
        ):
            return
        count = fields.get("scrub_count")
        base = token.picas.get("scrub_base")  # what was used up before a person gave it a fresh budget
        used = (count if isinstance(count, int) else 0) - (base if isinstance(base, int) else 0)
        if used < self._max_scrub:
            log.info("Scrubbing token %s", token.id)
            fields.update(Task(fields).scrub().doc)
            remove_job_id(fields)

    def _wants_to_end(self) -> bool:
        iterator = self._actor.iterator
        try:
            if self._source.endless is not None and self._source.endless.is_cancelled():
                return True
            return bool(self._is_over()) or bool(getattr(iterator, "is_stopped", lambda: False)())
        except Exception as error:  # noqa: BLE001 - raised again when the pilot has left
            self.error = error
            return True


def mark_failed(task: Any, message: str, error: BaseException) -> None:
    """Mark a token as failed, and note why; also where its command had ended well before."""
    fields = fields_of(task)
    fields.update(Task(fields).error(message, exception=error).doc)
    if js_parse_int(fields.get("exit_code")) == 0:
        fields["exit_code"] = ""  # with 0 the views take it for done


def _own(token: Token) -> dict[str, Any]:
    """The document of a token, for a program to change."""
    document: dict[str, Any] = json.loads(encode_json(token.document()))
    return {**document, **{name: type(empty)() for name, empty in EMPTY.items() if name not in document}}


def _failure(actor: Actor, fields: Mapping[str, Any]) -> Failure | None:
    """How the attempt went, by what the document says."""
    if actor.timed_out:
        return Failure.TIMEOUT
    is_free = state_of({**fields, "type": TOKEN_TYPE}) in (State.TODO, State.LOCKED)
    return None if is_free or js_parse_int(fields.get("exit_code")) == 0 else Failure.APPLICATION


def _message(fields: Mapping[str, Any]) -> str:
    errors = fields.get("error")
    last = errors[-1] if isinstance(errors, list) and errors else None
    return str(last.get("message", "")) if isinstance(last, dict) else ""


def _changes(token: Token, task: Any) -> tuple[Edits, tuple[Payload, ...]]:
    """What the program made of the fields, and the files that it attached."""
    fields = fields_of(task)
    before = set(token.attachments)
    attached = fields.get("_attachments") or {}
    files: list[Payload] = []
    for name, file in attached.items():
        if "data" in file and not file.get("stub"):
            kind = file.get("content_type") or "application/octet-stream"
            try:
                files.append(Payload(name, kind, (base64.b64decode(file["data"]),)))
            except (ValueError, TypeError) as error:
                mark_failed(task, f"the attachment {name} is not in base64", error)
    changed: dict[str, Any] = {}
    for name in [name for name in fields if name not in NOT_FIELDS]:
        try:
            _note(changed, token, name, fields[name])
        except InvalidInput as error:
            fields.pop(name)
            mark_failed(task, f"the field {name} cannot be saved: {error.message}", error)
    for name in ("lock", "done", "hostname", "exit_code", "error"):  # a mark that has just been set
        if name in fields:
            changed.pop(name, None)
            _note(changed, token, name, fields[name])
    removed = tuple(name for name in token.body if name not in fields and name not in NOT_FIELDS)
    gone = tuple(before - set(attached))
    return Edits(changed, removed, gone), tuple(files)


def _note(changed: dict[str, Any], token: Token, name: str, value: Any) -> None:
    """Add a field to what has changed, if it has: a copy, since the program may go on changing the value.

    Raises:
        InvalidInput: JSON cannot say the value.
    """
    old = token.body.get(name, EMPTY.get(name, MISSING))
    if type(value) is not type(old) or value != old or isinstance(value, (dict, list)):
        copy = json.loads(encode_json([value]))[0]
        if copy != old or type(copy) is not type(old):
            changed[name] = copy
