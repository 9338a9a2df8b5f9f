"""The modifiers of tokens and of tokens within documents."""

from __future__ import annotations

from typing import Any

import pytest

from picas.modifiers import BasicTokenModifier, NestedTokenModifier, TokenModifier

BASIC = BasicTokenModifier()
NESTED = NestedTokenModifier()


@pytest.fixture(autouse=True)
def _slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIRACJOBID", "GLITE_WMS_JOBID", "CREAM_JOBID", "PBS_JOBID", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "77")


def test_a_token_is_locked_and_unlocked() -> None:
    token: dict[str, Any] = {"lock": 0}
    assert BASIC.lock(token) is token
    assert (token["lock"] > 0, token["slurm_job_id"], bool(token["hostname"])) == (True, "77", True)
    assert BASIC.unlock(token) is token
    assert (token["lock"], "slurm_job_id" in token) == (0, False)


def test_a_token_is_closed_and_unclosed() -> None:
    token: dict[str, Any] = {"lock": 5, "done": 0}
    assert BASIC.close(token)["done"] > 0
    assert BASIC.unclose(token) == {"lock": 5, "done": 0}


@pytest.mark.parametrize(("before", "after"), [({"scrub_count": 1}, 2), ({}, 1)])
def test_a_token_is_scrubbed(before: dict[str, Any], after: int) -> None:
    token = BASIC.scrub({"lock": 5, "slurm_job_id": "1", **before})
    assert (token["lock"], token["scrub_count"], "slurm_job_id" in token) == (0, after, False)


def test_a_token_gets_output_and_an_error() -> None:
    assert BASIC.add_output({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}
    assert BASIC.set_error({}) == {"lock": 99, "done": 99}


@pytest.mark.parametrize("name", ["lock", "unlock", "close", "unclose", "scrub", "set_error"])
@pytest.mark.parametrize("ref", ["a", ["a"], ("list", 1), ["list", 0, "deep"]])
def test_a_token_within_a_document_is_changed_as_one_by_itself(name: str, ref: Any) -> None:
    record: dict[str, Any] = {"a": {"lock": 4}, "list": [{"deep": {"lock": 4}}, {"lock": 4}]}
    assert getattr(NESTED, name)(ref, record) is record
    alone = getattr(BASIC, name)({"lock": 4})
    assert NESTED.get_token(ref, record).keys() == alone.keys()
    assert {key: value for key, value in record.items() if key not in ("a", "list")} == {}


def test_a_token_within_a_document_gets_output() -> None:
    assert NESTED.add_output("a", {"a": {}}, {"b": 2}) == {"a": {"b": 2}}
    with pytest.raises(KeyError):
        NESTED.lock(["a", "b"], {"a": {}})


@pytest.mark.parametrize("name", ["lock", "unlock", "close", "unclose", "add_output", "scrub", "set_error"])
def test_one_of_the_programs_own_has_to_say_how(name: str) -> None:
    with pytest.raises(NotImplementedError, match=f"has no {name}"):
        getattr(TokenModifier(timeout=5), name)({})
