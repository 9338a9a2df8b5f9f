"""The token: what its states are, and what each transition does to the document."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from typing import Any, Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from picas.budgets import Budgets
from picas.errors import InvalidInput
from picas.jobid import JOB_ID_FIELDS
from picas.text.jsvalues import js_parse_int
from picas.tokens import (
    MAX_HISTORY,
    AttachmentInfo,
    Claimer,
    Failure,
    Outcome,
    State,
    Token,
    Usage,
    check_id,
    encode_json,
    finished_at,
    fresh_body,
    log_name_of_attempt,
    log_names,
    not_before_of,
    priority_of,
    spent,
    state_of,
    token_from_document,
)
from picas.transitions import (
    claim,
    displaced_logs,
    finish,
    is_worth_a_reset,
    release,
    rename_logs,
    reset,
    retry,
    supersede,
)

NOW = 1_700_000_000.0
ABSENT = object()
"""A field that is not there."""


def token_doc(**fields: Any) -> dict[str, Any]:
    doc = {"type": "token", "lock": 0, "done": 0, "exit_code": "", **fields}
    return {name: value for name, value in doc.items() if value is not ABSENT}


# --- States ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, State.TODO),
        ({"exit_code": 0}, State.TODO),
        ({"lock": "0", "done": "0"}, State.TODO),
        ({"lock": "", "done": False}, State.TODO),
        ({"lock": NOW}, State.LOCKED),
        ({"lock": 1}, State.LOCKED),
        ({"lock": "1700000000"}, State.LOCKED),
        ({"lock": 99, "exit_code": 0}, State.LOCKED),
        ({"lock": 5, "done": 6, "exit_code": 0}, State.DONE),
        ({"lock": 5, "done": 6, "exit_code": "0"}, State.DONE),
        ({"lock": 5, "done": 6, "exit_code": 0.0}, State.DONE),
        ({"lock": 5, "done": 6, "exit_code": "0 and more"}, State.DONE),
        ({"lock": 5, "done": 6, "exit_code": 1}, State.ERROR),
        ({"lock": 5, "done": 6, "exit_code": -15}, State.ERROR),
        ({"lock": 5, "done": 6, "exit_code": ""}, State.ERROR),
        ({"lock": 5, "done": 6, "exit_code": None}, State.ERROR),
        ({"lock": 5, "done": 6, "exit_code": ABSENT}, State.ERROR),
        ({"lock": 5, "done": 6, "exit_code": False}, State.ERROR),
        ({"lock": 5, "done": 6, "exit_code": "0x"}, State.ERROR),
        ({"lock": 99, "done": 99}, State.ERROR),
        ({"lock": -1, "done": -1}, State.ERROR),
        ({"lock": -1}, None),
        ({"lock": -2, "done": -2}, None),
        ({"lock": 0, "done": 5}, None),
        ({"lock": None}, None),
        ({"lock": ABSENT}, None),
        ({"done": ABSENT}, None),
        ({"lock": {}, "done": {}}, None),
        ({"lock": "yes"}, None),
        ({"type": "recipe"}, None),
        ({"type": ABSENT}, None),
        ({"type": ["token"]}, None),
    ],
)
def test_the_state_follows_from_the_fields(fields: dict[str, Any], state: State | None) -> None:
    doc = token_doc(**fields)
    assert state_of(doc) is state
    assert Token("a", doc).state is state


CLASSIC_VIEWS = """
if (doc.type != "token") return [];
var found = [];
if (doc.lock == 0 && doc.done == 0) found.push("todo");
if (doc.lock > 0 && doc.done == 0) found.push("locked");
if (doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) == 0) found.push("done");
if (doc.lock > 0 && doc.done > 0 && parseInt(doc.exit_code) != 0) found.push("error");
return found;
"""

TIMES: list[Any] = [
    *(
        ABSENT,
        None,
        True,
        False,
        0,
        1,
        -1,
        99,
        1.5,
        0.0,
        -0.0,
        -0.5,
        1e-7,
        1e308,
        10**30,
        2**53 + 1,
        -(10**30),
    ),
    *(
        "",
        " ",
        "0",
        "1",
        "-1",
        " 7 ",
        "1e3",
        "0x10",
        "-0x10",
        "0X0",
        "0b1",
        "0o7",
        "0b2",
        "1_000",
        "٣",
        "abc",
    ),
    *(
        "Infinity",
        "-Infinity",
        "infinity",
        "inf",
        "nan",
        "NaN",
        "null",
        "true",
        "5.",
        ".5",
        ".",
        "+3",
        "+",
        "1e",
        "1n",
    ),
    *("\ufeff1", "1\u2003", "\x1c1", "\x850", "0 0", "9" * 400, "0" * 5_000, "1" * 5_000, "0x" + "0" * 500),
    *([], [0], [5], ["7"], ["0"], [None], [[]], [[3]], [1, 2], [0, 0], [True], [{}], {}, {"valueOf": 1}),
]

EXIT_CODES: list[Any] = [
    *(
        ABSENT,
        None,
        True,
        False,
        0,
        0.0,
        -0.0,
        0.5,
        -0.5,
        1e-4,
        1e-5,
        1.5e-5,
        1e-6,
        9e-7,
        1e-7,
        1,
        2.5,
        -1,
        255,
    ),
    *(10**15, 10**21, 10**22, 10**30, -(10**30), 1e21, 1e22, 1e300, 5e-324, 123456.789, 0.1 + 0.2),
    *("", " ", "0", " 0", "0 rest", "-0", "+0", "--0", "00", "0x0", "0x", "0xg", "0X1", "-0x0", "0b1", "0o1"),
    *(
        "1e3",
        "0e5",
        "0.9",
        ".0",
        "e",
        "٠",
        "\ufeff0",
        "\u20000",
        "\x1c0",
        "\x850",
        "\n0",
        "null",
        "success",
        "0\x00",
    ),
    *("9" * 5_000, "0" * 5_000, "0" * 5_000 + "1", "0x" + "f" * 500),
    *(
        [],
        [0],
        ["0"],
        [0, 1],
        [1, 0],
        [[0]],
        [[], 0],
        [None, 0],
        [None],
        [1e-5],
        [0.5],
        [True],
        [False],
        [{}],
    ),
    *([0, {}], {}, {"a": 0}),
]


def test_states_are_those_of_the_classic_views(javascript: Callable[[str, list[Any]], list[Any]]) -> None:
    docs = [token_doc(lock=lock, done=done, exit_code=0) for lock, done in product(TIMES, TIMES)]
    docs += [token_doc(lock=5, done=6, exit_code=code) for code in EXIT_CODES]
    docs += [token_doc(type=kind) for kind in (ABSENT, None, "", "Token", "token ", 1, {})]
    for doc, found in zip(docs, javascript(CLASSIC_VIEWS, docs)):
        state = state_of(doc)
        if all(doc.get(name) in (-1, "-1") for name in ("lock", "done")):
            assert found == []
            assert state is State.ERROR, "the mark of the 0.x generation, which the views do not know"
        else:
            assert found == ([state.value] if state else []), doc


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (7, 7),
        (-7, -7),
        (1.9, 1),
        (-1.9, -1),
        (1e-7, 1),
        ("12abc", 12),
        (" -3 ", -3),
        ("0x1F", 31),
        ("08", 8),
        ("1e3", 1),
        ("", None),
        ("x1", None),
        ("0x", None),
        (None, None),
        (True, None),
        ([4, 5], 4),
        ({}, None),
    ],
)
def test_parse_int_is_javascripts(value: Any, number: int | None) -> None:
    assert js_parse_int(value) == number


@pytest.mark.parametrize("text", ["error", "failed", " Error ", "FAILED"])
def test_failed_is_an_old_name_of_error(text: str) -> None:
    assert State.parse(text) is State.ERROR


def test_states_are_read_by_name() -> None:
    assert [State.parse(state.value) for state in State] == list(State)
    with pytest.raises(InvalidInput, match="there is no state 'gone'") as caught:
        State.parse("gone")
    assert "todo, locked, done, error" in caught.value.advice


# --- Fields of any document --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (5, 5.0),
        (-2.5, -2.5),
        (None, 0.0),
        ("9", 0.0),
        (True, 0.0),
        ([], 0.0),
        (10**400, 0.0),
        (float("inf"), 0.0),
    ],
)
def test_a_priority_is_a_finite_number_or_0(value: Any, priority: float) -> None:
    assert priority_of({"priority": value}) == priority
    assert priority_of({}) == 0


@pytest.mark.parametrize(
    ("value", "cores"),
    [(4, 4), ("4", 4), (2.0, 2), (0, 1), (-3, 1), (2.5, 1), (None, 1), ("many", 1), (True, 1), ([8], 1)],
)
def test_cores_that_make_no_sense_are_one(value: Any, cores: int) -> None:
    assert Token("a", token_doc(cores=value)).cores == cores


@pytest.mark.parametrize("ours", [None, 5, "x", [], {"run": 3, "history": "x", "attempt": [], "push": {}}])
def test_a_broken_record_of_ours_reads_as_empty(ours: Any) -> None:
    token = Token("a", token_doc(picas=ours, output=3, scrub_count={}))
    assert (token.run, token.history, token.attempt, token.claim_id) == ({}, [], 0, None)
    assert (token.output, token.scrub_count) == ({}, 0)
    claimed = claim(token, Claimer("p", "h"), NOW)
    assert (claimed.state, claimed.attempt) == (State.LOCKED, 1)
    assert reset(finish(claimed, FAILED), NOW).state is State.TODO


def test_the_end_is_our_own_record_before_the_marks() -> None:
    run = {"ended": NOW + 5}
    assert finished_at(token_doc(lock=99, done=99, picas={"run": run})) == NOW + 5
    assert finished_at(token_doc(lock=5, done=int(NOW), exit_code=0)) == NOW
    assert finished_at(token_doc(lock=-1, done=-1)) == 0
    assert finished_at(token_doc(lock=5, done=6, picas={"run": {"ended": 10**400}})) == 6
    assert finished_at(token_doc(lock=5, done=10**400)) == 0
    assert finished_at(token_doc(lock=5)) is None
    assert finished_at(token_doc()) is None


def test_a_document_from_the_wire_and_back() -> None:
    stub = {"content_type": "image/png", "length": 7, "digest": "md5-x", "stub": True}
    doc = {"_id": "a", "_rev": "1-x", "_attachments": {"p.png": stub}, **token_doc(mine={"a": [1]})}
    token = token_from_document(doc)
    assert (token.id, token.rev, token["mine"]) == ("a", "1-x", {"a": [1]})
    assert token.attachments == {"p.png": AttachmentInfo("p.png", "image/png", 7, "md5-x")}
    assert token.document() == doc
    with pytest.raises(InvalidInput, match="_id"):
        token_from_document({"type": "token"})
    with pytest.raises(KeyError):
        token["nothing"]
    assert token.get("nothing", 5) == 5


def test_a_fresh_body_has_the_users_fields_and_the_first_state() -> None:
    body = fresh_body({"input": "x", "größe": {"a": 1}})
    assert state_of(body) is State.TODO
    assert body == {
        "type": "token",
        "lock": 0,
        "done": 0,
        "hostname": "",
        "scrub_count": 0,
        "exit_code": "",
        "input": "x",
        "größe": {"a": 1},
    }


def test_a_fresh_body_takes_whole_fresh_documents_and_no_others() -> None:
    assert fresh_body({**fresh_body({}), "error": [], "output": {}}).keys() >= fresh_body({}).keys()
    for fields in (
        *(
            {"lock": 5},
            {"done": 1},
            {"exit_code": 0},
            {"type": "recipe"},
            {"scrub_count": 1},
            {"lock": False},
        ),
        *(
            {"picas": {}},
            {"error": ["x"]},
            {"output": {"a": 1}},
            {"_rev": "1-x"},
            {"_mine": 1},
            {"slurm_job_id": "5"},
        ),
    ):
        with pytest.raises(InvalidInput, match=next(iter(fields))):
            fresh_body(fields)


@pytest.mark.parametrize("token_id", ["", "_design/x", "_a", "a\0b", "\ud83d", 5, None])
def test_what_no_store_accepts_is_no_id(token_id: object) -> None:
    with pytest.raises(InvalidInput):
        check_id(token_id)
    assert check_id("größe 😀/x") == "größe 😀/x"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", object()])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        encode_json({"a": [value]})


# --- Transitions -------------------------------------------------------------------------------------

CLAIMER = Claimer("pilot-7", "node-3", {"slurm_job_id": "12_5"}, "/scratch/pilot-7")
DONE = Outcome(0, NOW + 1, NOW + 4, usage=Usage(3.0, 2.5, 10_000_000), output={"n": 1})
FAILED = Outcome(2, NOW + 1, NOW + 3, Failure.APPLICATION, "no such file", "Traceback …")
NOT_STARTED = Outcome(127, NOW + 1, NOW + 1, Failure.INFRASTRUCTURE, "no such command")
USER = {"input": {"q": 0.5}, "cores": 4, "größe": "mine"}


def fresh_token() -> Token:
    return Token("a", fresh_body(USER), "1-x", {"in.dat": AttachmentInfo("in.dat", "text/plain", 3)})


def users_part(token: Token) -> dict[str, Any]:
    return {name: token.get(name) for name in USER}


def test_a_claimed_token_is_locked_and_says_by_whom() -> None:
    free = fresh_token()
    token = claim(free, CLAIMER, NOW + 0.25)
    assert token.state is State.LOCKED
    assert (token["lock"], token["done"], token["exit_code"]) == (int(NOW), 0, "")
    assert (token["hostname"], token["slurm_job_id"]) == ("node-3", "12_5")
    assert token.run["pilot"] == "pilot-7"
    assert token.run["claimed"] == NOW + 0.25
    assert token.run["scratch"].startswith("/scratch/pilot-7")
    assert token.attempt == 1
    assert (token.id, token.rev, token.attachments) == (free.id, free.rev, free.attachments)
    assert users_part(token) == USER
    assert free == fresh_token(), "the version that was claimed is as it was"


@pytest.mark.parametrize("before", [{"old": "x", "a": "y"}, ["strange"], None])
def test_what_was_brought_away_is_added_to_what_was_there(before: Any) -> None:
    token = claim(fresh_token(), CLAIMER, NOW)
    token = Token("a", {**token.body, "uploads": before})
    brought = {"a": {"url": "https://host/a", "size": 1}}
    ended = finish(token, Outcome(0, NOW, NOW + 1, uploads=brought))
    assert ended["uploads"] == {**({"old": "x"} if isinstance(before, dict) else {}), **brought}
    assert finish(token, DONE)["uploads"] == before


def test_two_claims_in_the_same_second_by_the_same_pilot_differ() -> None:
    ids = {claim(fresh_token(), CLAIMER, NOW).claim_id for _ in range(100)}
    assert len(ids) == 100
    assert all(isinstance(claim_id, str) and len(claim_id) >= 16 for claim_id in ids)


def test_a_claim_leaves_only_its_own_job_id() -> None:
    old = Token("a", {**fresh_body({}), "dirac_job_id": "7", "pbs_job_id": "8"})
    token = claim(old, Claimer("p", "h", {"wms_job_id": None}), NOW)
    assert [name for name in JOB_ID_FIELDS if name in token.body] == ["wms_job_id"]
    assert "scratch" not in token.run


def test_success_is_done_with_what_was_reported_and_used() -> None:
    token = finish(claim(fresh_token(), CLAIMER, NOW), DONE, ["logs_a.out", "logs_a.err"])
    assert token.state is State.DONE
    assert (token["done"], token["exit_code"], token["output"]) == (int(NOW) + 4, 0, {"n": 1})
    assert "error" not in token.body
    run = token.run
    assert (run["wall"], run["cpu"], run["max_rss"]) == (3.0, 2.5, 10_000_000)
    assert (run["started"], run["ended"], run["exit_code"]) == (NOW + 1, NOW + 4, 0)
    assert run["logs"] == ["logs_a.out", "logs_a.err"]
    assert "failure" not in run
    assert "scratch" not in run
    assert token.history == []
    assert users_part(token) == USER


def test_what_is_reported_joins_what_was_reported_before() -> None:
    token = claim(Token("a", {**fresh_body({}), "output": {"n": 0, "old": True}}), CLAIMER, NOW)
    assert finish(token, DONE)["output"] == {"n": 1, "old": True}
    assert finish(token, FAILED)["output"] == {"n": 0, "old": True}


def test_failure_is_an_error_with_an_entry_in_the_list() -> None:
    earlier = {"time": 5, "message": "of 1.x", "exception": ""}
    token = finish(claim(Token("a", {**fresh_body({}), "error": [earlier]}), CLAIMER, NOW), FAILED)
    assert token.state is State.ERROR
    assert token["exit_code"] == 2
    entry = {"time": int(NOW) + 3, "message": "no such file", "exception": "Traceback …"}
    assert token["error"] == [earlier, entry]
    assert token.run["failure"] == "application"


def test_a_failure_of_the_pilot_is_marked_99() -> None:
    token = finish(claim(fresh_token(), CLAIMER, NOW), NOT_STARTED)
    assert (token["lock"], token["done"], token["exit_code"]) == (99, 99, 127)
    assert token.state is State.ERROR
    assert finished_at(token.body) == NOW + 1


def test_a_retried_token_is_free_again_and_remembers() -> None:
    token = retry(claim(fresh_token(), CLAIMER, NOW), FAILED, ["logs_a.out"])
    assert token.state is State.TODO
    assert (token["scrub_count"], token["exit_code"], token["hostname"]) == (1, "", "")
    assert "slurm_job_id" not in token.body
    assert [entry["exit_code"] for entry in token.history] == [2]
    assert token.history[0]["logs"] == ["logs_a.out"]
    assert len(token["error"]) == 1
    assert token.run == {}
    assert claim(token, CLAIMER, NOW).attempt == 2
    assert users_part(token) == USER


def test_a_token_without_a_scrub_count_can_be_retried_and_reset() -> None:
    old = {name: value for name, value in fresh_body({}).items() if name != "scrub_count"}
    token = claim(Token("a", old), CLAIMER, NOW)
    assert retry(token, FAILED)["scrub_count"] == 1
    assert reset(token, NOW)["scrub_count"] == 1


def test_a_failure_that_is_counted_apart_is_no_scrub() -> None:
    token = fresh_token()
    for _ in range(2):
        token = retry(claim(token, CLAIMER, NOW), NOT_STARTED, charged_to="infrastructure")
    assert (token.scrub_count, token.picas["spent"], spent(token, "infrastructure")) == (
        0,
        {"infrastructure": 2},
        2,
    )
    assert (spent(token), spent(token, "lost")) == (0, 0)
    assert [entry["failure"] for entry in token.history] == ["infrastructure"] * 2


def test_a_token_waits_for_its_next_try_until_it_is_claimed_or_reset() -> None:
    token = retry(claim(fresh_token(), CLAIMER, NOW), FAILED, charged_to="lost", not_before=NOW + 60)
    assert (token.state, token.not_before) == (State.TODO, NOW + 60)
    assert claim(token, CLAIMER, NOW).not_before == 0
    assert spent(claim(token, CLAIMER, NOW), "lost") == 1
    free = reset(token, NOW)
    assert (free.state, free.not_before, spent(free, "lost")) == (State.TODO, 0, 0)
    assert free.scrub_count == token.scrub_count


@pytest.mark.parametrize("value", ["soon", None, True, -1.0, float("nan"), float("inf"), [], 10**400])
def test_what_is_no_time_does_not_keep_a_token_waiting(value: Any) -> None:
    assert not_before_of({"picas": {"not_before": value}}) == 0
    assert not_before_of({"picas": value}) == 0


@pytest.mark.parametrize("failure", [Failure.LOST, Failure.PREEMPTED, Failure.INFRASTRUCTURE])
def test_what_is_not_the_works_own_failure_is_marked_99(failure: Failure) -> None:
    token = finish(claim(fresh_token(), CLAIMER, NOW), Outcome(1, NOW, NOW + 1, failure))
    assert (token["lock"], token["done"], token.state) == (99, 99, State.ERROR)


def test_a_token_given_back_before_its_work_began_is_as_if_never_claimed() -> None:
    free = fresh_token()
    token = release(claim(free, CLAIMER, NOW), NOW + 1)
    assert token.state is State.TODO
    assert (token.attempt, token.run, token.history) == (0, {}, [])
    assert {name: token.get(name) for name in free.body} == dict(free.body)
    assert "slurm_job_id" not in token.body


def test_a_token_given_back_while_it_ran_remembers_the_attempt_and_blames_nobody() -> None:
    token = release(claim(fresh_token(), CLAIMER, NOW), NOW + 60, started=NOW + 1, logs=["logs_a.out"])
    assert token.state is State.TODO
    assert (token["scrub_count"], token["exit_code"]) == (0, "")
    assert "error" not in token.body
    [entry] = token.history
    assert (entry["failure"], entry["wall"], entry["logs"]) == ("released", 59.0, ["logs_a.out"])
    assert (token.attempt, token.run) == (1, {})


def test_a_reset_keeps_the_attempt_and_its_logs() -> None:
    failed = finish(claim(fresh_token(), CLAIMER, NOW), FAILED, ["logs_a.out", "logs_a.err"])
    token = reset(failed, NOW + 9)
    assert token.state is State.TODO
    assert (token["lock"], token["done"], token["exit_code"], token["hostname"]) == (0, 0, "", "")
    assert "slurm_job_id" not in token.body
    [entry] = token.history
    assert (entry["exit_code"], entry["ended"]) == (2, NOW + 3)
    assert entry["logs"] == ["logs_a.out", "logs_a.err"]
    assert token["error"] == failed["error"]
    assert users_part(token) == USER


def test_a_reset_of_a_running_token_notes_when() -> None:
    token = reset(claim(fresh_token(), CLAIMER, NOW), NOW + 9)
    assert token.state is State.TODO
    assert [entry["ended"] for entry in token.history] == [NOW + 9]


def test_a_reset_of_a_free_token_changes_nothing() -> None:
    assert reset(fresh_token(), NOW) == fresh_token()


@pytest.mark.parametrize(
    "fields", [{"lock": -1, "done": -1}, {"lock": 99, "done": 99}, {"lock": "?"}, {"lock": None}]
)
def test_a_reset_frees_what_other_programs_left(fields: dict[str, Any]) -> None:
    token = reset(Token("a", token_doc(**fields)), NOW)
    assert token.state is State.TODO
    assert token["scrub_count"] == 1


def test_a_token_that_another_client_freed_keeps_its_last_attempt() -> None:
    failed = finish(claim(fresh_token(), CLAIMER, NOW), FAILED, ["logs_a.out"])
    freed = Token("a", {**failed.body, "lock": 0, "done": 0})
    token = claim(freed, CLAIMER, NOW)
    assert [entry["exit_code"] for entry in token.history] == [2]
    assert token.attempt == 2


def test_a_late_result_is_noted_and_changes_nothing_else() -> None:
    late = claim(fresh_token(), CLAIMER, NOW)
    current = claim(reset(late, NOW), Claimer("other", "node-9"), NOW)
    token = supersede(current, late, DONE, ["logs_a.superseded.out"])
    assert token.state is State.LOCKED
    assert token.run == current.run
    assert token.history[:-1] == current.history
    entry = token.history[-1]
    assert (entry["superseded"], entry["claim"], entry["exit_code"]) == (True, late.claim_id, 0)
    assert entry["logs"] == ["logs_a.superseded.out"]
    changed = {name for name in token.body if token.body[name] != current.body.get(name)}
    assert changed == {"picas"}


def test_logs_of_another_kind_of_pilot_make_room_too() -> None:
    out, err = log_names("a")
    token = claim(Token("a", {**fresh_body(USER), "scrub_count": 1}, "1-x"), CLAIMER, NOW)
    assert displaced_logs(token, [out, err]) == {out: "logs_a.earlier.out", err: "logs_a.earlier.err"}


def test_the_newest_attempt_takes_the_plain_names_of_the_logs() -> None:
    out, err = log_names("a")
    assert (out, err) == ("logs_a.out", "logs_a.err")
    token = claim(retry(claim(fresh_token(), CLAIMER, NOW), FAILED, [out, err]), CLAIMER, NOW)
    moved = displaced_logs(token, [out, err])
    assert moved == {out: "logs_a.attempt-1.out", err: "logs_a.attempt-1.err"}
    token = rename_logs(token, moved)
    assert token.history[0]["logs"] == ["logs_a.attempt-1.out", "logs_a.attempt-1.err"]
    assert displaced_logs(token, []) == {}
    assert displaced_logs(fresh_token(), [out, err]) == {}, "nobody has run it before"
    assert rename_logs(token, {}) is token


def test_names_of_logs_keep_their_ending() -> None:
    assert log_name_of_attempt("logs_a.b.out", "attempt-2") == "logs_a.b.attempt-2.out"
    assert log_name_of_attempt("log", "attempt-2") == "log.attempt-2"


def test_the_history_is_bounded_and_keeps_the_newest() -> None:
    token = fresh_token()
    for _ in range(MAX_HISTORY + 20):
        token = retry(claim(token, CLAIMER, NOW), FAILED)
    assert [entry["attempt"] for entry in token.history] == list(range(21, MAX_HISTORY + 21))


# --- Any order of transitions ------------------------------------------------------------------------

USERS = st.dictionaries(
    st.sampled_from(["input", "cores", "größe", "mine", "priority"]),
    st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.booleans(), max_size=2)),
    max_size=3,
)
FAILURES_OF_THE_WORK = (Failure.APPLICATION, Failure.TIMEOUT, Failure.SIGNAL, Failure.MEMORY)
FAILURES = st.sampled_from([failure for failure in Failure if failure is not Failure.RELEASED])
BUDGETS = st.builds(
    Budgets,
    *[st.integers(0, 2)] * 5,
    st.sampled_from([(), (75,)]),
    st.sampled_from([(0.0, 0.0), (1.0, 600.0)]),
)


class TokenLife(RuleBasedStateMachine):
    """One token through any order of transitions, with its attachments beside it."""

    @initialize(fields=USERS)
    def push(self, fields: dict[str, Any]) -> None:
        self.users = dict(fields)
        self.token = Token("a", fresh_body(fields))
        self.clock = NOW
        self.state = State.TODO
        self.attempt = 0
        self.scrubbed = self.scrubs_at_reset = 0
        self.spent: Counter[str] = Counter()
        self.history: list[str] = []
        self.lost: list[Token] = []
        self.claims: set[str] = set()
        self.files: dict[str, str | None] = {}
        self.versions: list[tuple[Token, str]] = []

    def tick(self) -> float:
        self.clock += 1.5
        return self.clock

    def become(self, token: Token, state: State) -> None:
        self.versions.append((self.token, json.dumps(self.token.body)))
        # As a store keeps it: what comes back is equal, and another object.
        self.token = Token(token.id, json.loads(encode_json(token.body)))
        self.state = state

    def attach(self) -> tuple[Token, list[str]]:
        """The claimed token after its logs were attached, as a pool does it."""
        names = list(log_names("a"))
        moved = displaced_logs(self.token, names)
        for old, new in moved.items():
            if old in self.files:  # a store passes over what is not there
                assert new not in self.files, "a log was about to be overwritten"
                self.files[new] = self.files.pop(old)
        self.files.update(dict.fromkeys(names, self.token.claim_id))
        return rename_logs(self.token, moved), names

    @precondition(lambda self: self.state is State.TODO)
    @rule(job=st.sampled_from([{}, {"slurm_job_id": "1"}, {"wms_job_id": None}]))
    def claim(self, job: dict[str, str | None]) -> None:
        token = claim(self.token, Claimer("p", "h", job), self.tick())
        assert token.claim_id not in self.claims
        self.claims.add(token.claim_id or "")
        self.attempt += 1
        self.become(token, State.LOCKED)

    @precondition(lambda self: self.state is State.LOCKED)
    @rule()
    def succeed(self) -> None:
        token, logs = self.attach()
        self.become(finish(token, Outcome(0, self.tick(), self.tick()), logs), State.DONE)

    @precondition(lambda self: self.state is State.LOCKED)
    @rule(failure=FAILURES, code=st.sampled_from([1, 75, 137]), budgets=BUDGETS)
    def fail(self, failure: Failure, code: int, budgets: Budgets) -> None:
        outcome = Outcome(code, self.tick(), self.tick(), failure, "message")
        charged = "" if failure in FAILURES_OF_THE_WORK else failure.value
        if failure is Failure.APPLICATION and code in budgets.retry_on:
            charged = "again"
        if charged in ("cancelled", "untrusted"):
            allowed = False
        elif charged:
            allowed = self.spent[charged] < getattr(budgets, charged)
        else:
            allowed = self.scrubbed - self.scrubs_at_reset < budgets.scrub
        token, logs = self.attach()
        ended = budgets.after(token, outcome, logs, self.clock)
        if not allowed:
            self.become(ended, State.ERROR)
            return
        assert bool(ended.not_before) == bool(budgets.pause[0] and failure is not Failure.PREEMPTED)
        if charged:
            self.spent[charged] += 1
        else:
            self.scrubbed += 1
        self.history.append(token.claim_id or "")
        self.become(ended, State.TODO)

    @precondition(lambda self: self.state is State.LOCKED)
    @rule(began=st.booleans())
    def release(self, began: bool) -> None:
        if began:
            token, logs = self.attach()
            self.history.append(token.claim_id or "")
            self.become(release(token, self.tick(), started=self.clock, logs=logs), State.TODO)
        else:
            self.attempt -= 1
            self.become(release(self.token, self.tick()), State.TODO)

    @rule()
    def reset(self) -> None:
        if self.state is not State.TODO:
            self.scrubbed += 1
            self.scrubs_at_reset = self.scrubbed
            self.history.append(self.token.claim_id or "")
            if self.state is State.LOCKED:
                self.lost.append(self.token)
        if is_worth_a_reset(self.token):
            self.spent.clear()
        self.become(reset(self.token, self.tick()), State.TODO)

    @precondition(lambda self: self.lost)
    @rule()
    def arrive_late(self) -> None:
        late = self.lost.pop()
        names = [log_name_of_attempt(name, f"superseded-{late.claim_id}") for name in log_names("a")]
        self.files.update(dict.fromkeys(names, late.claim_id))
        self.history.append(late.claim_id or "")
        outcome = Outcome(0, self.tick(), self.tick())
        self.become(supersede(self.token, late, outcome, names), self.state)

    @precondition(lambda self: self.state in (State.DONE, State.ERROR))
    @rule()
    def be_freed_by_another_client(self) -> None:
        """A program that knows nothing of our record sets the fields back, as 1.x does."""
        body = {**self.token.body, "lock": 0, "done": 0, "exit_code": "", "hostname": ""}
        for name in JOB_ID_FIELDS:
            body.pop(name, None)
        self.history.append(self.token.claim_id or "")  # at the latest when it is claimed again
        self.become(claim(Token("a", body), Claimer("p", "h"), self.tick()), State.LOCKED)
        self.claims.add(self.token.claim_id or "")
        self.attempt += 1

    @rule(fields=USERS)
    def be_edited_by_the_user(self, fields: dict[str, Any]) -> None:
        self.users.update(fields)
        self.become(Token("a", {**self.token.body, **fields}), self.state)

    @invariant()
    def it_is_in_the_state_that_follows(self) -> None:
        assert self.token.state is self.state
        if self.state is State.TODO:
            found = {name: self.token[name] for name in ("lock", "done", "exit_code", "hostname")}
            assert found == {"lock": 0, "done": 0, "exit_code": "", "hostname": ""}
            assert not any(name in self.token.body for name in JOB_ID_FIELDS)
        else:
            assert self.token.run["attempt"] == self.attempt

    @invariant()
    def what_is_charged_to_whom_is_known(self) -> None:
        for name in ("lost", "infrastructure", "preempted", "again"):
            assert spent(self.token, name) == self.spent[name]

    @invariant()
    def only_a_free_token_waits(self) -> None:
        assert not self.token.not_before or self.state is State.TODO

    @invariant()
    def attempts_and_scrubs_are_counted(self) -> None:
        assert (self.token.attempt, self.token.scrub_count) == (self.attempt, self.scrubbed)

    @invariant()
    def the_history_holds_every_attempt_in_order(self) -> None:
        assert [entry["claim"] for entry in self.token.history] == self.history[-MAX_HISTORY:]

    @invariant()
    def every_log_is_found_under_the_name_in_the_history(self) -> None:
        for entry in (*self.token.history, self.token.run):
            for name in entry.get("logs", ()):
                assert self.files[name] == entry["claim"]

    @invariant()
    def the_users_fields_are_the_users(self) -> None:
        assert {name: self.token[name] for name in self.users} == self.users

    @invariant()
    def no_version_that_was_read_was_changed(self) -> None:
        for version, body in self.versions[-3:]:
            assert json.dumps(version.body) == body


TestTokenLife = TokenLife.TestCase
TestTokenLife.settings = settings(max_examples=60, stateful_step_count=40)
