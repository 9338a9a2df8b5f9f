"""Actors on databases of our own: an embedded one and CouchDB."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.classic.test_clients import TODO, arguments

from picas.actors import RunActor
from picas.budgets import Budgets
from picas.clients import CouchClient, CouchDB
from picas.documents import Task
from picas.errors import TokenTooLarge
from picas.executers import execute
from picas.finishing import Result
from picas.iterators import (
    BasicViewIterator,
    EndlessViewIterator,
    PrioritizedViewIterator,
    TaskViewIterator,
    ViewIterator,
)
from picas.modifiers import BasicTokenModifier
from picas.payload import Payload
from picas.spool.spool import Spool
from picas.tokens import Edits, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

both = pytest.mark.any_pool

HIGH = "function(doc) { if (doc.type == 'token' && doc.lock == 0 && doc.done == 0 && doc.urgent) emit(doc._id, 1); }"


@pytest.fixture
def db(pool_url: str) -> CouchDB:
    db = CouchDB(**arguments(pool_url))
    if not pool_url.startswith("sqlite:"):
        db.add_view("todo", TODO)
    return db


class Actor(RunActor):
    """Does what a test says, and notes what it worked on."""

    def __init__(self, db: Any, work: Callable[[Any], object], **given: Any) -> None:
        super().__init__(db, **given)
        self.work = work
        self.seen: list[str] = []

    def process_task(self, task: Any) -> None:
        self.seen.append(task["input"])
        self.work(task)


def finish(task: Any) -> None:
    task["exit_code"] = 0
    task.done()


def fail(task: Any) -> None:
    task["exit_code"] = 3
    task.done()


def states(db: CouchDB) -> list[Any]:
    return sorted((token.input, token.state.value if token.state else None) for token in db.pool.tokens())


def only(db: CouchDB) -> Any:
    (token,) = db.pool.tokens()
    return db.pool.get(token.id)


def attached(db: CouchDB, token: Any) -> dict[str, bytes]:
    return {name: b"".join(db.pool.read_attachment(token.id, name)) for name in token.attachments}


@both
def test_what_the_task_holds_afterwards_is_the_result(
    db: CouchDB, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(task: Any) -> None:
        print("Working on token:", task.id)
        task["output"] = {"n": [1, 2]}
        task["mine"] = None
        task.put_attachment(f"logs_{task.id}.out", b"said")
        task.put_attachment("results/of it.txt", "text")
        del task["old"]
        finish(task)

    db.pool.push([{"_id": "t", "input": "x", "old": 1, "cores": 4}])
    actor = Actor(db, work)
    actor.run()
    token = only(db)
    assert capsys.readouterr().out == "Working on token: t\n"
    assert (token.state, token["output"], token["mine"], "old" in token.body) == (
        State.DONE,
        {"n": [1, 2]},
        None,
        False,
    )
    assert attached(db, token) == {"logs_t.out": b"said", "results/of it.txt": b"text"}
    assert token.run["claim"]
    assert token.run["ended"] >= token.run["started"]
    assert (actor.tasks_processed, actor.current_task) == (1, None)


def test_an_exception_marks_the_token_and_others_go_on(db: CouchDB) -> None:
    def work(task: Any) -> None:
        if task["input"] == "bad":
            raise RuntimeError("boom")
        finish(task)

    db.pool.push(["bad", "good"])
    Actor(db, work).run()
    bad, good = sorted(db.pool.tokens(), key=lambda token: str(token.input))
    assert (bad.state, good.state) == (State.ERROR, State.DONE)
    assert (bad["lock"], bad["done"], len(bad["error"])) == (99, 99, 1)
    assert bad["error"][0]["message"] == "Exception <class 'RuntimeError'> occurred during processing: boom"
    assert bad["error"][0]["exception"].endswith("RuntimeError: boom\n")


def test_an_exception_after_the_command_ended_well_is_an_error_all_the_same(db: CouchDB) -> None:
    def work(task: Any) -> None:
        finish(task)
        raise RuntimeError("the upload failed")

    db.pool.push(["x"])
    Actor(db, work).run()
    assert (only(db).state, only(db)["exit_code"]) == (State.ERROR, "")


@both
def test_a_failed_token_is_handed_out_again_and_its_logs_are_kept(db: CouchDB) -> None:
    def work(task: Any) -> None:
        task.put_attachment(f"logs_{task.id}.out", f"try {task['scrub_count']}")
        fail(task)

    db.pool.push([{"_id": "t", "input": "x"}])
    actor = Actor(db, work)
    actor.run(max_scrub=2)
    token = only(db)
    assert (actor.seen, token.state, token["scrub_count"]) == (["x"] * 3, State.ERROR, 2)
    assert attached(db, token) == {
        "logs_t.out": b"try 2",
        "logs_t.attempt-1.out": b"try 0",
        "logs_t.attempt-2.out": b"try 1",
    }


def test_a_token_that_a_person_reset_has_its_whole_budget_again(db: CouchDB) -> None:
    db.pool.push(["x"])
    Actor(db, fail).run(max_scrub=1)
    db.pool.reset(db.pool.tokens("error"))
    actor = Actor(db, fail)
    actor.run(max_scrub=1)
    assert (actor.seen, only(db).state) == (["x", "x"], State.ERROR)


def test_a_token_that_is_not_marked_as_finished_stays_locked(db: CouchDB) -> None:
    db.pool.push(["x"])
    Actor(db, lambda task: task.update(note="no end")).run()
    token = only(db)
    assert (token.state, token["note"], token["exit_code"]) == (State.LOCKED, "no end", "")


def test_tokens_of_other_programs_lack_fields(db: CouchDB) -> None:
    db.db["t"] = {"type": "token", "lock": 0, "done": 0, "input": "x"}
    actor = Actor(db, fail)
    actor.run(max_scrub=1)
    assert (len(actor.seen), only(db)["scrub_count"], "output" in only(db).body) == (2, 1, False)


def test_an_attachment_is_read_and_removed(db: CouchDB) -> None:
    def work(task: Any) -> None:
        task["output"] = {"read": task.get_attachment("in.txt", db)["data"].decode()}
        task.remove_attachment("in.txt")
        finish(task)

    task = Task({"_id": "t", "type": "token", "input": "x"})
    task.put_attachment("in.txt", "given")
    db.save(task)
    Actor(db, work).run()
    assert (only(db).state, only(db)["output"], only(db).attachments) == (State.DONE, {"read": "given"}, {})


def test_a_task_is_saved_while_it_is_worked_on(db: CouchDB) -> None:
    def work(task: Any) -> None:
        task["half"] = 1
        task.put_attachment("half.txt", "half")
        db.save(task)
        task["whole"] = 2
        finish(task)

    db.pool.push(["x"])
    Actor(db, work).run()
    token = only(db)
    assert (token.state, token["half"], token["whole"]) == (State.DONE, 1, 2)
    assert attached(db, token) == {"half.txt": b"half"}
    assert "started" in token.run


def test_a_task_that_the_program_saves_as_finished_is_its_own(db: CouchDB) -> None:
    def work(task: Any) -> None:
        finish(task)
        db.save(task)

    db.pool.push(["x"])
    Actor(db, work).run()
    assert (only(db).state, only(db).history, "started" in only(db).run) == (State.DONE, [], True)


def test_what_somebody_else_writes_meanwhile_stays(db: CouchDB) -> None:
    def work(task: Any) -> None:
        other = db.get(task.id)
        other["theirs"] = 1
        other["both"] = "theirs"
        db.save(other)
        task["both"] = "mine"
        finish(task)

    db.pool.push(["x"])
    Actor(db, work).run()
    assert (only(db).state, only(db)["theirs"], only(db)["both"]) == (State.DONE, 1, "mine")


def test_a_result_that_comes_too_late_is_kept_beside_the_other(db: CouchDB) -> None:
    def work(task: Any) -> None:
        db.pool.reset(db.pool.tokens(ids=[task.id]))
        other = db.pool.claim()
        assert other is not None
        db.pool.finish(other, Outcome(0, 1.0, 2.0))
        task["output"] = {"late": True}
        task.put_attachment("late.txt", "late")
        fail(task)

    db.pool.push(["x"])
    Actor(db, work).run()
    token = only(db)
    late = next(entry for entry in token.history if entry.get("superseded"))
    assert (token.state, token.output, late["wrote"]["output"]) == (State.DONE, {}, {"late": True})
    assert list(attached(db, token).values()) == [b"late"]


def test_a_token_that_the_program_deletes_is_gone(db: CouchDB) -> None:
    db.pool.push(["x"])
    Actor(db, lambda task: db.delete(db.get(task.id))).run()
    assert states(db) == []


def test_tokens_that_are_pushed_meanwhile_are_worked_on(db: CouchDB) -> None:
    def work(task: Any) -> None:
        if task["input"] == "first":
            db.save(Task({"_id": "second", "type": "token", "input": "second"}))
        finish(task)

    db.pool.push(["first"])
    actor = Actor(db, work)
    actor.run()
    assert actor.seen == ["first", "second"]


def test_a_field_that_cannot_be_saved_makes_an_error(db: CouchDB) -> None:
    def work(task: Any) -> None:
        task["result"] = object()
        finish(task)

    db.pool.push(["x"])
    Actor(db, work).run()
    assert (only(db).state, "result" in only(db).body) == (State.ERROR, False)
    assert "the field result cannot be saved" in only(db)["error"][0]["message"]


def test_it_ends_after_so_many_tasks(db: CouchDB) -> None:
    db.pool.push(["a", "b", "c"])
    actor = Actor(db, finish)
    actor.run(max_tasks=2)
    assert sorted(state for _, state in states(db)) == ["done", "done", "todo"]
    assert (actor.tasks_processed, actor.current_task["input"]) == (2, actor.seen[-1])
    actor.run()
    assert actor.tasks_processed == 3


def test_it_ends_when_a_function_says_so(db: CouchDB) -> None:
    db.pool.push(["a", "b", "c"])
    actor = Actor(db, finish)
    actor.run(stop_function=lambda count: actor.tasks_processed >= count, count=2)
    assert sorted(state for _, state in states(db)) == ["done", "done", "todo"]


def test_it_ends_when_the_iterator_is_stopped(db: CouchDB) -> None:
    db.pool.push(["a", "b"])
    actor = Actor(db, lambda task: (finish(task), actor.iterator.stop()))
    actor.run()
    assert sorted(state for _, state in states(db)) == ["done", "todo"]


def test_it_waits_for_none_when_time_is_up(db: CouchDB) -> None:
    actor = Actor(db, finish, iterator=EndlessViewIterator(TaskViewIterator(db, "todo")))
    actor.run(max_total_time=0.1)
    db.pool.push(["x"])
    assert actor.seen == []


def test_an_endless_iterator_waits_until_it_is_told_to_end(db: CouchDB) -> None:
    asked: list[str] = []

    def is_enough(name: str) -> bool:
        asked.append(name)
        if len(asked) == 3:
            db.pool.push(["later"])
        return "later" in actor.seen

    iterator = EndlessViewIterator(
        TaskViewIterator(db, "todo"), sleep_sec=0.05, stop_callback=is_enough, name="me"
    )
    actor = Actor(db, finish, iterator=iterator)
    actor.run()
    assert (actor.seen, set(asked)) == (["later"], {"me"})


@both
def test_only_what_a_view_lists_the_urgent_first(db: CouchDB, request: pytest.FixtureRequest) -> None:
    if request.getfixturevalue("pool_kind") == "sqlite":
        pytest.importorskip("dukpy")
    db.add_view("urgent", HIGH, design_doc="Mine")
    db.add_view("todo", TODO, design_doc="Mine")
    db.pool.push([{"input": "a"}, {"input": "b", "urgent": True}, {"input": "c"}])
    urgent = Actor(db, finish, view="urgent", design_doc="Mine")
    urgent.run()
    assert urgent.seen == ["b"]
    db.pool.push([{"input": "d", "urgent": True}])
    all_of_it = Actor(db, finish, iterator=PrioritizedViewIterator(db, "urgent", "todo", design_doc="Mine"))
    all_of_it.run()
    assert (all_of_it.seen[0], sorted(all_of_it.seen)) == ("d", ["a", "c", "d"])


def test_documents_that_are_no_tokens_are_for_those_whose_view_lists_them(
    db: CouchDB, pool_kind: str
) -> None:
    if pool_kind == "sqlite":
        pytest.importorskip("dukpy")
    db.add_view("tasks", "function(doc) { if (doc.type == 'task' && doc.lock == 0) emit(doc._id, doc._id); }")
    db.save(Task({"_id": "t", "input": "x"}))
    actor = Actor(db, finish, view="tasks")
    actor.run()
    assert (actor.seen, db.get("t")["exit_code"], db.get("t")["done"] > 0) == (["x"], 0, True)


def test_an_actor_need_not_call_our_init(db: CouchDB) -> None:
    class Own(RunActor):
        def __init__(self) -> None:
            self.iterator = TaskViewIterator(db, "todo")

        def process_task(self, task: Any) -> None:
            finish(task)

    db.pool.push(["x"])
    actor = Own()
    actor.run(max_scrub=1)
    assert (only(db).state, actor.tasks_processed) == (State.DONE, 1)


@both
def test_an_iterator_of_the_programs_own_keeps_history_and_logs(db: CouchDB) -> None:
    class ById(ViewIterator):
        def claim_task(self) -> Any:
            free = [token.id for token in db.pool.tokens("todo")]
            return db.save(Task(db.get(max(free))).lock()) if free else self.nothing()

        def nothing(self) -> Any:
            raise IndexError

    def work(task: Any) -> None:
        task.put_attachment(f"logs_{task.id}.out", f"try {task['scrub_count']}")
        (fail if task["input"] == "b" else finish)(task)

    db.pool.push([{"_id": "t1", "input": "a"}, {"_id": "t2", "input": "b"}])
    actor = Actor(db, work, iterator=ById())
    actor.run(max_scrub=1)
    assert (actor.seen, states(db)) == (["b", "b", "a"], [("a", "done"), ("b", "error")])
    again = db.pool.get("t2")
    assert len(again.history) == 1
    assert attached(db, again) == {"logs_t2.out": b"try 1", "logs_t2.attempt-1.out": b"try 0"}


def test_the_parts_of_a_run_come_in_their_order(db: CouchDB) -> None:
    told: list[str] = []

    class Parts(RunActor):
        def prepare_env(self, *args: Any, **kwargs: Any) -> None:
            told.append("prepare_env")

        def prepare_run(self, *args: Any, **kwargs: Any) -> None:
            told.append("prepare_run")

        def process_task(self, task: Any) -> None:
            told.append("process_task")
            finish(task)

        def cleanup_run(self, *args: Any, **kwargs: Any) -> None:
            told.append("cleanup_run")

        def cleanup_env(self, *args: Any, **kwargs: Any) -> None:
            told.append("cleanup_env")

    db.pool.push(["a", "b"])
    Parts(db).run()
    each = ["prepare_run", "process_task", "cleanup_run"]
    assert told == ["prepare_env", *each, *each, "cleanup_env"]


@pytest.mark.parametrize(
    ("part", "state"),
    [("prepare_run", State.TODO), ("cleanup_run", State.DONE), ("stop_function", State.DONE)],
)
def test_what_fails_beside_a_token_ends_the_program_and_not_the_token(
    db: CouchDB, part: str, state: State
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    db.pool.push(["x"])
    actor = Actor(db, finish)
    given = {"stop_function": broken} if part == "stop_function" else {}
    if not given:
        setattr(actor, part, broken)
    with pytest.raises(ZeroDivisionError):
        actor.run(**given)
    assert only(db).state is state


def test_a_program_that_exits_leaves_an_error_and_nothing_locked(db: CouchDB) -> None:
    def work(task: Any) -> None:
        raise SystemExit(4)

    db.pool.push(["a", "b"])
    with pytest.raises(SystemExit) as caught:
        Actor(db, work).run()
    assert (caught.value.code, sorted(state for _, state in states(db))) == (4, ["error", "todo"])


def test_a_result_waits_in_the_spool_as_the_program_left_it(db: CouchDB, tmp_path: Path) -> None:
    db.pool.push([{"_id": "t", "input": "x", "old": 1}])
    token = db.pool.claim()
    assert token is not None
    edits = Edits({"exit_code": 0, "done": 7, "mine": [1]}, ("old",))
    file = Payload("a.txt", "text/plain", (b"a",))
    spool = Spool(tmp_path, db.pool.url)
    journal = spool.journal()
    journal.keep([Result(token, Outcome(0, 1.0, 2.0), files=(file,), edits=edits)], Budgets())
    journal.close()
    assert spool.flush(db.pool) == (1, 0)
    kept = only(db)
    assert (kept.state, kept["mine"], "old" in kept.body, attached(db, kept)) == (
        State.DONE,
        [1],
        False,
        {"a.txt": b"a"},
    )


def test_what_the_pool_does_not_take_makes_an_error_that_says_so(
    db: CouchDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = db.pool.store
    replace = store.replace

    def small(changes: Any) -> Any:
        for change in changes:
            for file in change.attach:
                if file.length > 10:
                    raise TokenTooLarge("a file is too large", attachment=file.name)
        return replace(changes)

    def work(task: Any) -> None:
        task.put_attachment("large.txt", b"x" * 11)
        finish(task)

    monkeypatch.setattr(store, "replace", small)
    db.pool.push(["x"])
    Actor(db, work).run()
    token = only(db)
    assert (token.state, token["exit_code"], dict(token.attachments)) == (State.ERROR, 126, {})
    assert "large.txt (11 bytes) could not be saved" in token["error"][0]["message"]


# --- The generation before ---


class OldActor(RunActor):
    """As the Grid documentation has it: it saves its token by itself."""

    def __init__(self, iterator: Any, modifier: Any) -> None:
        self.iterator = iterator
        self.modifier = modifier
        self.client = iterator.client
        self.seen: list[Any] = []

    def process_token(self, key: str, token: Any) -> None:
        self.seen.append((key, token["input"]))
        code, out, _ = execute(token["input"], shell=True)
        token["exit_code"] = code
        token = self.modifier.close(token)
        self.client.db[token["_id"]] = token
        with open("logs.txt", "wb+") as file:
            file.write(out)
            file.seek(0)
            self.client.db.put_attachment(token, file, f"logs/{key}.out")


@pytest.fixture
def old(pool_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, db: CouchDB) -> OldActor:
    monkeypatch.chdir(tmp_path)
    modifier = BasicTokenModifier()
    return OldActor(BasicViewIterator(CouchClient(**arguments(pool_url)), "Monitor/todo", modifier), modifier)


@both
def test_an_actor_of_0x_saves_its_token_by_itself(old: OldActor, db: CouchDB) -> None:
    db.pool.push([{"_id": "t", "input": "echo hello"}, {"_id": "u", "input": "exit 3"}])
    old.run()
    assert sorted(old.seen) == [("t", "echo hello"), ("u", "exit 3")]
    token = db.pool.get("t")
    assert (token.state, attached(db, token), token.history) == (State.DONE, {"logs/t.out": b"hello\n"}, [])
    assert db.pool.get("u").state is State.ERROR


def test_an_actor_of_0x_is_made_of_an_iterator_and_a_modifier(old: OldActor, db: CouchDB) -> None:
    class Plain(RunActor):
        def process_token(self, key: str, token: Any) -> None:
            token["exit_code"] = 0
            self.client.db[key] = self.modifier.close(token)

    db.pool.push(["x"])
    Plain(old.iterator, old.modifier).run()
    assert only(db).state is State.DONE


def test_an_error_of_0x_is_one(old: OldActor, db: CouchDB) -> None:
    def broken(key: str, token: Any) -> None:
        token["lock"] = token["done"] = -1
        old.client.db[key] = token

    old.process_token = broken  # type: ignore[method-assign]
    db.pool.push(["x"])
    old.run(maxtime=100)
    assert (only(db).state, only(db)["lock"]) == (State.ERROR, -1)


def test_an_actor_of_0x_ends_when_its_time_is_up(old: OldActor, db: CouchDB) -> None:
    old.iterator = EndlessViewIterator(old.iterator)
    old.run(maxtime=0.1)
    assert old.seen == []


def test_signals_are_as_before_afterwards(db: CouchDB) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    db.pool.push(["x"])
    Actor(db, finish).run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before
