"""The contract for tokens that are free and wait for their next try."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from picas.selection import Selection
from picas.testing.base import StoreFixtures, add, claim_all, fresh, get, ids, take, write
from picas.tokens import State, Token
from picas.transitions import reset

if TYPE_CHECKING:
    from picas.stores.base import Store

HOUR = 3600.0

PATIENCE = 60.0
"""Seconds after which a token whose time has come counts as never claimed."""


def waiting(store: Store, token_id: str, seconds: float, **fields: Any) -> Token:
    """A new token that waits for so many seconds from now on."""
    not_before = round(store.now() + seconds, 3)
    return fresh(token_id, picas={"not_before": not_before, "spent": {"lost": 1}}, **fields)


def claim_in_time(store: Store, count: int, order: str = "oldest") -> list[Token]:
    """So many tokens, claimed as soon as they can be."""
    give_up = time.monotonic() + PATIENCE
    claimed: list[Token] = []
    while len(claimed) < count:
        claimed += store.claim(take, count - len(claimed), None, order)
        assert time.monotonic() < give_up, f"{len(claimed)} of {count} were claimed"
        time.sleep(0.05)
    return claimed


class LaterRules(StoreFixtures):
    """Tokens with a time before which they are not claimed."""

    def test_a_token_that_waits_is_todo_and_is_not_claimed(self, store: Store) -> None:
        add(store, waiting(store, "a", HOUR), waiting(store, "b_2", HOUR, priority=5, cores=2), fresh("c_1"))
        assert store.counts()[State.TODO] == 3
        assert store.counts(Selection.parse("cores == 2"))[State.TODO] == 1
        assert sorted(token.id for token in store.scan([State.TODO])) == ["a", "b_2", "c_1"]
        assert sorted(token.id for token in store.scan()) == ["a", "b_2", "c_1"]
        assert list(store.scan([State.LOCKED, State.DONE, State.ERROR])) == []
        assert ids(claim_all(store)) == ["c_1"]
        for order in ("priority", "oldest", "newest"):
            assert store.claim(take, 5, None, order) == []
            assert store.claim(take, 5, Selection.parse("cores == 2"), order) == []
        assert get(store, "a").state is State.TODO

    def test_those_that_wait_are_listed_by_age_among_the_others(self, store: Store) -> None:
        for n in range(6):
            name = f"t_{n}"
            add(store, waiting(store, name, HOUR - n) if n % 2 else fresh(name))
        assert [token.id for token in store.scan([State.TODO])] == [f"t_{n}" for n in range(6)]

    def test_a_token_is_claimed_once_its_time_has_come(self, store: Store) -> None:
        add(store, waiting(store, "a", 3.0, note="kept"), waiting(store, "b", HOUR))
        assert store.claim(take, 5, None, "oldest") == []
        (claimed,) = claim_in_time(store, 1)
        assert (claimed.id, claimed.state, claimed["note"]) == ("a", State.LOCKED, "kept")
        assert claimed.picas["spent"] == {"lost": 1}
        there = get(store, "a")
        assert (there.not_before, there.claim_id) == (0, claimed.claim_id)
        assert store.claim(take, 5, None, "oldest") == []

    def test_of_those_whose_time_has_come_the_most_important_is_first(self, store: Store) -> None:
        add(store, *(waiting(store, f"t_{n}", -n, priority=n % 4) for n in range(8)))
        claimed = [claim_in_time(store, 1, "priority")[0].id for _ in range(8)]
        assert claimed == ["t_3", "t_7", "t_2", "t_6", "t_1", "t_5", "t_0", "t_4"]

    def test_the_first_that_is_due_is_told(self, store: Store) -> None:
        assert store.next_due() is None
        two = Selection.parse("cores == 2")
        add(store, fresh("now"))
        tokens = add(store, *(waiting(store, f"t_{n}", HOUR * n, cores=n) for n in (3, 1, 2)))
        claim_all(store)
        assert store.next_due() == tokens[1].not_before
        assert store.claim(take, 1, two, "oldest") == []
        assert store.next_due(two) == tokens[2].not_before
        assert store.next_due(Selection.parse("cores == 7")) is None

    def test_who_takes_the_time_away_sets_it_free(self, store: Store) -> None:
        tokens = add(store, waiting(store, "a", HOUR), waiting(store, "b", HOUR))
        write(store, reset(tokens[1], store.now()))
        assert ids(claim_all(store)) == ["b"]
        assert store.next_due() == tokens[0].not_before

    def test_a_token_may_begin_to_wait_and_be_told_to_wait_for_longer(self, store: Store) -> None:
        token = add(store, fresh("a"))[0]
        for hours in (1, 2):
            later = waiting(store, "a", hours * HOUR)
            token = write(store, replace(later, rev=token.rev))
            assert store.claim(take, 1, None, "oldest") == []
            assert store.next_due() == later.not_before
        assert store.delete([token]) == [True]
        assert store.next_due() is None
        assert store.counts()[State.TODO] == 0

    def test_only_what_is_free_waits(self, store: Store) -> None:
        ours = {"not_before": store.now() + HOUR}
        add(
            store, fresh("locked", lock=5, picas=ours), fresh("done", lock=5, done=6, exit_code=0, picas=ours)
        )
        counts = store.counts()
        assert (counts[State.TODO], counts[State.LOCKED], counts[State.DONE]) == (0, 1, 1)
        assert store.next_due() is None

    def test_what_is_no_time_keeps_nobody_waiting(self, store: Store) -> None:
        values: list[Any] = ["soon", None, True, False, 0, -5.5, [9e9], {}, "9e9"]
        tokens = add(store, *(fresh(f"t_{n}", picas={"not_before": value}) for n, value in enumerate(values)))
        assert ids(claim_all(store)) == ids(tokens)

    def test_many_that_are_due_at_once_are_claimed_once_each(self, store: Store, url: str) -> None:
        tokens = add(store, *(waiting(store, f"t_{n:03}", -1) for n in range(300)))
        start = threading.Barrier(4)

        def drain() -> list[str]:
            mine: list[str] = []
            own = self.open(url)
            give_up = time.monotonic() + PATIENCE
            start.wait(30)
            while own.counts()[State.TODO] and time.monotonic() < give_up:
                mine += ids(own.claim(take, 20, None, "oldest"))
            own.close()
            return mine

        with ThreadPoolExecutor(4) as pool:
            parts = [part.result(2 * PATIENCE) for part in [pool.submit(drain) for _ in range(4)]]
        assert sorted(token_id for part in parts for token_id in part) == ids(tokens)
