"""Signed tokens: what a signature vouches for, and the files of keys."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picas.errors import ConfigError, InvalidInput, MissingExtra
from picas.jobid import JOB_ID_FIELDS
from picas.tokens import RESERVED_FIELDS, Claimer, Outcome, Token, fresh_body, token_from_document
from picas.transitions import claim, finish, with_signature
from picas.trust.keys import KeyFiles, parse_lines
from picas.trust.signing import PublicKey, Signer, Verifier, message

if TYPE_CHECKING:
    from pathlib import Path

SIGNER, _ = Signer.generate("ana@desk")
OTHER, _ = Signer.generate("ben@desk")
VERIFIER = Verifier([SIGNER.public])


def _signed(token_id: str = "token_1", signer: Signer = SIGNER, **fields: Any) -> Token:
    token = Token(token_id, fresh_body(fields or {"input": "echo 1"}))
    return with_signature(token, signer(token.id, token.body))


def _changed(token: Token, **fields: Any) -> Token:
    return replace(token, body={**token.body, **fields})


def test_a_signed_token_is_trusted_and_stays_so_while_pilots_have_it() -> None:
    token = _signed(input="echo 1", cores=2, deep={"list": [1, {"x": None}]})
    assert VERIFIER.problem(token) == ""
    held = claim(token, Claimer("p", "host", {"slurm_job_id": "7"}), 1e9)
    assert VERIFIER.problem(held) == ""
    ended = finish(held, Outcome(1, 1e9, 1e9, output={"answer": 42}))
    assert VERIFIER.problem(ended) == ""


def test_what_came_by_way_of_a_server_is_still_trusted() -> None:
    token = _signed(input="é\U0001f600\u2028", number=1.0, small=1e-7, large=2.5e22, minus=-3.0)
    wire = json.loads(json.dumps(token.document(), ensure_ascii=False))
    # as a server in JavaScript writes them back, with the names in another order
    wire.update(number=1, minus=-3)
    shuffled = token_from_document(dict(reversed(wire.items())))
    assert VERIFIER.problem(shuffled) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"input": "echo 2"},
        {"input": ["echo 1"]},
        {"cores": 2},
        {"cores": True},
        {"walltime": 10},
        {"extra": None},
        {"nested": {"a": [1, 2, 3.5]}},
    ],
)
def test_a_field_that_was_changed_or_added_breaks_it(changes: dict[str, Any]) -> None:
    token = _signed(input="echo 1", cores=1, nested={"a": [1, 2, 3]})
    assert VERIFIER.problem(_changed(token, **changes)) == "it is not as it was when it was signed"


def test_a_field_that_was_taken_out_breaks_it() -> None:
    token = _signed(input="echo 1", guard="yes")
    body = {name: value for name, value in token.body.items() if name != "guard"}
    assert VERIFIER.problem(replace(token, body=body)) == "it is not as it was when it was signed"


def test_a_signature_is_none_of_another_token() -> None:
    assert (
        VERIFIER.problem(replace(_signed("token_1"), id="token_2"))
        == "it is not as it was when it was signed"
    )


def test_only_what_pilots_write_may_change() -> None:
    token = _signed(input="echo 1")
    written = {name: "1" for name in RESERVED_FIELDS if name != "picas"}
    assert VERIFIER.problem(_changed(token, **written)) == ""
    assert set(JOB_ID_FIELDS) < RESERVED_FIELDS


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        (None, "it is not signed"),
        ("text", "it is not signed"),
        ({}, "it is signed with a key that is not trusted here: None"),
        ({"key": ["a"], "signed": ""}, "it is signed with a key that is not trusted here: ['a']"),
        ({"key": SIGNER.public.id}, "it is not as it was when it was signed"),
        ({"key": SIGNER.public.id, "signed": 7}, "it is not as it was when it was signed"),
        ({"key": SIGNER.public.id, "signed": "é"}, "its signature cannot be checked"),
        ({"key": SIGNER.public.id, "signed": ""}, "it is not as it was when it was signed"),
        (
            {"key": SIGNER.public.id, "signed": base64.b64encode(b"\0" * 64).decode()},
            "it is not as it was when it was signed",
        ),
    ],
)
def test_what_is_no_signature(signature: Any, problem: str) -> None:
    token = Token("token_1", {**fresh_body({"input": "echo 1"}), "picas": {"signature": signature}})
    assert VERIFIER.problem(token) == problem


def test_a_key_that_nobody_trusts() -> None:
    token = _signed(signer=OTHER)
    assert VERIFIER.problem(token) == f"it is signed with a key that is not trusted here: {OTHER.public.id}"
    ours = {**token.picas["signature"], "key": SIGNER.public.id}
    assert (
        VERIFIER.problem(_changed(token, picas={"signature": ours}))
        == "it is not as it was when it was signed"
    )
    assert Verifier([SIGNER.public, OTHER.public]).problem(token) == ""


def test_what_json_cannot_say_is_not_trusted_and_not_signed() -> None:
    token = _changed(_signed(input="echo 1"), weight=float("inf"))
    assert VERIFIER.problem(token) == "its signature cannot be checked"
    with pytest.raises(InvalidInput, match="cannot be signed"):
        SIGNER("x", {"weight": float("nan")})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _JSON, max_size=4), st.dictionaries(st.text(), _JSON, max_size=4))
def test_two_messages_are_the_same_only_for_the_same_fields(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    def signed(fields: dict[str, Any]) -> str:
        kept = {name: v for name, v in fields.items() if name not in RESERVED_FIELDS and name[:1] != "_"}
        return json.dumps(_as_javascript(kept), sort_keys=True)

    assert (message("x", one) == message("x", other)) == (signed(one) == signed(other))


def _as_javascript(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_javascript(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_javascript(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


# --- Keys --------------------------------------------------------------------------------------------


def test_the_newest_key_signs_and_older_ones_are_still_trusted(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    assert (files.own(), files.trusted(), files.signer(environ={})) == ([], [], None)
    first = files.new("first")
    token = _signed(signer=files.signer(environ={}))  # type: ignore[arg-type]
    second = files.new("second")
    assert [key.public.name for key in files.own()] == ["first", "second"]
    signer = files.signer(environ={})
    assert signer is not None
    assert signer.public == second.public
    assert files.verifier(environ={}).problem(token) == ""
    assert files.distrust("first") == [first.public]
    assert files.trusted() == [second.public]
    assert files.verifier(environ={}).problem(token).startswith("it is signed with a key that is not trusted")


def test_which_key_signs_can_be_said(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    first, second = files.new("first"), files.new("second")
    for name, environ, wanted in (
        ("first", {}, first),
        (str(first.path), {"PICAS_SIGNING_KEY": "second"}, first),
        (None, {"PICAS_SIGNING_KEY": "first"}, first),
        (None, {"PICAS_SIGNING_KEY": str(second.path)}, second),
    ):
        signer = files.signer(name, environ)
        assert signer is not None
        assert signer.public == wanted.public
    with pytest.raises(InvalidInput, match="there is no key 'third'"):
        files.signer("third", {})


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    key = files.new("mine")
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert files.directory.stat().st_mode & 0o777 == 0o700
    key.path.chmod(0o640)
    with pytest.raises(ConfigError, match="others than you may read it"):
        files.signer(environ={})


def test_a_list_of_trusted_keys_that_others_can_change_is_refused(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    files.new("mine")
    files.trusted_path.chmod(0o620)
    with pytest.raises(ConfigError, match="others than you may write") as caught:
        files.verifier(environ={})
    assert caught.value.advice == f"Close it: chmod go-w {files.trusted_path}"


def test_the_trusted_keys_may_be_elsewhere(tmp_path: Path) -> None:
    here, there = KeyFiles(tmp_path / "a"), KeyFiles(tmp_path / "b")
    key = here.new("mine")
    token = _signed(signer=here.signer("mine"))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no key is trusted"):
        there.verifier(environ={})
    assert there.verifier(str(here.trusted_path), {}).problem(token) == ""
    assert there.verifier(environ={"PICAS_TRUSTED_KEYS": str(here.trusted_path)}).problem(token) == ""
    with pytest.raises(ConfigError, match="there is no file"):
        there.verifier(str(tmp_path / "none"), {})
    assert there.trust([key.public, key.public]) == [key.public]
    assert there.trust([key.public]) == []


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "-x", "a b", "x" * 65, "a\n"])
def test_names_that_no_key_can_have(tmp_path: Path, name: str) -> None:
    if name:
        with pytest.raises(InvalidInput, match="cannot be the name of a key"):
            KeyFiles(tmp_path).new(name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_given_once(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    before = files.new("mine").path.read_bytes()
    with pytest.raises(InvalidInput, match="there is a key mine already"):
        files.new("mine")
    assert files.own()[0].path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    ["ssh-ed25519 AAAA me", "picas-ed25519", "picas-ed25519 AAAA me", "picas-ed25519 !!! me", "\x1b[31m"],
)
def test_what_is_no_public_key(line: str) -> None:
    with pytest.raises(InvalidInput, match="is no public key of PiCaS"):
        PublicKey.parse(line)


def test_a_line_of_a_key_says_all_of_it() -> None:
    assert PublicKey.parse(SIGNER.public.line) == SIGNER.public
    lines = ["# who pushes", "", SIGNER.public.line, f"  {OTHER.public.line}  "]
    assert parse_lines(lines, "file") == [SIGNER.public, OTHER.public]
    with pytest.raises(InvalidInput, match=r"^file, line 2: 'nonsense' is no public key"):
        parse_lines(["", "nonsense"], "file")


def test_a_key_of_another_kind_cannot_sign() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for wrong in (pem, b"nothing"):
        with pytest.raises(InvalidInput, match="is no unencrypted Ed25519 key"):
            Signer(wrong)


def test_without_the_package_it_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra) as caught:
        Signer.generate()
    assert caught.value.advice == "pip install 'picas[signing]'"
