"""What the work is told, and what it can report."""

from __future__ import annotations

import json
import os

import pytest


def environment(bench, token_id="token_0"):
    """The PICAS_ variables that the work saw."""
    found = dict(entry.split("=", 1) for entry in bench.out(token_id).split("\0") if "=" in entry)
    return {name: value for name, value in found.items() if name.startswith("PICAS_")}


def test_every_scalar_field_is_a_variable(bench):
    bench.push(
        {"input": "env -0", "q": 0.5, "n": 3, "flag": True, "odd-näme": "x", "list": [1], "none": None}
    )
    bench.run()
    seen = environment(bench)
    assert seen["PICAS_INPUT"] == "env -0"
    assert (seen["PICAS_Q"], seen["PICAS_N"], seen["PICAS_FLAG"], seen["PICAS_ODD_N_ME"]) == (
        "0.5",
        "3",
        "true",
        "x",
    )
    assert not {"PICAS_LIST", "PICAS_NONE"} & seen.keys()
    token = bench.token()
    assert (seen["PICAS_TOKEN_ID"], seen["PICAS_ATTEMPT"]) == ("token_0", "1")
    assert seen["PICAS_CLAIM"] == token.claim_id
    assert seen["PICAS_POOL"] == bench.url


def test_the_token_file_holds_the_document(bench):
    bench.push({"_id": "mine", "input": 'cat "$PICAS_TOKEN_FILE"', "nested": {"größe": [1, None]}})
    bench.run()
    document = json.loads(bench.out("mine"))
    assert document["_id"] == "mine"
    assert document["nested"] == {"größe": [1, None]}
    assert document["picas"]["run"]["claim"] == bench.token("mine").claim_id


def test_no_field_hides_a_variable_with_a_meaning_of_its_own(bench, monkeypatch):
    monkeypatch.setenv("PICAS_USERNAME", "me")
    bench.push(
        {"input": "env -0", "pool": "elsewhere", "username": "x", "token_id": "y", "output": {}, "spool": "z"}
    )
    bench.run()
    seen = environment(bench)
    assert (seen["PICAS_POOL"], seen["PICAS_USERNAME"], seen["PICAS_TOKEN_ID"]) == (
        bench.url,
        "me",
        "token_0",
    )
    assert "PICAS_SPOOL" not in seen


def test_the_work_is_not_told_the_password(bench, monkeypatch):
    monkeypatch.setenv("PICAS_PASSWORD", "secret")
    bench.push({"input": "env -0", "password": "x"})
    bench.run()
    assert "PICAS_PASSWORD" not in environment(bench)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("x" * 100_001, id="long"),
        pytest.param("é" * 60_000, id="wide"),
        pytest.param("half \ud800 pair", id="surrogate", marks=pytest.mark.embedded),  # CouchDB takes no such
        pytest.param("nul \0", id="nul"),
    ],
)
def test_a_field_that_cannot_be_a_variable_is_left_out(bench, odd):
    bench.push({"input": "env -0", "odd": odd, "even": "x" * 99_000})
    assert bench.run().done == 1
    assert "PICAS_ODD" not in environment(bench)
    assert len(environment(bench)["PICAS_EVEN"]) == 99_000


def test_many_long_fields_do_not_keep_a_command_from_starting(bench):
    bench.push({"input": "true", **{f"field{n}": "x" * 90_000 for n in range(40)}})
    assert bench.run().done == 1


def test_a_pilot_within_a_token_does_not_pass_on_what_it_was_told_of_that(bench, monkeypatch):
    monkeypatch.setenv("PICAS_CLAIM", "of-an-outer-token")
    monkeypatch.setenv("PICAS_Q", "0.1")
    bench.push("env -0")
    bench.run()
    assert "PICAS_Q" not in environment(bench)


def test_an_object_written_to_the_output_file_is_the_output(bench):
    bench.push("""echo '{"mean": 0.5, "größe": [1]}' > "$PICAS_OUTPUT" """)
    bench.run()
    assert bench.token().output == {"mean": 0.5, "größe": [1]}


@pytest.mark.parametrize(
    ("text", "value"), [("[1, 2]", [1, 2]), ('"text"', "text"), ("7", 7), ("\ufeff{}", None)]
)
def test_any_other_json_is_the_result(bench, text, value):
    bench.push({"input": 'printf %s "$PICAS_TEXT" > "$PICAS_OUTPUT"', "text": text})
    assert bench.run().done == 1
    assert bench.token().output.get("result") == value


@pytest.mark.parametrize("command", ["true", ': > "$PICAS_OUTPUT"', 'echo > "$PICAS_OUTPUT"'])
def test_an_empty_output_is_none(bench, command):
    bench.push(command)
    assert bench.run().done == 1
    assert not bench.token().output


@pytest.mark.parametrize("text", ["{broken", "NaN", '{"x": 1e999}', "[" * 5000, "\\xff\\xfe"])
def test_what_is_not_json_is_an_error_with_the_file_attached(bench, text):
    bench.push({"input": 'printf "$PICAS_TEXT" > "$PICAS_OUTPUT"', "text": text})
    assert bench.run().error == 1
    assert bench.token()["exit_code"] == 65
    assert "what was written to $PICAS_OUTPUT is not JSON" in bench.message()
    assert bench.attached("output.json") == text.encode().replace(b"\\xff\\xfe", b"\xff\xfe")


def test_a_failed_command_keeps_its_own_exit_code_with_a_broken_output(bench):
    bench.push('echo "{" > "$PICAS_OUTPUT"; exit 9')
    bench.run()
    assert bench.token()["exit_code"] == 9
    assert bench.attached("output.json") == b"{\n"


@pytest.mark.parametrize(
    "command", ['mkdir "$PICAS_OUTPUT"', 'ln -s /nowhere "$PICAS_OUTPUT"', 'mkfifo "$PICAS_OUTPUT"']
)
def test_an_output_that_is_no_file_is_an_error_of_its_token(bench, command):
    bench.push(command, "true")
    summary = bench.run()
    assert (summary.done, summary.error) == (1, 1)
    assert "no longer a file" in bench.message()


def test_an_output_that_is_too_large_for_a_document_is_attached(bench):
    bench.push(
        """python3 -c 'import json, os; json.dump({"x": "y" * 9_000_000}, open(os.environ["PICAS_OUTPUT"], "w"))'"""
    )
    assert bench.run().done == 1
    assert json.loads(bench.attached("output.json")) == {"x": "y" * 9_000_000}
    assert "9,000,008 bytes" in bench.token().output["picas_note"]


@pytest.mark.embedded  # CouchDB takes deeper ones
def test_an_output_that_is_nested_too_deep_for_the_pool_is_an_error_of_its_token(bench):
    deep = '{"x": ' + "[" * 600 + "]" * 600 + "}"
    bench.push({"input": 'printf %s "$PICAS_DEEP" > "$PICAS_OUTPUT"', "deep": deep}, "true")
    summary = bench.run()
    assert (summary.done, summary.error) == (1, 1)
    assert "could not be saved" in bench.message()
    assert f"logs_{bench.token().id}.out" in bench.token().attachments


def test_the_pilots_own_environment_is_not_changed(bench):
    before = dict(os.environ)
    bench.push("true")
    bench.run()
    bench.run(lambda token: None)
    assert dict(os.environ) == before
