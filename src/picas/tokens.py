"""The token: its document and its states.

This is the one place that knows what the fields of a token document mean; the transitions between the states are
in `picas.transitions`. What existing PiCaS programs rely on stays as it
is (``lock``, ``done``, ``exit_code``, ``scrub_count``, ``error`` …); everything that is ours lives
under the single key ``picas``, which other clients carry along untouched::

    "picas": {
        "push":       "…",   the push key: which line of which content this token came from
        "signature":  {…},   who vouches for what it says is to be done, see picas.trust.signing
        "attempt":    2,     how often the token has been started so far
        "scrub_base": 1,     the scrub_count at which a person last gave it a fresh budget
        "spent":      {"lost": 1},  what was charged to other budgets since, by class of failure
        "not_before": 1.7e9, while it is todo: no claim takes it before, Unix seconds by the store's clock
        "checkpoint": [],    names of the attachments that the next attempt finds in its directory
        "run":        {…},   the attempt that holds the token now, or held it last (see Run)
        "history":    [{…}]  earlier attempts, oldest first, each with the names of its logs
    }
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput
from picas.jobid import JOB_ID_FIELDS
from picas.text import jsontext
from picas.text.jsvalues import js_number, js_parse_int

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Union

    JSON = Union[None, bool, int, float, str, list["JSON"], dict[str, "JSON"]]

TOKEN_TYPE = "token"
"""The value of ``type`` in every token document."""

PILOT_FAILURE_MARK = 99
"""``lock`` and ``done`` of a token whose attempt failed in the pilot, not in the command."""

OLD_ERROR_MARK = -1
"""``lock`` and ``done`` by which programs of the 0.x generation mark an error."""

MAX_HISTORY = 100
"""Attempts kept in a token's history; the oldest beyond that are dropped, so a document stays bounded."""

MAX_HISTORY_MESSAGE = 300
"""Characters of an error's message that are kept with each attempt."""

MAX_MESSAGE = 4000
"""Characters of an error's message that are kept; its beginning."""

MAX_EXCEPTION = 16_000
"""Characters of a traceback that are kept; its end. The attempt's own log has all of it."""

RESERVED_FIELDS = frozenset(
    (
        *"_rev _attachments type lock done exit_code hostname scrub_count error output uploads picas".split(),
        *JOB_ID_FIELDS,
    )
)
"""Fields that PiCaS itself writes: a pushed token may carry them only with the value of a fresh token."""


class State(str, Enum):
    """Where a token stands. Computed from the document by `state_of`, never stored in it."""

    TODO = "todo"  # free: a pilot may claim it
    LOCKED = "locked"  # claimed by a pilot, not finished
    DONE = "done"  # the work ended with exit code 0
    ERROR = "error"  # the work ended in any other way

    @classmethod
    def parse(cls, text: str) -> State:
        """The state a person means; ``failed`` is an old name of ``error``.

        Raises:
            InvalidInput: there is no such state.
        """
        name = {"failed": "error"}.get(text.strip().lower(), text.strip().lower())
        try:
            return cls(name)
        except ValueError:
            raise InvalidInput(
                f"there is no state '{text}'", "The states are: todo, locked, done, error."
            ) from None


class Failure(str, Enum):
    """Why an attempt did not succeed."""

    APPLICATION = "application"  # the command ended by itself with a non-zero exit code
    TIMEOUT = "timeout"  # stopped because it ran longer than it was allowed to
    SIGNAL = "signal"  # killed by a signal that did not come from the pilot
    MEMORY = "memory"  # killed because the machine, or its share of it, had no memory left
    INFRASTRUCTURE = "infrastructure"  # it could not be started: command missing, scratch full …
    LOST = "lost"  # its pilot has not been heard of for longer than its lease
    PREEMPTED = "preempted"  # stopped because its batch job was to end
    CANCELLED = "cancelled"  # stopped because a person said so
    UNTRUSTED = "untrusted"  # not run: no key that the pilot trusts has signed the token as it is
    RELEASED = "released"  # put back because the pilot had to go; nobody's fault


PILOT_FAILURES = frozenset((Failure.INFRASTRUCTURE, Failure.LOST, Failure.PREEMPTED, Failure.UNTRUSTED))
"""Failures that are not the work's own: a token that ends by one is marked with `PILOT_FAILURE_MARK`."""


@dataclass(frozen=True)
class Usage:
    """What an attempt used: wall and CPU seconds, and peak resident memory in bytes.

    Of a command the memory is never less than the pilot's own (some 25 MB): Linux counts from the fork on.
    """

    wall: float
    cpu: float = 0.0
    max_rss: int = 0


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended.

    Attributes:
        exit_code: 0 for success; 128+n when killed by signal n, 124 for a timeout, 126 and 127 when the
            command could not be started, as shells have it.
        started, ended: Unix seconds, by the clock of the machine it ran on.
        failure: None for success.
        message: one line for people; the last line of the error output if there is nothing better.
        exception: a traceback, where there is one.
        output: what the work reported; merged into the document's ``output``.
        kept: the directory that was left for people to look at, if one was.
        notes: what else people should know of it, a sentence each: a log that was cut, a file that is missing.
        checkpoint: names of attached files that the next attempt is to begin with.
        final: another try would end the same way, so that none is worth while.
        uploads: what was brought away, by its name here; merged into the document's ``uploads``.
    """

    exit_code: int
    started: float
    ended: float
    failure: Failure | None = None
    message: str = ""
    exception: str = ""
    usage: Usage | None = None
    output: Mapping[str, Any] | None = None
    kept: str = ""
    notes: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    final: bool = False
    uploads: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Edits:
    """What a program itself made of the token that was claimed for it, by comparison with that.

    Attributes:
        changed: fields with their new values; never ``picas``.
        removed: names of fields that are to go.
        detached: names of attachments that are to go.
    """

    changed: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claimer:
    """Who claims: one pilot.

    Attributes:
        pilot: the pilot's id, unique to the process.
        host: the machine's name, for people.
        job_ids: the batch job's id under its field name, at most one of `JOB_ID_FIELDS`.
        scratch: the directory on that host under which the work's files are while it runs.
        lease: for how many seconds it may be silent before others take its tokens back; None if they may not.
    """

    pilot: str
    host: str
    job_ids: Mapping[str, str | None] = field(default_factory=dict)
    scratch: str = ""
    lease: float | None = None


@dataclass(frozen=True)
class AttachmentInfo:
    """What is known of an attachment without reading it: ``length`` in bytes, ``digest`` as algorithm-hex."""

    name: str
    content_type: str
    length: int
    digest: str = ""


@dataclass(frozen=True, init=False)
class Token:
    """One piece of work: a JSON document with an id, and the version of it that was read.

    Attributes:
        id: the document's id.
        body: the document without ``_id``, ``_rev`` and ``_attachments``. Treat as read-only.
        rev: the store's mark of this version; None for a token that is in no store yet.
        attachments: by name; filled where the store was asked for whole documents.
    """

    id: str
    body: Mapping[str, Any]
    rev: str | None = None
    attachments: Mapping[str, AttachmentInfo] = field(default_factory=dict)

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's name
        body: Mapping[str, Any],
        rev: str | None = None,
        attachments: Mapping[str, AttachmentInfo] | None = None,
    ) -> None:
        # By hand, because several are made for every token that is worked on: what dataclass() writes for a
        # frozen class takes three times as long.
        mine = self.__dict__
        mine["id"] = id
        mine["body"] = body
        mine["rev"] = rev
        mine["attachments"] = {} if attachments is None else attachments

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The field's value, or the default where the document has no such field."""
        return self.body.get(name, default)

    @property
    def state(self) -> State | None:
        """Where the token stands; None for a document that is in none of the four states."""
        return state_of(self.body)

    @property
    def input(self) -> Any:
        """What to do: any JSON value, None if absent."""
        return self.body.get("input")

    @property
    def output(self) -> dict[str, Any]:
        """What the work reported; empty before it ran."""
        value = self.body.get("output")
        return value if isinstance(value, dict) else {}

    @property
    def picas(self) -> dict[str, Any]:
        """Our own part of the document; empty in a token that only other clients have touched."""
        value = self.body.get("picas")
        return value if isinstance(value, dict) else {}

    @property
    def run(self) -> dict[str, Any]:
        """The attempt that holds the token now or held it last; see `run_entry` for its keys."""
        value = self.picas.get("run")
        return value if isinstance(value, dict) else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """Earlier attempts, oldest first."""
        value = self.picas.get("history")
        return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []

    @property
    def push_key(self) -> str | None:
        """Which line of which content it came from; None if it has nothing of the kind."""
        value = self.picas.get("push")
        return value if isinstance(value, str) and value.isascii() else None

    @property
    def claim_id(self) -> str | None:
        """The random id of the claim that holds the token, or held it last."""
        value = self.run.get("claim")
        return value if isinstance(value, str) else None

    @property
    def attempt(self) -> int:
        """How often the token has been started, this attempt included."""
        return whole_number(self.picas.get("attempt"))

    @property
    def scrub_count(self) -> int:
        """How often it was handed out again; 0 where an old document lacks the field."""
        return whole_number(self.body.get("scrub_count"))

    @property
    def cores(self) -> int:
        """How many slots of a pilot the token takes: its ``cores``, 1 where it has none that makes sense."""
        return max(1, whole_number(self.body.get("cores")))

    @property
    def checkpoint(self) -> tuple[str, ...]:
        """Names of the attachments that the next attempt begins with, left by one that had to go."""
        value = self.picas.get("checkpoint")
        return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()

    @property
    def not_before(self) -> float:
        """When it may be claimed at the earliest, Unix seconds by the store's clock; 0 for at any time."""
        return not_before_of(self.body)

    @property
    def priority(self) -> float:
        """Higher is claimed earlier; 0 unless the document says otherwise."""
        return priority_of(self.body)

    def document(self) -> dict[str, Any]:
        """The whole document as it is on the wire: ``_id``, the body, ``_attachments`` as stubs."""
        doc: dict[str, Any] = {"_id": self.id, **self.body}
        if self.rev is not None:
            doc["_rev"] = self.rev
        if self.attachments:
            doc["_attachments"] = {
                info.name: {
                    "content_type": info.content_type,
                    "length": info.length,
                    "digest": info.digest,
                    "stub": True,
                }
                for info in self.attachments.values()
            }
        return doc


# --- States ------------------------------------------------------------------------------------------


def state_of(doc: Mapping[str, Any]) -> State | None:
    """The state of a token document, by the rules that the classic CouchDB views apply.

    A document that is no token, or whose ``lock`` and ``done`` fit no state, has none. ``exit_code`` is
    read as JavaScript's ``parseInt`` reads it, so that ``""`` counts as an error.
    """
    if doc.get("type") != TOKEN_TYPE:
        return None
    lock, done = doc.get("lock"), doc.get("done")
    if type(lock) is not int or type(done) is not int:
        lock, done = js_number(lock), js_number(done)
    if lock == 0 and done == 0:
        return State.TODO
    if lock > 0 and done == 0:
        return State.LOCKED
    if lock > 0 and done > 0:
        return State.DONE if js_parse_int(doc.get("exit_code")) == 0 else State.ERROR
    if lock == OLD_ERROR_MARK and done == OLD_ERROR_MARK:
        return State.ERROR
    return None


def priority_of(doc: Mapping[str, Any]) -> float:
    """The document's ``priority`` as a finite number, 0 where it has none."""
    return _finite(doc.get("priority"))


def _finite(value: object) -> float:
    """The value if it is a finite number, else 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def not_before_of(doc: Mapping[str, Any]) -> float:
    """When a token that is todo may be claimed at the earliest, Unix seconds by the store's clock; 0 for at any time."""
    ours = doc.get("picas")
    return max(0.0, _finite(ours.get("not_before"))) if isinstance(ours, dict) else 0.0


def spent(token: Token, charged_to: str = "") -> int:
    """How often the token was handed out again since a person last gave it fresh budgets.

    Args:
        charged_to: the class of failures that was counted apart; "" for what is in ``scrub_count``.
    """
    if not charged_to:
        return max(0, token.scrub_count - whole_number(token.picas.get("scrub_base")))
    counted = token.picas.get("spent")
    return whole_number(counted.get(charged_to)) if isinstance(counted, dict) else 0


def finished_at(doc: Mapping[str, Any]) -> float | None:
    """When the last attempt of a finished token ended, Unix seconds; None for one that is not finished."""
    return ended_at(doc) if state_of(doc) in (State.DONE, State.ERROR) else None


def ended_at(doc: Mapping[str, Any]) -> float:
    """When the last attempt ended, of a document that is known to be finished.

    The marks 99 and −1 are no times, so our own record of the attempt goes first.
    """
    ours = doc.get("picas")
    run = ours.get("run") if isinstance(ours, dict) else None
    ended = run.get("ended") if isinstance(run, dict) else None
    return _finite(ended) or max(0.0, _finite(js_number(doc.get("done"))))


def whole_number(value: object) -> int:
    """A field that should be a small non-negative whole number, 0 where a document has something else."""
    if type(value) is int:
        return max(0, value)
    if isinstance(value, float) and value.is_integer():
        return max(0, int(value))
    if isinstance(value, str):
        return max(0, js_parse_int(value) or 0)
    return 0


# --- Making and reading documents --------------------------------------------------------------------


_FRESH: dict[str, Any] = {
    "type": TOKEN_TYPE,
    "lock": 0,
    "done": 0,
    "hostname": "",
    "scrub_count": 0,
    "exit_code": "",
}

_FRESH_OR_EMPTY: dict[str, tuple[Any, ...]] = {
    **{name: (value, None) for name, value in _FRESH.items()},
    "output": ({}, None),
    "uploads": ({}, None),
    "error": ([], None),
}


def fresh_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a token that nobody has touched: the user's fields, and ours in their first state.

    Whole documents as programs push them (``lock`` 0, ``done`` 0 …) are taken as they are.

    Raises:
        InvalidInput: a field is kept by PiCaS itself and has a value that a fresh token cannot have.
    """
    ours = fields.keys() & RESERVED_FIELDS
    for name in ours:
        value = fields[name]
        if not any(value == fresh and type(value) is type(fresh) for fresh in _FRESH_OR_EMPTY.get(name, ())):
            raise InvalidInput(
                f"the field '{name}' is kept by PiCaS itself and cannot be pushed as {value!r}",
                "Leave it out, or give it another name.",
            )
    for name in map(str, fields):
        if name.startswith("_"):
            raise InvalidInput(
                f"the field '{name}' cannot be pushed: names with a leading '_' belong to the database",
                "Give it another name; '_id' sets the token's id.",
            )
    if ours:
        fields = {name: value for name, value in fields.items() if name not in RESERVED_FIELDS or value}
    return {**_FRESH, **fields}


def encode_json(value: Mapping[str, Any] | list[Any]) -> str:
    """JSON text in ASCII, as compact as it gets.

    Raises:
        InvalidInput: the value holds something that JSON cannot say: NaN, an object of a class, a loop.
    """
    try:
        return jsontext.encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"this cannot be written as JSON: {error}") from error


def check_id(token_id: object) -> str:
    """An id that every store accepts, as it is.

    Raises:
        InvalidInput: it is empty, no string, starts with ``_``, or holds a NUL or half a surrogate pair.
    """
    if not isinstance(token_id, str) or not token_id or token_id.startswith("_") or "\0" in token_id:
        raise InvalidInput(
            f"{token_id!r} cannot be a token's id",
            "An id is a non-empty string that does not start with '_'.",
        )
    if any("\ud800" <= letter <= "\udfff" for letter in token_id):
        raise InvalidInput(f"{token_id!r} cannot be a token's id: it is not valid Unicode")
    return token_id


_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")


def number_after(prefix: str, token_id: str) -> int:
    """The number that is all that follows the prefix in an id; −1 if something else does.

    More than 15 digits, or a leading zero, are no number that was given out here.
    """
    found = _NUMBER.fullmatch(token_id, len(prefix))
    return int(found[0]) if found else -1


def token_from_document(doc: Mapping[str, Any]) -> Token:
    """The token that a document from the wire describes.

    Raises:
        InvalidInput: the document has no usable ``_id``.
    """
    token_id = doc.get("_id")
    if not isinstance(token_id, str):
        raise InvalidInput("a document without an '_id' is no token")
    stubs = doc.get("_attachments")
    attachments = {
        name: AttachmentInfo(
            name,
            str(stub.get("content_type", "application/octet-stream")),
            whole_number(stub.get("length")),
            str(stub.get("digest", "")),
        )
        for name, stub in (sorted(stubs.items()) if isinstance(stubs, dict) else ())
        if isinstance(stub, dict)
    }
    rev = doc.get("_rev")
    body = {key: value for key, value in doc.items() if key not in ("_id", "_rev", "_attachments")}
    return Token(token_id, body, rev if isinstance(rev, str) else None, attachments)


def log_names(token_id: str) -> tuple[str, str]:
    """The names under which a token's standard output and error output are attached."""
    return f"logs_{token_id}.out", f"logs_{token_id}.err"


def log_name_of_attempt(name: str, label: str) -> str:
    """``logs_x.out`` → ``logs_x.<label>.out``."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{label}.{ending}" if dot else f"{name}.{label}"
