"""`picas keys`, and what comes of it: a push that signs, a pilot that runs nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Shell

TAMPER = """
import sys, picas
from dataclasses import replace
from picas.stores.base import Change
pool = picas.open_pool()
token = pool.get(sys.argv[1])
pool.store.replace([Change(replace(token, body={**token.body, "input": "touch /tmp/evil; echo evil"}))])
"""


def _states(shell: Shell) -> dict[str, str]:
    return {each["id"]: each["state"] for each in shell.here("list", "--json").json_lines}


def _document(shell: Shell, token_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(shell.here("show", "--json", token_id).out)
    return document


@pytest.mark.any_pool
def test_a_pilot_runs_what_is_signed_and_nothing_else(picas: Shell) -> None:
    assert picas.here("push", picas.write("before.txt", "echo unsigned\n")).code == 0
    made = picas.here("keys", "new", "ana")
    assert made.code == 0
    assert made.out.splitlines()[-1].startswith("picas-ed25519 ")
    assert picas.here("push", picas.write("after.txt", "echo signed\necho changed\n")).code == 0
    subprocess.run(
        [sys.executable, "-c", TAMPER, "token_2"], cwd=picas.directory, env=picas.environment, check=True
    )
    answer = picas.here("run", "--require-signed", "--fail", "--max-scrub", "5", "--workers", "2")
    assert answer.code == 3, answer.err
    assert "1 done, 2 failed" in answer.out
    assert _states(picas) == {"token_0": "error", "token_1": "done", "token_2": "error"}
    messages = {name: _document(picas, name)["error"][-1]["message"] for name in ("token_0", "token_2")}
    assert messages == {
        "token_0": "not run: it is not signed",
        "token_2": "not run: it is not as it was when it was signed",
    }
    refused = _document(picas, "token_2")
    assert (refused["picas"]["run"]["failure"], refused["exit_code"], refused["scrub_count"]) == (
        "untrusted",
        77,
        0,
    )
    assert "_attachments" not in refused
    assert "(untrusted): not run: it is not signed" in picas.here("errors").out


def test_tokens_can_be_signed_where_they_are(picas: Shell) -> None:
    picas.here("push", picas.write("t.txt", "echo 1\necho 2\n"))
    assert picas.here("keys", "sign", "token_0").err == "picas: you have no key\npicas keys new makes one.\n"
    picas.here("keys", "new", "ana")
    assert picas.here("keys", "sign").code == 2
    assert picas.here("keys", "sign", "--where", "input == 'echo 1'").out.startswith(
        "signed 1 token with ana ("
    )
    assert picas.here("run", "--require-signed").out.startswith("1 done, 1 failed")
    assert picas.here("keys", "sign", "--all").out.startswith("signed 1 token with ana (")
    assert picas.here("reset", "error", "--yes").code == 0
    assert picas.here("run", "--require-signed").out.startswith("1 done in")


def test_keys_are_exchanged_without_a_moment_in_which_tokens_are_refused(picas: Shell) -> None:
    picas.here("keys", "new", "old")
    picas.here("push", picas.write("t.txt", "echo old\n"))
    picas.here("keys", "new", "new")
    picas.here("push", picas.write("u.txt", "echo new\n"))
    picas.here("push", "--sign-with", "old", picas.write("v.txt", "echo old again\n"))
    assert picas.here("run", "--require-signed").out.startswith("3 done in")
    assert picas.here("keys", "distrust", "old").code == 0
    picas.here("reset", "done", "--yes")
    assert picas.here("run", "--require-signed").out.startswith("1 done, 2 failed in")


def test_the_keys_of_others_are_trusted_by_their_line(picas: Shell, tmp_path: Any) -> None:
    line = picas.here("keys", "new", "ana").out.splitlines()[-1]
    picas.here("push", picas.write("t.txt", "echo 1\n"))
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}
    answer = picas("run", "--require-signed", **elsewhere)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(
        "picas: signed tokens are required, and no key is trusted\npicas keys trust FILE"
    )
    assert _states(picas) == {"token_0": "todo"}
    assert picas("keys", "trust", "-", stdin=line, **elsewhere).out.startswith("trusted: ")
    assert (
        picas("keys", "trust", "-", stdin=line, **elsewhere).out
        == "nothing is new: they were trusted already\n"
    )
    listed = picas("keys", "list", **elsewhere).out
    assert listed.split()[1:] == ["trusted:", "ana"]
    assert picas("run", "--require-signed", **elsewhere).out.startswith("1 done in")


def test_the_trusted_keys_may_be_named_and_it_may_be_in_the_configuration(
    picas: Shell, tmp_path: Any
) -> None:
    line = picas.here("keys", "new", "ana").out.splitlines()[-1]
    picas.here("push", picas.write("t.txt", "echo 1\n"))
    picas.write("site-keys", line + "\n")
    home = tmp_path / "other"
    (home / "picas").mkdir(parents=True)
    (home / "picas" / "config.toml").write_text(
        f'[run]\nrequire-signed = true\ntrusted-keys = "{picas.path("site-keys")}"\n'
    )
    picas("push", picas.write("u.txt", "echo 2\n"), XDG_CONFIG_HOME=str(home))
    assert picas("run", XDG_CONFIG_HOME=str(home)).out.startswith("1 done, 1 failed in")
    picas.here("reset", "error", "--yes")
    assert picas("run", "--no-require-signed", XDG_CONFIG_HOME=str(home)).out.startswith("1 done in")


def test_without_a_signature_on_purpose(picas: Shell) -> None:
    picas.here("keys", "new", "ana")
    picas.here("push", "--no-sign", picas.write("t.txt", "echo 1\n"))
    assert "signature" not in _document(picas, "token_0")["picas"]
    assert picas.here("push", "--no-sign", "--sign-with", "ana", "t.txt").code == 2
    assert picas.here("push", "--sign-with", "ben", "t.txt").err.startswith("picas: there is no key 'ben'\n")


def test_the_list_as_people_and_programs_see_it(picas: Shell) -> None:
    assert picas.here("keys", "list").out.startswith("no keys; picas keys new makes one")
    picas.here("keys", "new", "old")
    made = picas.here("keys", "new", "--json", "new").json
    picas.here("keys", "distrust", "old")
    listed = picas.here("keys", "list", "--json").json
    assert [(key["name"], key["signs"], key["trusted"]) for key in listed["own"]] == [
        ("old", False, False),
        ("new", True, True),
    ]
    assert listed["trusted"] == [{name: made[name] for name in ("name", "id", "public")}]
    shown = picas.here("keys", "list").out.splitlines()
    assert shown[0].endswith("yours: old  (not trusted here)")
    assert shown[2:] == [f"{made['id']}  yours: new  (signs what is pushed)", f"  {made['public']}"]
    private = picas.path("config/picas/keys/new.pem").read_text().splitlines()[1]
    assert private not in picas.here("keys", "list", "--json").out


@pytest.mark.parametrize("work", ["function", "child"])
def test_functions_are_guarded_as_commands_are(picas: Shell, work: str) -> None:
    picas.write("work.py", "def work(token):\n    return {'ran': token.input}\n")
    picas.here("push", picas.write("t.txt", "one\n"))
    picas.here("keys", "new", "ana")
    picas.here("push", picas.write("u.txt", "two\n"))
    workers = ("--workers", "2") if work == "child" else ()
    assert picas("run", "--call", "work:work", "--require-signed", *workers).out.startswith(
        "1 done, 1 failed in"
    )
    assert "output" not in _document(picas, "token_0")
    assert _document(picas, "token_1")["output"] == {"ran": "two"}


def test_a_token_cannot_name_the_keys_of_a_pilot_within_its_work(picas: Shell) -> None:
    picas.write("t.jsonl", '{"input": "env | grep -c ^PICAS_TRUSTED_KEYS", "trusted_keys": "/tmp/evil"}\n')
    picas.here("push", "t.jsonl")
    picas.here("run")
    assert picas.here("logs", "token_0").out == "0\n"
