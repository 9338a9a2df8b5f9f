"""`picas doctor`: what is wrong with a pool is found, told, and mended where that is wanted."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from picas.pool import open_pool
from picas.stores.sqlite import doctor as sqlite_doctor

if TYPE_CHECKING:
    from conftest import Shell

SICK = """
import picas, time
from dataclasses import replace
from picas import machine
from picas.payload import Payload
from picas.finishing import Result
from picas.stores.base import Change
from picas.tokens import Claimer, Failure, Outcome, Token
pool = picas.open_pool()
ids = ("lost", "alive", "old", "fresh", "bare", "cut", "fine", "never", "odd")
pool.push([{"_id": name, "input": "x"} for name in ids])
claimer = Claimer("gone", "here", {}, "/nowhere", 60.0)
held = {token.id: token for token in pool.claim_many(len(ids), claimer)}
def put(name, **fields):
    token = pool.get(name)
    assert pool.store.replace([Change(replace(token, body={**token.body, **fields}))])[0]
fleet = pool.store.fleet
fleet.beat("gone", {"lease": 60.0, "interval": 10.0, "process": {**machine.this_process(), "begun": 1}, "running": []})
fleet.beat("living", {"lease": 600.0, "interval": 10.0, "process": {}, "running": []})
put("alive", picas={**held["alive"].picas, "run": {**held["alive"].run, "pilot": "living"}})
put("old", picas={}, lock=1000)
put("fresh", picas={}, lock=int(time.time()))
log = lambda name: (Payload(f"logs_{name}.out", "text/plain", (b"why",)),)
failed = Outcome(3, 1e9, 1e9, Failure.APPLICATION, "why")
pool.finish_many([Result(held["bare"], failed), Result(held["cut"], failed, log("cut")), Result(held["fine"], failed, log("fine")),
    Result(held["never"], Outcome(127, 1e9, 1e9, Failure.INFRASTRUCTURE, "no such command"))])
pool.store.replace([Change(pool.get("cut"), remove=("logs_cut.out",))])
put("odd", lock=-5, done=7)
"""


def _sick(shell: Shell) -> None:
    subprocess.run([sys.executable, "-c", SICK], cwd=shell.directory, env=shell.environment, check=True)


def _checks(answer: Any) -> dict[str, dict[str, Any]]:
    """What was found, by name; of several of one name the last."""
    return {each["name"]: each for each in answer.json["checks"]}


def _states(shell: Shell) -> dict[str, str]:
    return {each["id"]: each["state"] for each in shell.here("list", "--json").json_lines}


@pytest.mark.any_pool
def test_a_healthy_pool(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "echo 1\nexit 3\n"))
    assert picas("run").code == 0
    assert picas.here("views", "create").code == 0
    answer = picas.here("doctor")
    assert answer.code == 0, answer.out
    assert answer.out.splitlines()[-1] == "all is well"
    assert picas.here("doctor", "--json").json["ok"] is True


@pytest.mark.any_pool
def test_what_is_wrong_with_tokens_is_found_and_mended_as_far_as_it_is_harmless(picas: Shell) -> None:
    _sick(picas)
    before = _states(picas)
    answer = picas.here("doctor", "locks", "logs", "documents")
    assert answer.code == 1
    assert "1 token (lost) is locked by pilots that are dead" in answer.out
    assert "1 token (old) is locked for more than a day" in answer.out
    assert "2 tokens (bare, cut) are failed and without logs" in answer.out
    assert "1 whose lock and done fit no state" in answer.out
    assert "picas doctor --fix locks logs mends what can be mended\n4 things to be seen to" in answer.out
    assert _states(picas) == before
    answer = picas.here("doctor", "--fix", "--json")
    assert answer.code == 1
    changed = {name for name, state in _states(picas).items() if before[name] != state}
    assert changed == {"lost"}
    assert _states(picas)["lost"] == "todo"
    assert picas.here("doctor", "locks", "logs", "--fix").code == 0
    assert _states(picas) == {
        **before, "lost": "todo", "old": "todo", "bare": "todo", "cut": "todo",
    }  # fmt: skip
    assert picas.here("doctor", "locks", "logs").code == 0
    assert "2 locked, each by somebody" in picas.here("doctor", "locks").out


def test_on_a_terminal_it_asks(picas: Shell) -> None:
    _sick(picas)
    terminal = picas.terminal("doctor", "logs", "documents")
    terminal.wait_for("without logs that tell why. Mend it? [y/N] ")
    terminal.type("y\n")
    assert terminal.end() == 1
    assert "made 2 free, to be run again" in terminal.text
    assert terminal.text.replace("\r", "").endswith("1 thing to be seen to\n")
    terminal = picas.terminal("doctor", "locks")
    terminal.wait_for("fallen silent. Mend it? [y/N] ")
    terminal.type("n\n")
    terminal.wait_for("no sign of life. Mend it? [y/N] ")
    terminal.type("\n")
    assert terminal.end() == 1
    assert _states(picas)["lost"] == "locked"


def test_a_check_that_there_is_not(picas: Shell) -> None:
    answer = picas.here("doctor", "liver")
    assert (answer.code, answer.err.splitlines()[0]) == (2, "picas: there is no check 'liver'")


# --- A file ---


def test_a_file_with_much_room_in_it_is_made_smaller(picas: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    picas.write("big.jsonl", "".join(json.dumps({"input": "x" * 100_000}) + "\n" for _ in range(40)))
    picas.here("push", "big.jsonl")
    picas.here("delete", "todo", "--yes")
    assert picas.here("doctor", "size").code == 0
    monkeypatch.setattr(sqlite_doctor, "WASTEFUL_BYTES", 1_000_000)
    answer = picas.here("doctor", "size", "--json")
    assert answer.code == 1
    assert _checks(answer)["size"]["content"] < 1_000_000 < _checks(answer)["size"]["file"]
    assert "the file has 0 MB now" in picas.here("doctor", "--fix").out
    assert picas.path("picas.db").stat().st_size < 1_000_000
    assert picas.here("doctor").code == 0


def test_a_damaged_file_is_told(picas: Shell) -> None:
    picas.write("many.jsonl", "".join(json.dumps({"input": f"{n} " + "x" * 500}) + "\n" for n in range(2000)))
    picas.here("push", "many.jsonl")
    open_pool(picas.pool).close()
    path = picas.path("picas.db")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(secrets.token_bytes(40_000))
    answer = picas.here("doctor", "file", "--json")
    assert answer.code == 1
    assert (_checks(answer)["file"]["level"], _checks(answer)["file"]["mendable"]) == ("failure", False)
