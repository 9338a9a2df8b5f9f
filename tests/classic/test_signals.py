"""What holds while a token is worked on: time limits, and signals to the program."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.classic.mocks import MockDatabase, free

from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute
from picas.limits import Limit, TokenTimeout
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A signal may come while a Popen object is being made, which nobody can wait for then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STUBBORN = "trap '' TERM; echo $$ > pid; while true; do sleep 0.1; done"
"""A script that does not heed TERM."""


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CouchDB:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("picas.limits.GRACE_SECONDS", 0.2)
    return CouchDB(f"sqlite:///{tmp_path}/pool.db")


class Actor(RunActor):
    """Runs what the token says."""

    left = False

    def process_task(self, task: Any) -> None:
        self.subprocess, task["exit_code"], _, _ = execute(["sh", "-c", task["input"]])
        task.done()

    def cleanup_env(self, *args: Any, **kwargs: Any) -> None:
        self.left = True


@pytest.fixture
def signalled() -> Iterator[None]:
    """TERM comes to this process as soon as the file ``pid`` is there."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.02):
            with suppress(OSError, ValueError), open("pid", encoding="ascii") as file:
                int(file.read())
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=send)
    thread.start()
    yield
    over.set()
    thread.join()


def lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def child() -> int:
    with open("pid", encoding="ascii") as file:
        return int(file.read())


def only(db: CouchDB) -> Any:
    (token,) = db.pool.tokens()
    return token


def test_a_time_limit_stops_the_whole_tree_of_processes(db: CouchDB) -> None:
    db.pool.push([f"sh -c '{STUBBORN.replace(chr(39), chr(34))}' & wait"])
    Actor(db).run(max_token_time=0.5)
    assert (only(db).state, only(db)["lock"], only(db).run["failure"]) == (State.ERROR, 99, "timeout")
    assert "takes more than 0.5 seconds" in only(db)["error"][0]["message"]
    assert not lives(child())


def test_a_token_whose_time_was_up_may_have_another_try(db: CouchDB) -> None:
    db.pool.push(["sleep 60"])
    actor = Actor(db)
    actor.run(max_token_time=0.2, max_scrub=1)
    assert (actor.tasks_processed, only(db)["scrub_count"], only(db).state) == (2, 1, State.ERROR)


def test_a_limit_holds_for_code_that_catches_it(db: CouchDB) -> None:
    class Deaf(RunActor):
        caught = 0

        def process_task(self, task: Any) -> None:
            while self.caught < 2:
                try:
                    time.sleep(60)
                except TokenTimeout:
                    self.caught += 1
            time.sleep(60)

    db.pool.push(["x"])
    actor = Deaf(db)
    actor.run(max_token_time=0.1)
    assert (actor.caught, only(db).state) == (2, State.ERROR)


def test_a_limit_spares_what_ran_before(db: CouchDB) -> None:
    with subprocess.Popen(["sleep", "60"]) as before:
        with pytest.raises(TokenTimeout), Limit(0.1):
            subprocess.run(["sleep", "60"], check=False)
        assert before.poll() is None
        before.kill()


def test_a_limit_is_over_with_its_context(db: CouchDB) -> None:
    before = signal.getsignal(signal.SIGALRM)
    limit = Limit(60)
    with limit:
        pass
    with subprocess.Popen(["sleep", "60"]) as later:
        limit.close()
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        limit.stop()  # as by a signal that comes just now: no timer is left that would end this program
        assert later.wait() == -signal.SIGKILL
    assert (signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)) == ((0.0, 0.0), before)


def test_a_second_signal_does_not_wait(db: CouchDB) -> None:
    limit = Limit(None)
    with limit, subprocess.Popen(["sh", "-c", STUBBORN], stdout=subprocess.DEVNULL) as stubborn:
        while not os.path.lexists("pid"):
            time.sleep(0.01)
        limit.stop()
        limit.stop()
        assert stubborn.wait() == -signal.SIGKILL


def test_a_limit_in_another_thread_is_none(db: CouchDB) -> None:
    told: list[str] = []

    def run() -> None:
        with Limit(0.01):
            time.sleep(0.1)
            told.append("done")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert told == ["done"]


@pytest.mark.usefixtures("signalled")
def test_a_signal_stops_the_child_and_puts_the_token_back(db: CouchDB) -> None:
    db.pool.push([STUBBORN, "true"])
    actor = Actor(db)
    with pytest.raises(SystemExit) as caught:
        actor.run(max_scrub=1)
    assert (caught.value.code, actor.left, lives(child())) == (0, True, False)
    tokens = sorted(db.pool.tokens(), key=lambda token: str(token.input))
    assert [token.state for token in tokens] == [State.TODO, State.TODO]
    assert [token["scrub_count"] for token in tokens] == [0, 0]
    assert [entry["failure"] for token in tokens for entry in token.history] == ["released"]


@pytest.mark.usefixtures("signalled")
def test_a_token_is_put_back_with_the_values_that_the_program_says(db: CouchDB) -> None:
    db.pool.push([STUBBORN])
    with pytest.raises(SystemExit):
        Actor(db, token_reset_values=[-1, -1]).run()
    assert (only(db)["lock"], only(db)["done"], only(db).state) == (-1, -1, State.ERROR)


@pytest.mark.usefixtures("signalled")
def test_a_signal_is_heeded_also_by_code_that_catches_all(db: CouchDB) -> None:
    class Deaf(Actor):
        def process_task(self, task: Any) -> None:
            try:
                super().process_task(task)
            except BaseException:  # noqa: BLE001 - that is what is looked at
                task.error("it was stopped")

    db.pool.push([STUBBORN])
    with pytest.raises(SystemExit):
        Deaf(db).run()
    assert (only(db).state, lives(child())) == (State.TODO, False)


@pytest.mark.usefixtures("signalled")
def test_a_program_may_have_a_handler_of_its_own(db: CouchDB) -> None:
    told: list[Any] = []

    class Told(Actor):
        def handler(self, signum: int, frame: Any) -> None:
            told.append((signum, only(db).state))
            super().handler(signum, frame)

    db.pool.push([STUBBORN])
    with pytest.raises(SystemExit):
        Told(db).run()
    assert told == [(signal.SIGTERM, State.TODO)]


@pytest.mark.usefixtures("signalled")
def test_a_signal_on_a_mock_puts_the_token_back(db: CouchDB) -> None:
    mock = MockDatabase(free("a", input=STUBBORN))
    with pytest.raises(SystemExit):
        Actor(mock).run()
    assert (mock.documents["a"]["lock"], mock.documents["a"]["done"]) == (0, 0)


def test_the_handler_is_there_for_programs_with_a_loop_of_their_own(db: CouchDB) -> None:
    mock = MockDatabase(free("a"))
    actor = Actor(mock)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        actor.setup_handler()
        actor.current_task = next(actor.iterator)
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (caught.value.code, actor.left, mock.documents["a"]["lock"]) == (0, True, 0)
