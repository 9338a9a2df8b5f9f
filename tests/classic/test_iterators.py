"""The iterators of tokens by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from tests.classic.mocks import MockDatabase, free

from picas.iterators import (
    BasicViewIterator,
    EndlessViewIterator,
    PrioritizedViewIterator,
    TaskViewIterator,
    ViewIterator,
)


def test_a_token_is_locked_before_it_comes() -> None:
    db = MockDatabase(free("a"))
    (task,) = TaskViewIterator(db, "todo")
    assert (task["lock"] > 0, db.documents["a"]["lock"]) == (True, task["lock"])


def test_it_is_stopped_and_begins_again() -> None:
    iterator = TaskViewIterator(MockDatabase(free("a"), free("b")), "todo")
    assert next(iterator).id == "a"
    iterator.stop()
    assert list(iterator) == []
    iterator.reset()
    assert [task.id for task in iterator] == ["b"]
    assert iterator.is_stopped()


def test_somebody_who_was_faster_ends_nothing() -> None:
    db = MockDatabase(free("a"), free("b"))
    db.between = lambda: db.documents["a"].update(_rev="5", lock=5)
    assert next(TaskViewIterator(db, "todo")).id == "b"


def test_other_errors_come_out() -> None:
    class Broken(MockDatabase):
        def save(self, task: Any) -> Any:
            raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        next(TaskViewIterator(Broken(free("a")), "todo"))


def test_the_first_view_goes_first_each_time() -> None:
    db = MockDatabase(free("a", view="low"), free("b", view="high"))
    iterator = PrioritizedViewIterator(db, "high", "low")
    assert next(iterator).id == "b"
    db.documents["c"] = {"_rev": "0", **free("c", view="high")}
    assert [task.id for task in iterator] == ["c", "a"]


def test_an_endless_one_goes_on_until_it_is_told_to_end() -> None:
    db = MockDatabase()

    def is_over(limit: int) -> bool:
        db.documents.setdefault("a", {"_rev": "0", **free("a")})
        return len(db.told) >= limit

    iterator = EndlessViewIterator(TaskViewIterator(db, "todo"), 0.01, is_over, limit=1)
    assert [task.id for task in iterator] == ["a"]
    assert iterator.is_cancelled()
    with pytest.raises(IndexError):
        iterator.claim_task()


def test_all_of_them_take_another_database() -> None:
    inner = TaskViewIterator(MockDatabase(), "todo")
    EndlessViewIterator(inner).reconnect("another")
    assert inner.database == "another"


def test_one_of_the_programs_own_says_how_it_claims() -> None:
    class Own(ViewIterator):  # without our __init__
        def __init__(self) -> None:
            self.left = [1, 2]

        def claim_task(self) -> int:
            return self.left.pop()

    assert list(Own()) == [2, 1]
    with pytest.raises(NotImplementedError, match="has no claim_task"):
        next(ViewIterator())


def test_that_of_0x_gives_key_reference_and_token() -> None:
    class Client(MockDatabase):
        @property
        def db(self) -> dict[str, Any]:
            return self.documents

    client = Client(free("a"))
    iterator = BasicViewIterator(client, "Monitor/todo")
    ((key, ref, token),) = iterator
    assert (key, ref, token["lock"] > 0, client.documents["a"] is token) == ("a", "a", True, True)
    iterator.reconnect("another")
    assert iterator.client == "another"
