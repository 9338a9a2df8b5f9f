"""The contract for several processes on one store, and for processes that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from picas.testing.base import (
    StoreFixtures,
    add,
    add_many,
    blob,
    changed_token,
    claim_all,
    fresh,
    get,
    ids,
    read,
    write,
)
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.stores.base import Store

PROCESSES = 4
"""How many work on a store at once: more than a small machine has cores."""

PATIENCE = 60
"""Seconds after which a process of the tests counts as stuck."""


class ProcessRules(StoreFixtures):
    """Several processes, forks, and deaths."""

    @contextmanager
    def workers(self, url: str, number: int, work: str, *args: object) -> Iterator[list[Worker]]:
        """Processes that open the store, say so, and wait for a word before they do this work."""
        script = Path(__file__).with_name("worker.py")
        command = [sys.executable, str(script), self.opener, url, work, *map(str, args)]
        with ExitStack() as stack:
            yield [stack.enter_context(worker(command)) for _ in range(number)]

    def together(self, url: str, work: str, *args: object) -> list[Any]:
        """What `PROCESSES` processes answer that do this work at the same time."""
        with self.workers(url, PROCESSES, work, *args) as workers:
            for process in workers:
                assert process.hear() == "ready"
            for process in workers:
                process.go()
            return [process.last_answer() for process in workers]

    def test_processes_never_claim_the_same_token(self, store: Store, url: str) -> None:
        wanted = add_many(store, 400)
        parts = self.together(url, "drain", 5)
        assert sorted(token_id for part in parts for token_id in part) == wanted
        assert store.counts()[State.LOCKED] == 400
        claims = Counter(token.claim_id for token in store.scan())
        assert len(claims) == 400

    def test_of_processes_that_write_one_version_one_wins(self, store: Store, url: str) -> None:
        add_many(store, 60)
        parts = self.together(url, "race")
        winners = Counter(token_id for part in parts for token_id in part)
        assert len(winners) == 60
        assert set(winners.values()) == {1}

    def test_processes_never_get_the_same_number(self, store: Store, url: str) -> None:
        add(store, fresh("token_9"))
        parts = self.together(url, "number", 20)
        numbers = [number for part in parts for number in part]
        assert len(set(numbers)) == len(numbers) == 20 * PROCESSES
        assert min(numbers) == 10

    def test_an_id_that_processes_insert_at_once_is_added_by_one(self, store: Store, url: str) -> None:
        parts = self.together(url, "insert", 40)
        assert sorted(token_id for part in parts for token_id in part) == [f"t{n:04}" for n in range(40)]
        assert store.counts()[State.TODO] == 40

    def test_processes_can_open_a_store_that_is_not_there_yet_at_once(self, url: str) -> None:
        with self.workers(url, PROCESSES, "insert", 1) as workers:
            for process in workers:
                process.go()
            answers = [process.last_answer() for process in workers]
        assert sorted(answers) == [[]] * (PROCESSES - 1) + [["t0000"]]

    def test_a_store_that_was_closed_can_be_used_again(self, store: Store, url: str) -> None:
        token = write(store, add(store, fresh("a"))[0], blob("log", b"x"))
        store.close()
        store.close()
        assert get(store, "a").rev == token.rev
        assert read(store, "a", "log") == b"x"
        store.close()
        assert ids(claim_all(store)) == ["a"]
        other = self.open(url)
        assert get(other, "a").state is State.LOCKED
        other.close()

    def test_two_openings_of_a_store_see_the_same(self, store: Store, url: str) -> None:
        other = self.open(store.url)
        try:
            token = add(store, fresh("a"))[0]
            assert get(other, "a").rev == token.rev
            write(other, get(other, "a"), note="by the other")
            assert store.replace([changed_token(token, note="late")]) == [None]
            assert get(store, "a").body["note"] == "by the other"
        finally:
            other.close()

    def test_a_store_can_be_used_on_both_sides_of_a_fork(self, store: Store) -> None:
        wanted = add_many(store, 60)
        with warnings.catch_warnings():  # Python 3.12 warns of threads, which other tests may have left
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                add(store, fresh("claimed by the child", lock=5, claims=_claim_until_empty(store)))
                status = 0
            finally:
                os._exit(status)  # what pytest would do at its end is the parent's to do
        ours = _claim_until_empty(store)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        theirs = get(store, "claimed by the child").body["claims"]
        assert sorted(ours + theirs) == wanted

    def test_what_was_answered_survives_a_process_killed_outright(self, store: Store, url: str) -> None:
        for acknowledgements in (1, 7, 23):
            with self.workers(url, 1, "write") as (process,):
                assert process.hear() == "ready"
                process.go()
                kept = [process.hear() for _ in range(acknowledgements)]
                process.kill()
                kept += process.rest()  # what was still in the pipe had been answered too
            for token_id, version in dict(kept).items():
                token = get(store, token_id)
                assert token.body["version"] >= version
                size = token.body["size"]
                assert read(store, token_id, "log") == bytes([token.body["version"] % 256]) * size
                assert token.attachments["log"].length == size
        assert add(store, fresh("afterwards"))
        assert claim_all(store)


class Worker:
    """A process of the test, by what is said to it and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.kill = process.kill

    def go(self) -> None:
        """Let it begin its work."""
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write("go\n")
        stdin.flush()

    def hear(self) -> Any:
        """What it says next."""
        line = cast("IO[str]", self._process.stdout).readline()
        assert line.endswith("\n"), "a process of the test ended early, see its error output"
        return json.loads(line)

    def rest(self) -> list[Any]:
        """What it says until its end, but for a line that its death cut short."""
        lines = list(cast("IO[str]", self._process.stdout))
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def last_answer(self) -> Any:
        """The last thing it says; it must end well."""
        said = self.rest()
        assert self._process.wait(PATIENCE) == 0, "a process of the test failed, see its error output"
        return said[-1]


@contextmanager
def worker(command: list[str]) -> Iterator[Worker]:
    """The process of this command, for as long as the block lasts and no longer than `PATIENCE`."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stuck = threading.Timer(PATIENCE, process.kill)
        stuck.start()
        try:
            yield Worker(process)
        finally:
            stuck.cancel()
            process.kill()


def _claim_until_empty(store: Store) -> list[str]:
    """The ids of what this process gets of the tokens there are, a few at a time."""
    claimed: list[str] = []
    while part := claim_all(store, 3):
        claimed += [token.id for token in part]
    return claimed
