"""The contract for counting tokens by what is in their fields, and for those that ended last."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from picas.testing.base import StoreFixtures, add, add_many, claim_all, finished, fresh, get, ids, write
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from picas.stores.base import Store

NEEDS = (("cores",), ("gpus",), ("memory",), ("walltime",))


def told(store: Store, fields: Sequence[Sequence[str]] = NEEDS) -> dict[str, int]:
    """What the store counts, by state and values as JSON: Python takes true and 1 for the same."""
    counted: Counter[str] = Counter()
    for each in store.tally(fields):
        counted[shown(each.state, *each.values)] += each.count
    return dict(counted)


def shown(state: State, *values: Any) -> str:
    """One kind of tokens in the form of `told`."""
    return json.dumps([state.value, *values], sort_keys=True)


class TallyRules(StoreFixtures):
    """How many tokens are alike."""

    def test_tokens_that_are_alike_are_counted_together(self, store: Store) -> None:
        assert told(store) == {}
        add(store, *(fresh(f"a{n}") for n in range(3)))
        add(store, *(fresh(f"b{n}", cores=4, memory="4GB", walltime="1h30m") for n in range(5)))
        add(store, fresh("c", gpus=1, walltime=90.5))
        assert told(store) == {
            shown(State.TODO, None, None, None, None): 3,
            shown(State.TODO, 4, None, "4GB", "1h30m"): 5,
            shown(State.TODO, None, 1, None, 90.5): 1,
        }

    def test_values_keep_their_types(self, store: Store) -> None:
        values: tuple[Any, ...] = (1, "1", True, False, None, 0, "", "größe 😀", [1, [2]], {"a": {"b": None}})
        add(store, *(fresh(f"t{n}", cores=value) for n, value in enumerate(values)))
        expected = Counter(shown(State.TODO, value) for value in values)
        assert told(store, [("cores",)]) == expected

    def test_those_that_run_are_counted_and_those_that_ended_are_not(self, store: Store) -> None:
        add_many(store, 9, cores=2)
        held = claim_all(store, 4)
        assert told(store, [("cores",)]) == {shown(State.TODO, 2): 5, shown(State.LOCKED, 2): 4}
        for n, token in enumerate(held[:3]):
            write(store, token, **finished(token, store.now(), exit_code=n).body)
        assert told(store, [("cores",)]) == {shown(State.TODO, 2): 5, shown(State.LOCKED, 2): 1}
        assert all(store.delete(list(store.scan([State.TODO]))))
        assert told(store, [("cores",)]) == {shown(State.LOCKED, 2): 1}

    def test_those_that_wait_for_their_next_try_are_counted_when_it_has_come(self, store: Store) -> None:
        now = store.now()
        add(
            store,
            fresh("later", cores=1, picas={"not_before": now + 3600}),
            fresh("now", cores=1, picas={"not_before": now - 3600}),
            fresh("before", cores=1, picas={"not_before": 1.0}),
            fresh("free", cores=1),
        )
        assert told(store, [("cores",)]) == {shown(State.TODO, 1): 3}

    def test_any_field_can_be_asked_for(self, store: Store) -> None:
        names = ("größe", "😀", "odd name", "a.b", "back\\slash", "$", "it's", "toString")
        add(store, *(fresh(f"t{n}", **{name: {"in": {name: n}}}) for n, name in enumerate(names)))
        for n, name in enumerate(names):
            found = told(store, [(name, "in", name), ("_id",)])
            assert found[shown(State.TODO, n, f"t{n}")] == 1
            assert found[shown(State.TODO, None, f"t{(n + 1) % len(names)}")] == 1
        assert told(store, [("_id",)]) == {shown(State.TODO, f"t{n}"): 1 for n in range(len(names))}
        assert told(store, [("nothing", "at", "all")]) == {shown(State.TODO, None): len(names)}

    def test_what_is_counted_by_is_no_document_of_others(self, store: Store) -> None:
        add_many(store, 2)
        told(store)
        told(store, [("site",)])
        assert store.other_documents() == 0
        assert len(list(store.scan())) == 2

    def test_the_last_that_ended_come_first(self, store: Store) -> None:
        assert store.latest(5) == []
        now = store.now()
        add_many(store, 8)
        for n, token in enumerate(claim_all(store, 6)):
            write(store, token, **finished(token, now - 10 * n, exit_code=n % 2).body)
        assert ids(store.latest(3)) == ["token_0000", "token_0001", "token_0002"]
        assert len(store.latest(100)) == 6
        assert store.latest(1)[0].body == get(store, "token_0000").body
