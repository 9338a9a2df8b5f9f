"""Actors on small objects in place of a database, as in people's own tests."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from tests.classic.mocks import MockDatabase, free

from picas.actors import AbstractRunActor, RunActor
from picas.iterators import ViewIterator

if TYPE_CHECKING:
    from picas.documents import Task


class Actor(RunActor):
    code = 0

    def process_task(self, task: Any) -> None:
        task["exit_code"] = self.code
        task["result"] = {1, 2}  # no JSON, which is no business of ours here
        task.done()


def test_it_locks_works_and_saves_one_after_the_other() -> None:
    db = MockDatabase(free("a"), free("b"))
    actor = Actor(db)
    actor.run()
    assert db.told == [("a", True, False), ("a", True, True), ("b", True, False), ("b", True, True)]
    assert "picas" not in db.documents["a"]
    assert db.documents["a"]["result"] == {1, 2}
    assert actor.tasks_processed == 2


def test_view_and_parameters_reach_the_database() -> None:
    asked: list[Any] = []

    class Asked(MockDatabase):
        def get_single_from_view(self, view: str, **params: Any) -> Task:
            asked.append((view, params))
            raise IndexError

    Actor(Asked(), view="mine", design_doc="Some", key=3).run()
    assert asked == [("mine", {"window_size": 100, "design_doc": "Some", "key": 3})]


def test_the_second_token_is_untouched_when_one_is_wanted() -> None:
    db = MockDatabase(free("a"), free("b"))
    Actor(db).run(max_tasks=1)
    assert db.documents["b"] == {"_rev": "0", **free("b")}


def test_tokens_without_fields_are_handed_out_again() -> None:
    db = MockDatabase({"_id": "a", "type": "token", "lock": 0, "done": 0})
    actor = Actor(db)
    actor.code = 3
    actor.run(max_scrub=2)
    assert (actor.tasks_processed, db.documents["a"]["scrub_count"], db.documents["a"]["exit_code"]) == (
        3,
        2,
        3,
    )


@pytest.mark.parametrize("foreign", [False, True], ids=["ours", "couchdb-python's"])
def test_a_conflict_on_the_last_save_loses_nothing(foreign: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    db = MockDatabase(free("a"))
    if foreign:
        theirs = types.ModuleType("couchdb.http")
        theirs.ResourceConflict = type("ResourceConflict", (Exception,), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "couchdb.http", theirs)
        monkeypatch.setattr("tests.classic.mocks.ResourceConflict", theirs.ResourceConflict)

    class Edited(Actor):
        def process_task(self, task: Any) -> None:
            db.documents["a"].update(_rev="7", note="theirs")
            super().process_task(task)
            task.put_attachment("a.txt", "a")

    Edited(db).run()
    assert (db.documents["a"]["exit_code"], db.documents["a"]["note"]) == (0, "theirs")
    assert db.documents["a"]["done"] > 0
    assert list(db.documents["a"]["_attachments"]) == ["a.txt"]


def test_a_token_that_somebody_else_has_taken_is_left_to_them(caplog: pytest.LogCaptureFixture) -> None:
    db = MockDatabase(free("a"))

    class Late(Actor):
        def process_task(self, task: Any) -> None:
            db.documents["a"].update(_rev="7", lock=5, hostname="elsewhere")
            super().process_task(task)

    Late(db).run()
    assert (db.documents["a"]["lock"], db.documents["a"]["done"]) == (5, 0)
    assert "somebody else has the token" in caplog.text


def test_a_token_that_is_gone_ends_nothing() -> None:
    db = MockDatabase(free("a"), free("b"))

    class Gone(Actor):
        def process_task(self, task: Any) -> None:
            if task.id == "a":
                del db.documents["a"]
            super().process_task(task)

    actor = Gone(db)
    actor.run()
    assert actor.tasks_processed == 2


def test_an_error_of_the_database_comes_out() -> None:
    class Broken(MockDatabase):
        def save(self, task: Task) -> Task:
            if task["done"]:
                raise RuntimeError("the disk is full")
            return super().save(task)

    with pytest.raises(RuntimeError, match="the disk is full"):
        Actor(Broken(free("a"))).run()


def test_tokens_come_from_any_iterable() -> None:
    db = MockDatabase(free("a"), free("b"))
    actor = Actor(db, iterator=[db.save(db.get(name).lock()) for name in "ba"])
    actor.run()
    assert [name for name, _, done in db.told if done] == ["b", "a"]


def test_an_error_of_the_iterator_comes_out() -> None:
    class Broken(ViewIterator):
        def claim_task(self) -> Any:
            raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        Actor(MockDatabase(), iterator=Broken()).run()


def test_a_run_by_hand_saves_the_task() -> None:
    db = MockDatabase(free("a"))
    actor = Actor(db)
    actor._run(db.get("a"), None)
    assert db.told == [("a", False, True)]
    assert (actor.tasks_processed, actor.current_task.id) == (1, "a")


def test_an_actor_has_a_copy_of_its_database() -> None:
    class Copied(MockDatabase):
        def copy(self) -> MockDatabase:
            return MockDatabase()

    db = Copied()
    actor = Actor(db)
    actor.reconnect()
    assert actor.db is not db
    assert actor.iterator.database is actor.db


def test_an_abstract_actor_runs_as_well() -> None:
    class Plain(AbstractRunActor):
        def process_task(self, task: Any) -> None:
            task.done()

    db = MockDatabase(free("a"))
    Plain(db).run()
    assert db.documents["a"]["done"] > 0
    with pytest.raises(NotImplementedError, match="has no process_task"):
        RunActor(db).process_task(None)


def test_an_actor_of_0x_needs_a_mapping_of_documents() -> None:
    class Old(RunActor):
        def __init__(self, iterator: Any, client: Any) -> None:
            self.iterator = iterator
            self.client = client

        def process_token(self, key: str, token: Any) -> None:
            token["done"] = 5

    client = types.SimpleNamespace(db={})
    Old([("a", "a", free("a", lock=4))], client).run()
    assert client.db["a"]["done"] == 5
