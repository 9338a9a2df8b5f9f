"""Nothing that somebody has written into a pool acts on the terminal of who looks at it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from picas.cli.group import VERBS

if TYPE_CHECKING:
    from conftest import Shell

EVIL = "\x1b]0;evil\x07\x1b[2J\x1b[31m\r\x08\x7f\x9b1m\u202e\u2028evil"
"""Sets the title, clears the screen, colours, overwrites the line, turns the direction round."""

ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal may act on, but for tabs and line ends."""

OURS = re.compile(r"\x1b\[K|\x1b\[[0-9;]*m|\r(?=\n)|\r\x1b\[K")
"""What we ourselves write on a terminal: the rest of a line cleared, colours."""

PLANT = """
import picas, sys
from dataclasses import replace
from picas.payload import Payload
from picas.finishing import Result
from picas.stores.base import Change
from picas.tokens import Claimer, Failure, Outcome
evil = sys.argv[1]
pool = picas.open_pool()
claimer = Claimer("pilot" + evil, "host" + evil, {"slurm_job_id": evil}, "/nowhere" + evil, 600.0)
pool.push([{"_id": name + evil, "input": evil, evil: {evil: [evil]}, "cores": 1} for name in ("a", "b", "c", "d")])
tokens = {token.id[0]: token for token in pool.claim_many(4, claimer)}
log = Payload(f"logs_{tokens['a'].id}.out", "text/plain", (evil.encode(),))
file = Payload("file" + evil, evil.replace("\\n", ""), (evil.encode(),))
failed = Outcome(3, 1e9, 1e9 + 1, Failure.APPLICATION, evil, evil, output={evil: evil}, kept=evil, notes=(evil,))
pool.finish_many([Result(tokens["a"], failed, (log,), (file,)), Result(tokens["b"], failed)])
body = {**tokens["d"].body, "hostname": {"x": evil}, "lock": 1, "done": 1, "exit_code": evil, "error": [evil], "picas": evil}
pool.store.replace([Change(replace(tokens["d"], body=body))])
record = {"host": "host" + evil, "lease": 600.0, "interval": 60.0, "slots": 1, "version": evil, "reason": evil, "state": evil,
    "job": evil, "job_ids": {"slurm_job_id": evil}, "process": {}, "running": [{"id": tokens["c"].id, "claim": evil}]}
pool.store.fleet.beat("pilot" + evil, record)
"""

LOOKS = (
    ("status",),
    ("list",),
    ("show", "a" + EVIL, "d" + EVIL),
    ("logs", "a" + EVIL, "--json"),
    ("logs", "none" + EVIL),
    ("logs", "b" + EVIL),
    ("errors",),
    ("pilots",),
    ("hosts",),
    ("hosts", "--bar", "bad" + EVIL, "--why", EVIL),
    ("pause", "--where", f"site == '{EVIL}'", "--why", EVIL),
    ("pilots",),
    ("status",),
    ("resume", "--all"),
    ("stop", "pilot" + EVIL),
    ("stop", "none" + EVIL),
    ("cancel", "c" + EVIL),
    ("cancel", "none" + EVIL),
    ("reap",),
    ("get", "a" + EVIL, "-o", "saved" + EVIL),
    ("get", "none" + EVIL),
    ("reset", "none" + EVIL),
    ("reset", "a" + EVIL),
    ("delete", "none" + EVIL),
    ("push", "none" + EVIL),
    ("push", "--dry-run", "evil.jsonl"),
    ("push", "--id-prefix", EVIL, "evil.jsonl"),
    ("run", "--verbose", "--fail", "--keep", "--scratch", "."),
    ("views", "list"),
    ("views", "remove", EVIL),
    ("keys", "trust", "evil.jsonl"),
    ("keys", "distrust", EVIL),
    ("config", "import", "none" + EVIL),
    ("copy", "sqlite:///picas.db", "sqlite:///other.db", "--locked", "as-is"),
    ("flush",),
    ("check",),
    ("doctor",),
    ("doctor", "logs", "--fix"),
    ("doctor", EVIL),
    ("delete", "a" + EVIL, "c" + EVIL, "--yes"),
    ("completion", EVIL),
    (EVIL,),
    ("list", "--where", EVIL),
    ("list", "--state", EVIL),
    ("passwd",),
    ("init", "--pool", "ftp://" + EVIL),
)

OTHERS = tuple((name, EVIL) for name in VERBS if name not in {words[0] for words in LOOKS})
"""The verbs that have come since."""


@pytest.fixture
def planted(picas: Shell) -> Shell:
    """A pool that somebody has prepared for who looks at it."""
    shell = picas
    shell.write("evil.jsonl", '{"input": "printf evil; exit 3", "a\\u001b[2J": "\\u001b]0;evil\\u0007"}\n')
    subprocess.run(
        [sys.executable, "-c", PLANT, EVIL], cwd=shell.directory, env=shell.environment, check=True
    )
    return shell


@pytest.mark.parametrize("as_json", [False, True])
def test_no_verb_lets_anything_through(planted: Shell, as_json: bool) -> None:
    shown = ""
    for words in LOOKS + OTHERS:
        answer = planted.here(*words, *(("--json",) if as_json else ()))
        for text in (answer.out, answer.err):
            assert not ACTS.search(text), (words, text)
        assert "Traceback" not in answer.err, (words, answer.err)
        assert answer.code != 70, (words, answer.err)
        shown += answer.out + answer.err
    assert shown.count("evil") > 50


def test_on_a_terminal_there_is_nothing_but_our_own_colours(planted: Shell) -> None:
    printed = EVIL.encode("unicode_escape").decode().replace("\\u", "\\\\u")
    planted.write("log.jsonl", json.dumps({"_id": "e", "input": f"printf '{printed}'"}) + "\n")
    assert planted.here("push", "log.jsonl").code == 0
    assert planted("run", "--where", "id == 'e'").code == 0
    for words in (("list",), ("show", "b" + EVIL), ("errors",), ("pilots",), ("logs", "e")):
        terminal = planted.terminal(*words)
        assert terminal.end() == 0, terminal.text
        assert "evil" in terminal.text
        assert not ACTS.search(OURS.sub("", terminal.text)), (words, terminal.text)
