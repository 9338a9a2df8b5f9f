"""The transitions between a token's states, as pure functions: each takes a token and returns a new one.

Nothing here talks to a store. What the fields mean is in `picas.tokens`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from picas.jobid import JOB_ID_FIELDS
from picas.tokens import (
    MAX_EXCEPTION,
    MAX_HISTORY,
    MAX_HISTORY_MESSAGE,
    MAX_MESSAGE,
    PILOT_FAILURE_MARK,
    PILOT_FAILURES,
    Claimer,
    Edits,
    Failure,
    Outcome,
    State,
    Token,
    Usage,
    log_name_of_attempt,
    spent,
    state_of,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def claim(token: Token, claimer: Claimer, now: float) -> Token:
    """The token as the claimer's: locked, with a new random claim id and the next attempt number.

    The claim id is what keeps two claims apart that are alike in everything else; a store compares it,
    never the host or the second.
    """
    ours = dict(token.picas)
    ours["attempt"] = whole_number(ours.get("attempt")) + 1
    ours.pop("not_before", None)
    _archive_run(ours)
    claim_id = os.urandom(12).hex()
    run = {
        "claim": claim_id,
        "pilot": claimer.pilot,
        "host": claimer.host,
        "attempt": ours["attempt"],
        "claimed": round(now, 3),
    }
    job = {name: value for name, value in claimer.job_ids.items() if value}
    if job:
        run["job"] = job  # the document's own field goes when the token is free again
    if claimer.lease is not None:
        run["lease"] = claimer.lease
    if claimer.scratch:
        run["scratch"] = f"{claimer.scratch}/{claim_id}"
    ours["run"] = run
    body = _without_job_ids(token.body)
    body.update(claimer.job_ids)
    body.update(lock=int(now), done=0, exit_code="", hostname=claimer.host, picas=ours)
    return Token(token.id, body, token.rev, token.attachments)


def finish(token: Token, outcome: Outcome, logs: Iterable[str] = ()) -> Token:
    """The token after its attempt ended: done or error, with what the attempt reported and used.

    Args:
        logs: names of the attachments that hold this attempt's logs.
    """
    body = dict(token.body)
    ours = dict(token.picas)
    ours["run"] = _ended_run(token, outcome, logs)
    _note_checkpoint(ours, outcome)
    body["picas"] = ours
    if outcome.failure in PILOT_FAILURES:
        body["lock"] = body["done"] = PILOT_FAILURE_MARK
    else:
        body["done"] = int(outcome.ended)
    body["exit_code"] = outcome.exit_code
    if outcome.output:
        body["output"] = {**token.output, **outcome.output}
    if outcome.uploads:
        before = body.get("uploads")
        body["uploads"] = {**(before if isinstance(before, dict) else {}), **outcome.uploads}
    if outcome.failure is not None:
        body["error"] = [*_error_list(body), _error_entry(outcome)]
    return Token(token.id, body, token.rev, token.attachments)


def retry(
    token: Token,
    outcome: Outcome,
    logs: Iterable[str] = (),
    *,
    charged_to: str = "",
    not_before: float | None = None,
) -> Token:
    """The token after a failed attempt that is to be tried again: todo, all of it kept.

    Args:
        charged_to: the class of failures that this one is counted under; "" for one scrub more.
        not_before: when it may be claimed at the earliest, Unix seconds by the store's clock.
    """
    ended = finish(token, outcome, logs)
    ours = dict(ended.picas)
    _archive_run(ours)
    body = _freed(ended.body)
    if charged_to:
        before = ours.get("spent")
        counted = before if isinstance(before, dict) else {}
        ours["spent"] = {**counted, charged_to: spent(token, charged_to) + 1}
    else:
        body["scrub_count"] = token.scrub_count + 1
    if not_before is not None:
        ours["not_before"] = round(not_before, 3)
    body["picas"] = ours
    return replace(ended, body=body)


def awake(token: Token) -> Token:
    """The token without a time before which it is not to be claimed."""
    ours = {name: value for name, value in token.picas.items() if name != "not_before"}
    return replace(token, body={**token.body, "picas": ours})


def edited(token: Token, outcome: Outcome, edits: Edits, logs: Iterable[str] = ()) -> Token:
    """The token after an attempt of which a program itself says how it ended: by the fields that it leaves.

    Whatever state that is, the attempt is over. What the pilot has to say of it goes over what the program says.
    """
    body = {name: value for name, value in token.body.items() if name not in edits.removed}
    body.update(edits.changed)
    ours = dict(token.picas)
    ours["run"] = _ended_run(token, outcome, logs)
    body["picas"] = ours
    if outcome.failure is Failure.INFRASTRUCTURE:
        body["lock"] = body["done"] = PILOT_FAILURE_MARK
        body.update(exit_code=outcome.exit_code, error=[*_error_list(body), _error_entry(outcome)])
    if state_of(body) is State.TODO:
        _archive_run(ours)
    return Token(token.id, body, token.rev, token.attachments)


def release(
    token: Token,
    now: float,
    *,
    started: float | None = None,
    logs: Iterable[str] = (),
    checkpoint: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Token:
    """The token given back unfinished by the pilot that holds it: todo, and nothing is held against it.

    Args:
        started: when its work began; None if it never did, and then the attempt does not count at all.
        checkpoint: names of attached files that the next attempt is to begin with.
        notes: what people should know of the attempt.
    """
    ours = dict(token.picas)
    if started is None:
        ours["attempt"] = max(0, token.attempt - 1)
        ours.pop("run", None)
    else:
        usage = Usage(max(0.0, now - started))
        outcome = Outcome(0, started, now, Failure.RELEASED, usage=usage, notes=notes, checkpoint=checkpoint)
        _note_checkpoint(ours, outcome)
        ours["run"] = {**_ended_run(token, outcome, logs), "exit_code": ""}
        _archive_run(ours)
    body = _freed(token.body)
    body["picas"] = ours
    return replace(token, body=body)


def is_worth_a_reset(token: Token) -> bool:
    """Whether `reset` changes it: not if it is todo and can be claimed now, to begin from nothing."""
    return token.state is not State.TODO or bool(token.not_before or token.checkpoint)


def reset(token: Token, now: float) -> Token:
    """The token made free by a person, whatever its state, with fresh budgets.

    Its attempts stay in the history and their logs and files attached, but the next one begins from nothing. A token
    that is todo comes back as it is, but for a pause before its next try and what was charged to its budgets.
    """
    if not is_worth_a_reset(token):
        return token
    ours = dict(token.picas)
    ours.pop("not_before", None)
    ours.pop("spent", None)
    ours.pop("checkpoint", None)
    if token.state is State.TODO:
        return replace(token, body={**token.body, "picas": ours})
    if token.run:
        given_up = {"failure": Failure.RELEASED.value} if token.state is State.LOCKED else {}
        ours["run"] = {"ended": round(now, 3), **given_up, **token.run}
        _archive_run(ours)
    scrub_count = token.scrub_count + 1
    ours["scrub_base"] = scrub_count
    body = _freed(token.body)
    body.update(scrub_count=scrub_count, picas=ours)
    return replace(token, body=body)


def supersede(
    current: Token, late: Token, outcome: Outcome, logs: Iterable[str] = (), edits: Edits | None = None
) -> Token:
    """The current token with a late result noted in its history: its claim was lost in the meantime."""
    ours = dict(current.picas)
    entry = {**_ended_run(late, outcome, logs), "superseded": True}
    if edits is not None and edits.changed:
        entry["wrote"] = dict(edits.changed)
    ours["history"] = [*current.history, entry][-MAX_HISTORY:]
    return replace(current, body={**current.body, "picas": ours})


def claimed_as(token: Token, user: str) -> Token:
    """The claimed token with the name by which the server knows who has claimed it."""
    ours = {**token.picas, "run": {**token.run, "user": user}}
    return replace(token, body={**token.body, "picas": ours})


def with_signature(token: Token, signature: Mapping[str, str]) -> Token:
    """The token with this signature in place of any that it has; see `picas.trust.signing`."""
    ours = {**token.picas, "signature": dict(signature)}
    return replace(token, body={**token.body, "picas": ours})


def held_by(token: Token, claim_id: str | None) -> Token | None:
    """The token as this claim holds it; None if it does not.

    Where conflicting versions of a token were made one, claims that had run out were noted beside the one that
    stayed. One of them may turn out to be alive.
    """
    if claim_id is None or token.state is not State.LOCKED:
        return None
    if token.claim_id == claim_id:
        return token
    also = token.run.get("also")
    noted = [run for run in also if isinstance(run, dict)] if isinstance(also, list) else []
    for run in noted:
        if run.get("claim") == claim_id:
            others = [{**token.run, "also": None}, *(other for other in noted if other is not run)]
            ours = {**token.picas, "run": {**run, "also": others}}
            return replace(token, body={**token.body, "picas": ours})
    return None


def is_lost(entry: Mapping[str, Any]) -> bool:
    """Whether an attempt in a token's history was taken for dead; it may have ended all the same."""
    return entry.get("failure") == Failure.LOST.value and not entry.get("superseded")


def revived(current: Token, late: Token) -> Token | None:
    """The token as a claim holds it that was believed lost, if nobody has claimed the token since; None if somebody has.

    Its result is as good as that of another attempt, which is spared by it.
    """
    last = current.run or (current.history or [{}])[-1]
    if (
        current.state not in (State.TODO, State.ERROR)
        or last.get("claim") != late.claim_id
        or not is_lost(last)
    ):
        return None
    ours = {**current.picas, "run": late.run}
    if not current.run:
        ours["history"] = current.history[:-1]
    ours.pop("not_before", None)
    body = {
        **current.body,
        "picas": ours,
        **{name: late.get(name) for name in _OF_CLAIM if name in late.body},
    }
    return replace(current, body=body)


_OF_CLAIM = ("lock", "done", "exit_code", "hostname", *JOB_ID_FIELDS)
"""The fields that a claim sets."""


def logs_of(entry: Mapping[str, Any]) -> list[str]:
    """The names of the logs of an attempt, of an entry that anybody may have written."""
    logs = entry.get("logs")
    return [name for name in logs if isinstance(name, str)] if isinstance(logs, list) else []


def rename_logs(token: Token, names: Mapping[str, str]) -> Token:
    """The token with the logs of earlier attempts under new names in its history."""
    if not names:
        return token
    history = [
        {**entry, "logs": [names.get(name, name) for name in logs]} if (logs := logs_of(entry)) else entry
        for entry in token.history
    ]
    return replace(token, body={**token.body, "picas": {**token.picas, "history": history}})


def displaced_logs(token: Token, new_names: Iterable[str]) -> dict[str, str]:
    """Old name → new name for the logs of earlier attempts whose names the newest attempt wants.

    The newest attempt's logs always bear the plain names, which is where people and scripts look; those of
    attempt *n* before it become ``logs_<id>.attempt-n.out``. A token that was handed out again may also have
    logs of which our history knows nothing, from a pilot of another kind: ``logs_<id>.earlier.out``.
    """
    wanted = list(new_names)
    renamed = {name: log_name_of_attempt(name, "earlier") for name in wanted if token.scrub_count}
    for entry in token.history:
        for name in logs_of(entry):
            if name in wanted:
                renamed[name] = log_name_of_attempt(name, f"attempt-{entry.get('attempt', 0)}")
    return renamed


def _ended_run(token: Token, outcome: Outcome, logs: Iterable[str]) -> dict[str, Any]:
    run = dict(token.run)
    run.pop("scratch", None)  # the directory is gone by now
    run.pop("also", None)  # whoever comes now is late
    run.update(started=round(outcome.started, 3), ended=round(outcome.ended, 3), exit_code=outcome.exit_code)
    if outcome.failure is not None:
        run["failure"] = outcome.failure.value
        if outcome.message:
            run["message"] = outcome.message[:MAX_HISTORY_MESSAGE]
    if outcome.usage is not None:
        run["wall"] = round(outcome.usage.wall, 3)
        run["cpu"] = round(outcome.usage.cpu, 3)
        run["max_rss"] = outcome.usage.max_rss
    if outcome.kept:
        run["kept"] = outcome.kept
    if outcome.notes:
        run["notes"] = list(outcome.notes)
    names = list(logs)
    if names:
        run["logs"] = names
    return run


def _note_checkpoint(ours: dict[str, Any], outcome: Outcome) -> None:
    """Note what the next attempt begins with (in place); once the token is done there is no next one."""
    if outcome.checkpoint:
        ours["checkpoint"] = list(outcome.checkpoint)
    elif outcome.failure is None:
        ours.pop("checkpoint", None)


def _archive_run(ours: dict[str, Any]) -> None:
    """Move the last attempt into the history (in place: ``ours`` is the caller's own copy)."""
    run = ours.pop("run", None)
    if isinstance(run, dict) and run:
        history = ours.get("history")
        ours["history"] = [*(history if isinstance(history, list) else ()), run][-MAX_HISTORY:]


def _freed(body: Mapping[str, Any]) -> dict[str, Any]:
    free = _without_job_ids(body)
    free.update(lock=0, done=0, exit_code="", hostname="")
    return free


def _without_job_ids(body: Mapping[str, Any]) -> dict[str, Any]:
    copy = dict(body)
    for name in JOB_ID_FIELDS:
        copy.pop(name, None)
    return copy


def _error_list(body: Mapping[str, Any]) -> list[Any]:
    value = body.get("error")
    if value is None:
        return []
    return value if isinstance(value, list) else [value]  # what somebody else wrote there is kept as it is


def _error_entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "time": int(outcome.ended),
        "message": outcome.message[:MAX_MESSAGE],
        "exception": outcome.exception[-MAX_EXCEPTION:],
    }
