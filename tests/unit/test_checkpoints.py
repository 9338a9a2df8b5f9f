"""Fetching what a token's next attempt begins with, from a pool that has bad moments."""

from __future__ import annotations

from pathlib import Path

import pytest

from picas.errors import InfrastructureError, PoolRefused, PoolUnavailable, TokenNotFound
from picas.pilot import checkpoints
from picas.pilot.checkpoints import Checkpoints
from picas.tokens import Token


class Files:
    """A pool that answers each request for a file with the next of these: pieces, or an error."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def read_attachment(self, token_id, name):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for piece in answer:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def token(*names):
    return Token("t", {"picas": {"checkpoint": list(names), "run": {"claim": "c1"}}})


def fetched(tmp_path, pool, each, *, stopped=lambda seconds: False):
    """What the attempt's directory has in it then, and what was told on the way."""
    told = []
    made = Checkpoints(str(tmp_path), pool, told.append)
    made.fetch(each, stopped)
    work = tmp_path / "work"
    work.mkdir(0o700)
    made.place(each, str(work))
    made.close()
    found = {str(path.relative_to(work)): path.read_bytes() for path in work.rglob("*") if path.is_file()}
    return found, told


def test_files_are_where_they_were(tmp_path):
    pool = Files([b"a", b"b"], [b"c"], [])
    assert fetched(tmp_path, pool, token("x", "d/y", "empty")) == (
        {"x": b"ab", "d/y": b"c", "empty": b""},
        [],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_token_without_a_checkpoint_costs_nothing(tmp_path):
    assert fetched(tmp_path, Files(), token()) == ({}, [])


def test_a_pool_that_breaks_off_is_asked_again_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSE_SECONDS", (0.0, 0.0))
    pool = Files([b"a"], [b"half", PoolUnavailable("away")], PoolUnavailable("away"), [b"a"], [b"whole"])
    found, told = fetched(tmp_path, pool, token("x", "y"))
    assert found == {"x": b"a", "y": b"whole"}
    assert len(told) == 2


def test_a_pilot_that_goes_does_not_wait_for_a_pool(tmp_path):
    waited = []
    pool = Files(PoolUnavailable("away", after=7.0))
    found, _ = fetched(tmp_path, pool, token("x"), stopped=lambda seconds: waited.append(seconds) or True)
    assert found == {}
    assert waited == [7.0]


def test_a_file_that_is_gone_is_left_out(tmp_path):
    assert fetched(tmp_path, Files(TokenNotFound("gone"), [b"b"]), token("x", "y"))[0] == {"y": b"b"}


@pytest.mark.parametrize("error", [PoolRefused("no rights"), OSError(28, "No space left on device")])
def test_what_cannot_be_fetched_fails_when_the_attempt_begins_and_no_other(tmp_path, error):
    with pytest.raises(InfrastructureError):
        fetched(tmp_path, Files([b"a"], error), token("x", "y"))


def test_names_that_lead_elsewhere_are_passed_over(tmp_path):
    (tmp_path / "victim").write_text("untouched")
    names = ["../victim", "/etc/x", "a/../../victim", "", "fine", "fine/inner", "\0", "..", "."]
    found, _ = fetched(tmp_path, Files(*[[b"evil"]] * len(names)), token(*names))
    assert found == {"fine": b"evil"}
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not Path("/etc/x").exists()
