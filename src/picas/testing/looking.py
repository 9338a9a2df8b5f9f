"""The contract for looking: scans, counts, rates, and the numbers for new ids."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput
from picas.selection import Selection
from picas.stores.base import Change
from picas.testing.base import (
    StoreFixtures,
    add,
    add_many,
    claim_all,
    finished,
    fresh,
    get,
    ids,
    write,
)
from picas.tokens import State, state_of
from picas.transitions import reset

if TYPE_CHECKING:
    from picas.stores.base import Store

BROKEN: tuple[dict[str, Any], ...] = (
    {"lock": None},
    {"lock": "abc"},
    {"lock": [], "done": {}},
    {"lock": -5},
    {"lock": 1, "done": -1},
    {"lock": 0, "done": 7},
    {"lock": 7, "done": 7, "exit_code": None},
    {"lock": 7, "done": 7, "exit_code": []},
    {"lock": 7, "done": 7, "exit_code": "0"},
    {"lock": 7, "done": 7, "exit_code": "9" * 5_000},
    {"lock": 10**30, "done": 10**30, "exit_code": 10**30},
    {"lock": True, "done": True, "exit_code": False},
    {"lock": "1e3", "done": "0x10", "exit_code": 0.5},
    {"priority": "high", "cores": None, "scrub_count": {}},
    {"picas": 5},
    {"picas": {"run": [], "history": "x", "attempt": "many", "push": None}},
    {"picas": {"run": {"ended": "late", "wall": "long"}}, "lock": 7, "done": 7, "exit_code": 0},
    {"error": "not a list", "output": 3},
)
"""What is found in documents that other programs wrote."""

BEYOND_FLOATS: tuple[dict[str, Any], ...] = (
    {"lock": 10**400, "done": 10**400, "exit_code": 1},
    {"priority": 10**400},
    {"picas": {"run": {"ended": 10**400}}, "lock": 7, "done": 7, "exit_code": 0},
)
"""Numbers that JSON can say and not every database can keep."""


class LookingRules(StoreFixtures):
    """Scans, counts, progress and numbers."""

    def test_a_scan_without_a_state_sees_every_document_oldest_first(self, store: Store) -> None:
        wanted = add_many(store, 250)
        claim_all(store, 40, "newest")
        add(store, fresh("broken_1000", lock="?"), fresh("a_1001"))
        assert ids(list(store.scan())) == [*wanted, "broken_1000", "a_1001"]

    def test_a_scan_of_states_sees_those_oldest_first(self, store: Store) -> None:
        wanted = add_many(store, 350)
        done = claim_all(store, 120)
        for token in done:
            write(store, token, done=5, exit_code=0)
        locked = ids(claim_all(store, 110, "newest"))[::-1]
        assert ids(list(store.scan([State.DONE]))) == wanted[:120]
        assert ids(list(store.scan([State.LOCKED]))) == locked == wanted[240:]
        assert ids(list(store.scan([State.TODO, State.DONE]))) == wanted[:240]
        assert ids(list(store.scan({State.LOCKED, State.DONE, State.ERROR}))) == wanted[:120] + wanted[240:]
        assert ids(list(store.scan([State.DONE, State.DONE]))) == wanted[:120]
        assert list(store.scan([State.ERROR])) == []
        assert list(store.scan([])) == []

    def test_a_scan_sees_what_fits_the_condition(self, store: Store) -> None:
        add(store, *(fresh(f"t{n:03}", q=n % 7, site="a'b" if n % 2 else "größe") for n in range(300)))
        claim_all(store, 100)
        odd = Selection.parse('q == 3 and site == "a\'b"')
        assert ids(list(store.scan(where=odd))) == [f"t{n:03}" for n in range(300) if n % 7 == 3 and n % 2]
        locked = ids(list(store.scan([State.LOCKED], Selection.parse("site == 'größe'"))))
        assert locked == [f"t{n:03}" for n in range(0, 100, 2)]

    def test_conditions_reach_fields_of_any_name(self, store: Store) -> None:
        names = ("größe", "😀", "odd name", "a.b", "back\\slash", "$", "quote'", "toString")
        add(store, *(fresh(name, **{name: {"in": {name: 1}}, "other": 1}) for name in names))
        for name in names:
            inside = Selection.parse(f"doc[{name!r}]['in'][{name!r}] == 1")
            assert ids(list(store.scan(where=inside))) == [name]

    def test_none_is_seen_twice_when_tokens_change_and_come_and_go_meanwhile(self, store: Store) -> None:
        wanted = add_many(store, 420)
        seen: list[str] = []
        touched: set[str] = set()
        for n, token in enumerate(store.scan()):
            seen.append(token.id)
            if n == 10:
                touched.update(ids(claim_all(store, 50, "oldest")))
                touched.update(ids(claim_all(store, 50, "newest")))
            if n == 150:
                last = [get(store, f"token_{m:04}") for m in range(300, 320)]
                assert all(store.delete(last))
                touched.update(ids(last))
                add(store, fresh("new"))
        assert [token_id for token_id, times in Counter(seen).items() if times > 1] == []
        assert [i for i in seen if i not in touched | {"new"}] == [i for i in wanted if i not in touched]

    def test_none_is_seen_twice_when_tokens_change_between_the_states_asked_for(self, store: Store) -> None:
        wanted = add_many(store, 600)
        claim_all(store, 250, "oldest")
        seen = []
        for n, token in enumerate(store.scan([State.TODO, State.LOCKED])):
            seen.append(token.id)
            if n in {0, 120, 260, 300, 410}:
                claim_all(store, 70, "oldest")
        assert [token_id for token_id, times in Counter(seen).items() if times > 1] == []
        assert set(seen) <= set(wanted)

    def test_none_is_missed_when_what_was_seen_changes_or_goes(self, store: Store) -> None:
        add_many(store, 950)
        claim_all(store, 950)
        found = store.scan([State.LOCKED])
        while batch := list(islice(found, 100)):
            store.replace([Change(reset(token, 1.0)) for token in batch])
        assert store.counts()[State.TODO] == 950
        found = store.scan([State.TODO])
        while batch := list(islice(found, 100)):
            store.delete(batch)
        assert list(store.scan()) == []

    def test_a_scan_that_is_left_early_is_no_burden(self, store: Store) -> None:
        add_many(store, 250)
        assert next(iter(store.scan())).id == "token_0000"
        assert len(claim_all(store)) == 250

    def test_a_scan_needs_memory_for_a_page_and_not_for_the_pool(self, store: Store) -> None:
        for start in range(0, 4_000, 1_000):
            add(store, *(fresh(f"t{n}", data="x" * 4_000) for n in range(start, start + 1_000)))
        tracemalloc.start()
        try:
            assert sum(1 for _ in store.scan()) == 4_000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8_000_000, f"{peak:,} bytes at a time, of 16,000,000"

    def test_counts_are_of_each_state(self, store: Store) -> None:
        assert store.counts() == dict.fromkeys((*State, None), 0)
        add_many(store, 12)
        for n, token in enumerate(claim_all(store, 7)):
            if n:
                write(store, token, done=9, exit_code=n % 2)
        add(store, fresh("broken", lock="?"), fresh("old error", lock=-1, done=-1))
        assert store.counts() == {State.TODO: 5, State.LOCKED: 1, State.DONE: 3, State.ERROR: 4, None: 1}

    def test_counts_can_be_of_what_fits_a_condition(self, store: Store) -> None:
        add(store, *(fresh(f"t{n}", cores=n % 4) for n in range(20)))
        claim_all(store, 6)
        found = store.counts(Selection.parse("cores == 1"))
        assert found == {State.TODO: 3, State.LOCKED: 2, State.DONE: 0, State.ERROR: 0, None: 0}

    def test_what_the_store_needs_for_itself_is_no_document_of_others(self, store: Store) -> None:
        assert store.other_documents() == 0
        store.reserve_numbers("token_", 5)
        with store.filling() as filling:
            filling.known_push_keys(["a key"])
            add_many(store, 3)
        assert store.counts()[State.TODO] == 3
        assert store.other_documents() == 0

    def test_broken_documents_are_kept_counted_and_shown_by_the_rules_of_the_states(
        self, store: Store
    ) -> None:
        tokens = add(store, *(fresh(f"broken {n}", **fields) for n, fields in enumerate(BROKEN)))
        expected = Counter(state_of(token.body) for token in tokens)
        assert store.counts() == {state: expected[state] for state in (*State, None)}
        assert len(list(store.scan())) == len(BROKEN)
        for state in State:
            assert len(list(store.scan([state]))) == expected[state]
        assert len(claim_all(store)) == expected[State.TODO]
        store.progress(1e12)
        for token in store.scan():
            write(store, token, note="it can be written")
        assert store.delete(list(store.scan())) == [True] * len(BROKEN)

    def test_numbers_beyond_floats_are_kept_or_refused(self, store: Store) -> None:
        for n, fields in enumerate(BEYOND_FLOATS):
            token = fresh(f"huge {n}", **fields)
            try:
                added = add(store, token)[0]
            except InvalidInput:
                assert store.fetch([token.id]) == [None]
                continue
            assert get(store, token.id).body == token.body
            assert store.counts()[state_of(token.body)] >= 1
            write(store, added, note="it can be written")
            assert store.delete(list(store.scan())) == [True]

    def test_progress_counts_what_was_finished_lately(self, store: Store) -> None:
        now = store.now()
        assert store.progress(60).finished == 0
        assert store.progress(60).wall is None
        add_many(store, 6)
        for n, token in enumerate(claim_all(store, 5)):
            ended = now - (3_600 if n == 0 else 1)
            body = {**finished(token, ended, exit_code=n % 2).body}
            body["picas"] = {**body["picas"], "run": {**body["picas"]["run"], "wall": float(n)}}
            write(store, token, **body)
        lately = store.progress(60)
        assert (lately.finished, lately.wall) == (4, 2.5)
        assert 1 <= lately.seconds <= 60, "no further back than to the first of them"
        assert abs(lately.now - now) < 60
        assert store.progress(100_000).finished == 5

    def test_times_are_of_a_clock_that_goes_forward(self, store: Store) -> None:
        first = store.now()
        assert first > 1_700_000_000
        assert store.now() >= first

    def test_numbers_go_on_after_the_highest_there_is(self, store: Store) -> None:
        assert store.reserve_numbers("token_", 3) == 0
        assert store.reserve_numbers("token_", 1) == 3
        assert store.reserve_numbers("other_", 1) == 0
        add(store, fresh("token_500"), fresh("token_7"))
        assert store.reserve_numbers("token_", 10) == 501
        assert store.reserve_numbers("token_", 1) == 511

    def test_numbers_of_tokens_that_came_before_anybody_asked_count(self, store: Store) -> None:
        add(store, fresh("token_41"), fresh("token_5"))
        assert store.reserve_numbers("token_", 1) == 42
        assert store.delete([get(store, "token_41")]) == [True]
        assert store.reserve_numbers("token_", 1) == 43

    def test_what_is_not_a_plain_number_after_the_prefix_does_not_count(self, store: Store) -> None:
        add(
            store,
            *map(fresh, ("token_007", "token_9x", "token_-9", "token_1.5", "token_", "token_٣", "token_ 9")),
            *map(fresh, ("xtoken_9", "Token_9", "token_1_2", "token_9\n", "tokenX9", "token_" + "9" * 40)),
        )
        assert store.reserve_numbers("token_", 1) == 0
        add(store, fresh("token_07"), fresh("token_3"))
        assert store.reserve_numbers("token_", 1) == 4

    def test_a_prefix_may_be_empty_or_odd(self, store: Store) -> None:
        add(store, *map(fresh, ("17", "x99", "100%_8", "größe5", "😀3", "a_b1")))
        found = [store.reserve_numbers(prefix, 1) for prefix in ("", "100%_", "größe", "😀", "a_b", "a%b")]
        assert found == [18, 9, 6, 4, 2, 0]

    def test_a_prefix_may_end_in_a_digit(self, store: Store) -> None:
        add(store, fresh("run15"))
        assert store.reserve_numbers("run1", 1) == 6
        assert store.reserve_numbers("run", 1) == 16
        add(store, fresh("run120"))
        assert store.reserve_numbers("run1", 1) == 21
        assert store.reserve_numbers("run", 1) == 121
