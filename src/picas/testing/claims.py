"""The contract for claims: exclusive, in order, and no more than asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from picas.selection import Selection
from picas.stores.base import Change
from picas.testing.base import (
    StoreFixtures,
    add,
    add_many,
    blob,
    claim_all,
    fresh,
    get,
    ids,
    refused,
    take,
    write,
)
from picas.tokens import State, Token
from picas.transitions import release

if TYPE_CHECKING:
    from picas.stores.base import Store


class ClaimRules(StoreFixtures):
    """Claiming."""

    def test_a_claim_writes_the_version_that_take_made(self, store: Store) -> None:
        add(store, fresh("a", note="kept"))
        claimed = claim_all(store)[0]
        there = get(store, "a")
        assert claimed.state is State.LOCKED
        assert claimed.claim_id
        assert (there.body, there.rev) == (claimed.body, claimed.rev)
        assert there.body["note"] == "kept"

    def test_take_is_given_the_token_as_it_is(self, store: Store) -> None:
        add(store, fresh("a", note="as it is"))
        seen: list[Token] = []

        def remember(token: Token) -> Token:
            seen.append(token)
            return take(token)

        store.claim(remember, 1, None, "oldest")
        assert [(token.id, token.body["note"], token.state) for token in seen] == [
            ("a", "as it is", State.TODO)
        ]

    def test_nothing_to_claim_is_an_empty_list(self, store: Store) -> None:
        assert claim_all(store) == []
        add_many(store, 2)
        claim_all(store)
        assert claim_all(store) == []

    def test_no_more_are_claimed_than_asked_for(self, store: Store) -> None:
        add_many(store, 10)
        assert len(claim_all(store, limit=3)) == 3
        assert len(claim_all(store, limit=1)) == 1
        assert len(claim_all(store, limit=50)) == 6
        assert store.counts()[State.LOCKED] == 10

    def test_only_todo_tokens_are_claimed(self, store: Store) -> None:
        add(
            store,
            fresh("locked", lock=5),
            fresh("done", lock=5, done=6, exit_code=0),
            fresh("error", lock=5, done=6, exit_code=1),
            fresh("pilot error", lock=99, done=99),
            fresh("old error", lock=-1, done=-1),
            fresh("broken", lock="?"),
            fresh("no token", type="something else"),
            fresh("todo"),
            fresh("todo, by a string", lock="0", done="0"),
        )
        assert ids(claim_all(store)) == ["todo", "todo, by a string"]

    def test_oldest_and_newest_go_by_age(self, store: Store) -> None:
        add(store, fresh("b_1", priority=1))
        add(store, fresh("a_2", priority=9), fresh("d_3", priority=5))
        add(store, fresh("c_10"))
        assert ids(claim_all(store, 2, "oldest")) == ["b_1", "a_2"]
        assert ids(claim_all(store, 2, "newest")) == ["c_10", "d_3"]

    def test_priority_goes_highest_first_and_among_equals_oldest_first(self, store: Store) -> None:
        priorities = [0, 5, -3, 0.5, 5, None, -2.5, "high", 1e9, 0, 5.0, True]
        add(
            store,
            *(
                fresh(f"{n:02}", **({} if value is None else {"priority": value}))
                for n, value in enumerate(priorities)
            ),
        )
        order: list[str] = []
        while claimed := claim_all(store, 2, "priority"):
            order += ids(claimed)
        # What is no number counts as 0, which is what a token without a priority has.
        assert order == ["08", "01", "04", "10", "03", "00", "05", "07", "09", "11", "06", "02"]

    def test_the_new_priority_counts_once_it_is_written(self, store: Store) -> None:
        a, *_ = add(store, fresh("a"), fresh("b", priority=1))
        write(store, a, priority=2)
        assert ids(claim_all(store, 1, "priority")) == ["a"]

    def test_only_what_fits_the_condition_is_claimed(self, store: Store) -> None:
        add(store, *(fresh(f"t{n}", cores=n % 4, input={"q": n / 10}) for n in range(12)))
        four = Selection.parse("cores == 3 and input.q > 0.5")
        assert ids(store.claim(take, 1, four, "oldest")) == ["t7"]
        assert ids(store.claim(take, 10, four, "oldest")) == ["t11"]
        assert store.claim(take, 10, four, "oldest") == []
        assert store.counts()[State.TODO] == 10

    def test_a_take_that_fails_claims_nothing(self, store: Store) -> None:
        add_many(store, 3)

        def fail(token: Token) -> Token:
            if token.id == "token_0001":
                raise KeyError("a fault in the caller")
            return take(token)

        with refused(KeyError):
            store.claim(fail, 3, None, "oldest")
        assert store.counts()[State.TODO] == 3
        assert len(claim_all(store)) == 3

    def test_a_released_token_can_be_claimed_again(self, store: Store) -> None:
        add_many(store, 3)
        first = claim_all(store, 1)[0]
        free = release(first, 1_700_000_001.0)
        assert write(store, free).state is State.TODO
        again = {token.id: token.claim_id for token in claim_all(store)}
        assert len(again) == 3
        assert again[first.id] != first.claim_id

    def test_claimed_tokens_can_be_finished_with_their_logs(self, store: Store) -> None:
        add_many(store, 5)
        for token in claim_all(store):
            write(store, token, blob("log", b"x"), done=1_700_000_009, exit_code=0)
        assert store.counts()[State.DONE] == 5

    def test_what_became_of_a_claimed_token_is_told_until_it_is_gone(self, store: Store) -> None:
        add(store, fresh("a"))
        claimed = claim_all(store)[0]
        edited = write(store, Token(claimed.id, {**claimed.body, "note": 1}, claimed.rev))
        newest = store.newest(claimed)
        assert newest is not None
        assert (newest.rev, newest.claim_id, newest["note"]) == (edited.rev, claimed.claim_id, 1)
        assert store.delete([newest]) == [True]
        assert store.newest(claimed) is None

    def test_threads_that_share_a_store_never_claim_the_same_token(self, store: Store) -> None:
        wanted = add_many(store, 200)
        start = threading.Barrier(8)

        def drain() -> list[str]:
            mine: list[str] = []
            start.wait(30)
            while claimed := claim_all(store, 3, "priority"):
                mine += ids(claimed)
            return mine

        with ThreadPoolExecutor(8) as pool:
            parts = [part.result(60) for part in [pool.submit(drain) for _ in range(8)]]
        assert sorted(token_id for part in parts for token_id in part) == wanted

    def test_of_threads_that_write_one_version_one_wins(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        start = threading.Barrier(8)

        def change(name: int) -> bool:
            mine = Token(token.id, {**token.body, "winner": name}, token.rev)
            start.wait(30)
            return store.replace([Change(mine)])[0] is not None

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(change, range(8)))
        assert won.count(True) == 1
        assert get(store, "a").body["winner"] == won.index(True)
