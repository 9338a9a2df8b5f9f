"""What the pool adds to its store: finishing, giving back, and mending."""

from __future__ import annotations

import json

import pytest

from picas.errors import InvalidInput, TokenNotFound, TokenTooLarge
from picas.finishing import Result, Verdict
from picas.payload import Payload
from picas.pool import open_pool
from picas.selection import Selection
from picas.stores.base import Change
from picas.tokens import Claimer, Failure, Outcome, State, Token

pytestmark = pytest.mark.any_pool


@pytest.fixture
def pool(pool_url):
    with open_pool(pool_url) as pool:
        yield pool


def claimed(pool, *items, **fields):
    """Tokens of these inputs, claimed."""
    pool.push([{"input": item, **fields} for item in items or ("a",)])
    return pool.claim_many(1000, order="oldest")


def log(token, text="log"):
    return (Payload(f"logs_{token.id}.out", "text/plain", (text.encode(),)),)


def ended(exit_code=0, at=2.0, **fields):
    return Outcome(exit_code, 1.0, at, Failure.APPLICATION if exit_code else None, **fields)


def read(pool, name, token_id="token_0"):
    return b"".join(pool.read_attachment(token_id, name)).decode()


def states(pool):
    return [token.state.value for token in pool.tokens()]


# --- Working ---


def test_a_claim_is_of_the_claimer_and_an_empty_pool_has_none(pool):
    pool.push(["a"])
    token = pool.claim(Claimer("pilot-7", "node-7", {"slurm_job_id": "9"}))
    assert (token.state, token["hostname"], token["slurm_job_id"]) == (State.LOCKED, "node-7", "9")
    assert token.run["pilot"] == "pilot-7"
    assert pool.claim() is None
    assert pool.claim_many(5) == []


def test_claims_go_by_condition_and_order(pool):
    pool.push([{"input": n, "priority": n % 3} for n in range(6)])
    assert [token.input for token in pool.claim_many(2)] == [2, 5]
    assert pool.claim(order="newest").input == 4
    assert pool.claim(where=Selection.parse("priority == 1")).input == 1


def test_finishing_writes_state_output_logs_and_files(pool):
    [token] = claimed(pool)
    files = (Payload("a.txt", "text/plain", (b"file",)),)
    verdict = pool.finish(token, ended(output={"x": 1}), logs=log(token), files=files)
    assert verdict is Verdict.DONE
    token = pool.get("token_0")
    assert (token.state, token.output, token["exit_code"]) == (State.DONE, {"x": 1}, 0)
    assert (read(pool, "logs_token_0.out"), read(pool, "a.txt")) == ("log", "file")


def test_many_are_finished_in_one_go_each_in_its_own_way(pool):
    first, second, third = claimed(pool, "a", "b", "c")
    pool.delete([third])
    verdicts = pool.finish_many([Result(first, ended()), Result(second, ended(3)), Result(third, ended())])
    assert verdicts == [Verdict.DONE, Verdict.ERROR, Verdict.GONE]


def test_a_failed_attempt_is_retried_within_its_budget(pool):
    claimed(pool)
    pool.reset(pool.tokens())
    verdicts = [pool.finish(pool.claim(), ended(1), max_scrub=1) for _ in range(2)]
    assert verdicts == [Verdict.RETRY, Verdict.ERROR]


def test_files_replace_those_of_earlier_attempts_and_logs_do_not(pool):
    for text in ("first", "second"):
        token = claimed(pool)[0] if text == "first" else pool.claim()
        files = (Payload("result", "text/plain", (text.encode(),)),)
        pool.finish(token, ended(1), logs=log(token, text), files=files, max_scrub=5)
    assert read(pool, "result") == "second"
    assert read(pool, "logs_token_0.out") == "second"
    assert read(pool, "logs_token_0.attempt-1.out") == "first"


def test_finishing_twice_is_finishing_once(pool):
    [token] = claimed(pool)
    for _ in range(3):
        assert pool.finish(token, ended(4), logs=log(token)) is Verdict.ERROR
    token = pool.get("token_0")
    assert (len(token["error"]), token.history) == (1, [])


def test_a_retry_that_arrives_twice_counts_once(pool):
    [token] = claimed(pool)
    for _ in range(3):
        assert pool.finish(token, ended(1), max_scrub=5) is Verdict.RETRY
    assert pool.get("token_0").scrub_count == 1


def test_a_late_result_stays_beside_the_newer_attempts(pool):
    [late] = claimed(pool)
    pool.reset([late])
    newer = pool.claim()
    assert pool.finish(newer, ended(output={"x": "new"}), logs=log(newer, "new")) is Verdict.DONE
    verdict = pool.finish(late, ended(1, output={"x": "late"}), logs=log(late, "late"))
    assert verdict is Verdict.SUPERSEDED
    assert pool.finish(late, ended(1), logs=log(late, "late")) is Verdict.DONE  # it is known already
    token = pool.get("token_0")
    assert (token.state, token.output) == (State.DONE, {"x": "new"})
    assert read(pool, "logs_token_0.out") == "new"
    [entry] = [entry for entry in token.history if entry.get("superseded")]
    assert read(pool, entry["logs"][0]) == "late"


def test_a_token_that_is_edited_all_the_time_is_finished_in_the_end(pool, monkeypatch):
    [token] = claimed(pool)
    replace, edits = pool.store.replace, iter(range(5))

    def overtaken(changes):
        for n in edits:
            current = pool.get("token_0")
            replace([Change(Token(current.id, {**current.body, "edit": n}, current.rev))])
            break
        return replace(changes)

    monkeypatch.setattr(pool.store, "replace", overtaken)
    assert pool.finish(token, ended()) is Verdict.DONE
    assert (pool.get("token_0")["edit"], pool.get("token_0").state) == (4, State.DONE)


def test_an_output_that_is_too_large_becomes_an_attachment_and_harms_no_other(pool):
    large, small = claimed(pool, "large", "small")
    output = {"x": "y" * 8_500_000}
    results = [Result(large, ended(output=output)), Result(small, ended(output={"x": 1}))]
    assert pool.finish_many(results) == [Verdict.DONE, Verdict.DONE]
    assert json.loads(read(pool, "output.json")) == output
    assert "is attached as output.json" in pool.get("token_0").output["picas_note"]
    assert pool.get("token_1").output == {"x": 1}


def test_a_document_that_is_too_large_without_any_output_is_refused(pool):
    [token] = claimed(pool)
    huge = Token(token.id, {**token.body, "huge": "x" * 8_000_000}, token.rev)
    for output in (None, {"x": 1}):
        with pytest.raises(TokenTooLarge):
            pool.finish(huge, ended(output=output))
    assert states(pool) == ["locked"]


def test_what_was_given_back_was_never_taken(pool):
    before = claimed(pool, "a", "b")
    assert pool.release(before) == 2
    assert states(pool) == ["todo", "todo"]
    assert [(token.attempt, token.run, token.history) for token in pool.tokens()] == [(0, {}, [])] * 2
    assert pool.release(before) == 0
    assert pool.release([]) == 0


# --- Looking ---


def test_tokens_are_found_by_state_condition_age_and_id(pool):
    first, second, *_ = claimed(pool, "a", "b", "c", "d", q=1)
    pool.finish(first, ended())
    pool.finish(second, ended(1))
    pool.push([{"input": "e", "q": 2}])
    found = lambda *args, **options: [token.input for token in pool.tokens(*args, **options)]  # noqa: E731
    assert found() == ["a", "b", "c", "d", "e"]
    assert found("failed") == found(State.ERROR) == found([State.ERROR]) == found({"error"}) == ["b"]
    assert found(["done", State.TODO]) == ["a", "e"]
    assert found("locked", Selection.parse("input != 'c'")) == ["d"]
    assert found(ids=["token_4", "missing", "token_0"]) == ["e", "a"]
    assert found("todo", ids=["token_4", "token_0"]) == ["e"]
    assert found(ids=["token_4", "token_0"], where=Selection.parse("q == 1")) == ["a"]
    assert found(older_than=3600) == ["a", "b"]  # they ended in 1970; the others never did
    assert found([], older_than=None) == []
    with pytest.raises(InvalidInput):
        found(["done", "nonsense"])


def test_a_token_that_is_not_there_is_an_error_with_advice(pool):
    with pytest.raises(TokenNotFound, match="missing"):
        pool.get("missing")
    claimed(pool)
    with pytest.raises(TokenNotFound):
        list(pool.read_attachment("token_0", "missing"))


# --- Mending ---


def test_reset_makes_free_what_is_not_and_keeps_logs_and_history(pool):
    first, second, _third = claimed(pool, "a", "b", "c")
    pool.finish(first, ended(5), logs=log(first))
    pool.finish(second, ended())
    pool.push(["d"])
    assert pool.reset(pool.tokens()) == 3
    assert states(pool) == ["todo"] * 4
    token = pool.get("token_0")
    assert (token["exit_code"], token["lock"], token["scrub_count"]) == ("", 0, 1)
    assert token.history[0]["exit_code"] == 5
    assert token.history[0]["logs"] == ["logs_token_0.out"]
    assert read(pool, "logs_token_0.out") == "log"
    assert pool.get("token_3").scrub_count == 0


def test_reset_takes_only_what_is_chosen(pool):
    first, second, _third = claimed(pool, "a", "b", "c")
    pool.finish(first, ended(1, at=1000.0))
    pool.finish(second, ended(1, at=4e9))
    assert pool.reset(pool.tokens("error", older_than=3600)) == 1
    assert states(pool) == ["todo", "error", "locked"]
    assert pool.reset(pool.tokens(ids=["token_2"])) == 1
    assert states(pool) == ["todo", "error", "todo"]


def test_what_changed_since_it_was_read_is_neither_reset_nor_deleted(pool):
    stale = claimed(pool, "a", "b")
    pool.finish(stale[0], ended())
    assert pool.reset(stale) == 1
    assert states(pool) == ["done", "todo"]
    assert pool.delete(stale) == 0


def test_delete_removes_tokens_with_their_attachments(pool):
    first, *_ = claimed(pool, *(str(n) for n in range(450)))
    pool.finish(first, ended(), logs=log(first))
    assert pool.delete(pool.tokens("done")) == 1
    assert pool.delete(pool.tokens("locked", Selection.parse("input != '7'"))) == 448
    assert [token.input for token in pool.tokens()] == ["7"]
    with pytest.raises(TokenNotFound):
        list(pool.read_attachment(first.id, f"logs_{first.id}.out"))


def test_deleting_and_resetting_many_while_reading_them_misses_none(pool):
    claimed(pool, *(str(n) for n in range(950)))
    assert pool.reset(pool.tokens("locked")) == 950
    assert pool.delete(pool.tokens("todo")) == 950
    assert list(pool.tokens()) == []
