"""Pushing: each line once, whatever happens; a bad item pushes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from types import MappingProxyType

import pytest

from picas import intake
from picas.errors import InvalidInput, PoolUnavailable, TokenExists, TokenTooLarge
from picas.pool import open_pool
from picas.stores.base import Change
from picas.tokens import Token


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/pool.db"


@pytest.fixture
def pool(url):
    with open_pool(url) as pool:
        yield pool


def ids(pool):
    return [token.id for token in pool.tokens()]


def inputs(pool):
    return [token.input for token in pool.tokens()]


def test_strings_become_inputs_and_objects_fields(pool):
    result = pool.push(["echo a", {"input": "echo b", "cores": 4, "größe": [1]}])
    assert (result.pushed, result.skipped, result.first, result.last) == (2, 0, "token_0", "token_1")
    assert inputs(pool) == ["echo a", "echo b"]
    token = pool.get("token_1")
    assert (token["cores"], token["größe"], token.state.value, token["lock"]) == (4, [1], "todo", 0)


def test_nothing_is_pushed_from_nothing(pool):
    result = pool.push([])
    assert (result.pushed, result.skipped, result.first, result.last) == (0, 0, None, None)


# --- Each line once ---


def test_the_same_list_twice_is_pushed_once(pool):
    lines = ["a", "b", {"input": "c", "q": 1}]
    pool.push(lines)
    result = pool.push(lines)
    assert (result.pushed, result.skipped, result.first) == (0, 3, None)
    assert len(ids(pool)) == 3


def test_equal_lines_are_tokens_of_their_own_and_still_pushed_once(pool):
    assert pool.push(["a", "a", "b", "a"]).pushed == 4
    assert pool.push(["a", "a", "b", "a"]).pushed == 0
    assert pool.push(["a", "a", "b", "a", "a"]).pushed == 1
    assert Counter(inputs(pool)) == {"a": 4, "b": 1}


def test_a_list_that_has_grown_adds_what_is_new_wherever_it_stands(pool):
    pool.push(["a", "b"])
    result = pool.push(["new first", "a", "new middle", "b", "new last"])
    assert (result.pushed, result.skipped) == (3, 2)
    assert inputs(pool) == ["a", "b", "new first", "new middle", "new last"]


def test_the_order_of_fields_and_a_longer_way_to_say_it_make_no_other_content(pool):
    pool.push([{"input": "a", "q": 1}, "b"])
    assert pool.push([{"q": 1, "input": "a"}, {"input": "b"}]).pushed == 0
    assert pool.push([{"q": 1.0, "input": "a"}, {"q": "1", "input": "a"}]).pushed == 2


def test_again_adds_all_once_more(pool):
    pool.push(["a", "a", "b"])
    assert pool.push(["a", "a", "b"], again=True).pushed == 3
    assert Counter(inputs(pool)) == {"a": 4, "b": 2}
    assert pool.push(["a", "a", "b"]).pushed == 0


def test_work_that_has_begun_or_ended_counts_as_pushed(pool):
    pool.push(["a"])
    pool.claim()
    assert pool.push(["a"]).pushed == 0


def test_what_was_deleted_can_be_pushed_again_under_a_new_id(pool):
    pool.push(["a", "b"])
    pool.delete(pool.tokens())
    assert pool.push(["a"]).first == "token_2"


@pytest.mark.parametrize("memory", [1, 3, 10])
def test_counting_on_disk_counts_alike(pool, monkeypatch, memory):
    monkeypatch.setattr(intake, "OCCURRENCES_IN_MEMORY", memory)
    lines = [str(n % 7) for n in range(50)] + [str(n) for n in range(50)]
    assert pool.push(lines).pushed == 100
    assert pool.push(lines).pushed == 0
    assert Counter(inputs(pool)) == Counter(lines)


def test_a_push_that_was_cut_off_is_completed_by_the_same_again(pool, monkeypatch):
    monkeypatch.setattr(intake, "BATCH", 10)
    lines = [str(n % 30) for n in range(95)]

    def cut_off():
        yield from lines[:47]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.push(cut_off())
    assert len(ids(pool)) == 40
    assert pool.push(lines).pushed == 55
    assert Counter(inputs(pool)) == Counter(lines)


PUSHER = """
import sys
from picas.pool import open_pool
sys.stdin.readline()
pool = open_pool(sys.argv[1])
print(pool.push([f"line {n % 1500}" for n in range(3000)]).pushed)
"""


def test_two_that_push_the_same_list_at_once_push_each_line_once(pool, url):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUSHER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    pushed = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(pushed) == 3000
    assert Counter(inputs(pool)) == {f"line {n}": 2 for n in range(1500)}
    assert len(set(ids(pool))) == 3000


# --- Ids ---


def test_ids_continue_after_the_highest_there_is(pool):
    pool.push([{"_id": "token_41", "input": "x"}, {"_id": "token_007x", "input": "y"}])
    assert pool.push(["a", "b"]).first == "token_42"
    assert ids(pool)[2:] == ["token_42", "token_43"]


def test_each_prefix_counts_by_itself(pool):
    pool.push(["a"], prefix="night_")
    pool.push(["b"], prefix="day_")
    pool.push(["c"], prefix="night_")
    assert ids(pool) == ["night_0", "day_0", "night_1"]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_ids_that_are_given_and_ids_that_are_numbered_do_not_meet(pool, position):
    items = ["a", "b"]
    items.insert(position, {"_id": "token_1", "input": "mine"})
    assert pool.push(items).pushed == 3
    assert pool.get("token_1").input == "mine"
    assert sorted(inputs(pool)) == ["a", "b", "mine"]
    assert pool.push(items).pushed == 0


def test_they_do_not_meet_far_apart_either(pool, monkeypatch):
    monkeypatch.setattr(intake, "BATCH", 5)
    items = [*(f"line {n}" for n in range(20)), {"_id": "token_3", "input": "mine"}]
    assert pool.push(items).pushed == 21
    assert pool.get("token_3").input == "mine"


def test_the_same_id_with_the_same_content_is_pushed_once(pool):
    item = {"_id": "mine", "input": "a"}
    assert pool.push([item]).pushed == 1
    assert (pool.push([item]).skipped, pool.push(iter([item])).skipped) == (1, 1)


def test_an_id_with_other_content_is_refused_before_anything_is_pushed(pool):
    pool.push([{"_id": "mine", "input": "a"}])
    with pytest.raises(TokenExists, match="mine"):
        pool.push(["new", {"_id": "mine", "input": "b"}])
    assert ids(pool) == ["mine"]
    with pytest.raises(TokenExists, match="mine"):
        pool.push(iter([{"_id": "mine", "input": "b"}]))


def test_an_id_that_comes_twice_is_refused_before_anything_is_pushed(pool):
    with pytest.raises(InvalidInput, match="two items have the id mine"):
        pool.push(["new", {"_id": "mine", "input": "a"}, {"_id": "mine", "input": "a"}])
    assert ids(pool) == []


def test_numbers_that_somebody_else_takes_are_passed_over(pool, monkeypatch):
    store, reserve = pool.store, pool.store.reserve_numbers

    def overtaken(prefix, count):
        first = reserve(prefix, count)
        if first == 0:
            store.insert([Token("token_1", {"type": "token", "lock": 0, "done": 0})])
        return first

    monkeypatch.setattr(store, "reserve_numbers", overtaken)
    assert pool.push(["a", "b", "c"]).pushed == 3
    assert sorted(ids(pool)) == ["token_0", "token_1", "token_2", "token_3"]


def test_numbers_that_are_taken_all_the_time_are_an_error(pool, monkeypatch):
    monkeypatch.setattr(pool.store, "reserve_numbers", lambda prefix, count: 0)
    pool.store.insert([Token("token_0", {"type": "token"})])
    with pytest.raises(PoolUnavailable):
        pool.push(["a"])


# --- Bad items ---


@pytest.mark.parametrize(
    "bad",
    [
        5,
        None,
        ["list"],
        b"bytes",
        {"input": float("nan")},
        {"input": {1, 2}},
        {"_id": ""},
        {"_id": "_design"},
        {"_id": 5},
        {"_id": "half \ud800"},
        {"_rev": "1-a"},
        {"_odd": 1},
        {"lock": 5},
        {"exit_code": 0},
        {"picas": {}},
    ],
    ids=repr,
)
def test_a_bad_item_in_a_list_pushes_nothing(pool, monkeypatch, bad):
    monkeypatch.setattr(intake, "BATCH", 2)
    with pytest.raises(InvalidInput):
        pool.push(["a", "b", "c", "d", bad, "e"])
    assert ids(pool) == []


@pytest.mark.parametrize(
    "bad", ["x" * 8_000_000, {"input": "é" * 2_000_000}, {"_id": "x", "input": ["y" * 8_000_000]}]
)
def test_an_item_that_is_too_large_pushes_nothing(pool, monkeypatch, bad):
    monkeypatch.setattr(intake, "BATCH", 2)
    with pytest.raises(TokenTooLarge, match="at most 7,500,000"):
        pool.push(["a", "b", "c", bad])
    assert ids(pool) == []


def test_the_largest_token_can_be_claimed_and_finished(pool):
    from picas.tokens import Failure, Outcome

    pool.push(["x" * 7_499_000])
    for _ in range(5):
        token = pool.claim()
        outcome = Outcome(1, 1.0, 2.0, Failure.APPLICATION, "m" * 100_000, "e" * 100_000)
        pool.finish(token, outcome, max_scrub=10)
    assert len(pool.get("token_0")["error"]) == 5


def test_of_an_iterator_what_came_before_a_bad_item_stays(pool, monkeypatch):
    monkeypatch.setattr(intake, "BATCH", 2)
    with pytest.raises(InvalidInput):
        pool.push(iter(["a", "b", "c", 5]))
    assert inputs(pool) == ["a", "b"]


@pytest.mark.parametrize("items", ["echo one string", {"input": "one object"}, b"bytes"])
def test_one_item_is_not_taken_for_a_list(pool, items):
    with pytest.raises(InvalidInput, match="a list of items"):
        pool.push(items)
    assert ids(pool) == []


def test_any_mapping_will_do(pool):
    assert pool.push([MappingProxyType({"_id": "mine", "input": "a"})]).pushed == 1


def test_whole_fresh_documents_are_taken_as_they_are(pool):
    pool.push(
        [{"_id": "old", "type": "token", "lock": 0, "done": 0, "exit_code": "", "output": {}, "input": "a"}]
    )
    assert pool.get("old").state.value == "todo"


def test_progress_is_told_with_the_items_dealt_with(pool, monkeypatch):
    monkeypatch.setattr(intake, "BATCH", 2)
    pool.push(["a", "b"])
    told = []
    pool.push(["a", "b", "c", "d", "e"], on_progress=told.append)
    assert told == [2, 4, 5]


def test_a_pushed_token_keeps_its_key_through_edits(pool):
    pool.push(["a"])
    token = pool.get("token_0")
    pool.store.replace([Change(Token(token.id, {**token.body, "input": "edited"}, token.rev))])
    assert pool.push(["a"]).pushed == 0
