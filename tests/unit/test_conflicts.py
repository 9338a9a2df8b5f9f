"""What is made of the leaves of a token, decided without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas import tokens, transitions
from picas.stores.couch import leaves
from picas.stores.couch.conflicts import Repair, decide
from picas.tokens import AttachmentInfo, Claimer, Failure, Outcome, State, Token

NOW = 1_000_000.0
DAY = 86_400.0

FREE = Token("token_1", tokens.fresh_body({"input": "work"}), "1-a")


def locked(rev="2-a", at=NOW - 2 * DAY):
    return replace(transitions.claim(FREE, Claimer("pilot", "host"), at), rev=rev)


def finished(rev="3-a", exit_code=0, logs=("logs_token_1.out",)):
    failure = Failure.APPLICATION if exit_code else None
    ended = transitions.finish(locked(), Outcome(exit_code, NOW - 9.0, NOW - 8.0, failure), logs)
    return with_files(replace(ended, rev=rev), *logs)


def retried(rev="3-a"):
    """Free again after an attempt that failed."""
    outcome = Outcome(1, NOW - 9.0, NOW - 8.0, Failure.APPLICATION)
    return replace(transitions.retry(locked(), outcome, ()), rev=rev)


def with_files(token, *names, digest=""):
    return replace(
        token,
        attachments={name: AttachmentInfo(name, "text/plain", 1, digest or token.rev) for name in names},
    )


def void(rev="3-a", at=NOW):
    return leaves.void(locked(rev, at))


def claims(entries):
    return [entry.get("claim") for entry in entries]


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (finished("3-a", exit_code=7), finished("3-b"), State.DONE),
        (locked("4-b"), finished("3-a", exit_code=7), State.ERROR),
        (retried("4-b"), locked("2-a"), State.LOCKED),
        (retried("4-b"), finished("3-a"), State.DONE),
    ],
    ids=["done before error", "error before locked", "locked before todo", "done before todo"],
)
def test_what_got_further_wins_whichever_is_shown(first, second, state):
    for found in ((first, second), (second, first)):
        repair = decide(found, NOW)
        assert repair.winner.state is state
        assert [leaf.state is state for leaf in repair.losers] == [False]


def test_a_claim_that_may_be_running_has_its_leaf_left_alone():
    assert decide([finished(), locked(at=NOW - 10)], NOW) is None
    assert decide([finished(), locked(at=NOW - 10)], NOW, lock_seconds=5.0).winner.state is State.DONE


def test_a_claim_given_up_goes_beside_what_ended_and_stays_beside_what_runs():
    running, ended, free, given_up = locked(at=NOW), finished(), retried(), void()
    assert decide([given_up, running], NOW) is None
    assert decide([given_up, ended], NOW) == Repair(ended, (given_up,))
    assert decide([given_up, free], NOW) == Repair(free, (given_up,))


def test_a_claim_that_is_over_on_one_leaf_is_over_on_all():
    running = locked("5-z", at=NOW)
    for over in (leaves.void(running), transitions.finish(running, Outcome(0, NOW - 9.0, NOW - 8.0))):
        ended, other = replace(over, rev="3-a"), retried()
        repair = decide([running, ended, other], NOW)
        assert running in repair.losers
        assert repair.winner.rev == (other.rev if leaves.is_void(ended) else ended.rev)


def test_a_later_result_is_kept_as_superseded_with_its_logs_under_other_names():
    winner, late = finished("3-b"), finished("3-a")
    repair = decide([winner, late], NOW)
    label = f"superseded-{late.claim_id[:8]}"
    assert repair.attach == ((late, "logs_token_1.out", f"logs_token_1.{label}.out"),)
    assert repair.winner.run == winner.run
    entry = repair.winner.history[-1]
    assert (entry["claim"], entry["superseded"]) == (late.claim_id, True)
    assert entry["logs"] == [f"logs_token_1.{label}.out"]


def test_files_that_both_have_are_not_copied():
    winner = with_files(finished("3-b"), "same", "other", digest="1")
    late = with_files(finished("3-a"), "same", digest="1")
    assert decide([winner, late], NOW).attach == ()


def test_a_result_of_another_client_is_kept_too():
    body = {**FREE.body, "lock": 5, "done": 6, "exit_code": 3, "hostname": "far"}
    theirs = with_files(Token("token_1", body, "3-a"), "logs_token_1.out")
    repair = decide([finished("3-b"), theirs], NOW)
    entry = repair.winner.history[-1]
    assert (entry["host"], entry["exit_code"], entry["ended"]) == ("far", 3, 6)
    assert entry["logs"] == ["logs_token_1.superseded-a.out"]


def test_of_two_old_claims_one_stays_and_the_other_may_still_finish():
    shown, other = locked("2-b"), locked("2-a")
    winner = decide([shown, other], NOW).winner
    assert winner.claim_id == shown.claim_id
    held = transitions.held_by(winner, other.claim_id)
    assert (held.claim_id, held.state) == (other.claim_id, State.LOCKED)
    assert transitions.held_by(held, shown.claim_id).claim_id == shown.claim_id
    assert transitions.held_by(winner, "another") is None
    assert transitions.held_by(finished(), finished().claim_id) is None


def test_what_users_wrote_is_never_thrown_away():
    edited = replace(FREE, body={**FREE.body, "input": "other work"}, rev="2-b")
    assert decide([edited, locked("2-a")], NOW) is None
    given_up, ended = void(), finished()
    assert decide([edited, ended, given_up], NOW) == Repair(ended, (given_up,))


def test_a_history_knows_each_attempt_once():
    failed = retried("3-a")
    again = replace(transitions.claim(failed, Claimer("pilot", "host"), NOW - 2 * DAY), rev="4-a")
    done = replace(transitions.finish(again, Outcome(0, NOW - 5, NOW - 4)), rev="5-a")
    repair = decide([done, failed], NOW)
    assert claims(repair.winner.history) == claims(failed.history)


LEAVES = st.lists(
    st.one_of(
        st.builds(finished, exit_code=st.integers(0, 1)),
        st.builds(locked, at=st.sampled_from([NOW - 1, NOW - 2 * DAY])),
        st.builds(retried),
        st.builds(void),
    ),
    min_size=2,
    max_size=5,
).map(lambda found: [replace(leaf, rev=f"{i + 2}-x") for i, leaf in enumerate(found)])


@given(LEAVES.filter(lambda found: not all(map(leaves.is_void, found))))
def test_one_leaf_always_stays_and_no_result_is_forgotten(found):
    repair = decide(found, NOW)
    if repair is None:
        return
    gone = {leaf.rev for leaf in repair.losers}
    stay = [leaf for leaf in found if leaf.rev not in gone]
    assert stay
    assert not any(leaves.is_void(leaf) for leaf in stay)
    assert all(leaf.run.get("claimed", 0) < NOW - DAY for leaf in repair.losers if not leaves.is_void(leaf))
    assert [leaf.rev for leaf in stay] == [repair.winner.rev]
    assert decide([repair.winner], NOW) is None
    stay = [repair.winner]
    known = {claim for leaf in stay for claim in claims([leaf.run, *leaf.history])}
    ended = {entry["claim"] for leaf in found for entry in (leaf.run, *leaf.history) if "ended" in entry}
    assert ended <= known
