"""What work, or somebody who may write to the pool, tries to get out of a pilot or to do with it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from picas import machine
from picas.budgets import Budgets
from picas.errors import InfrastructureError
from picas.finishing import Result
from picas.fleet.reaping import Reaper
from picas.payload import Payload
from picas.spool.spool import Spool, flush
from picas.stores.base import Change
from picas.tokens import Claimer, Failure, Outcome

AT_ONCE = Budgets(preempted=5, lost=5, pause=(0.0, 0.0))


@pytest.fixture
def secret(bench):
    """A file that is nobody's business."""
    path = bench.path / "secret.json"
    path.write_text('{"secret": "s3cr3t"}\n')
    return path


def everything(bench):
    """All that is in the pool."""
    tokens = list(bench.pool.tokens())
    files = [
        b"".join(bench.pool.read_attachment(token.id, name)) for token in tokens for name in token.attachments
    ]
    return str([token.document() for token in tokens]) + str(files)


# --- Links and pipes in place of files ---


@pytest.mark.parametrize("name", ["stdout", "stderr", "output.json"])
@pytest.mark.parametrize("code", [0, 3])
def test_a_link_in_place_of_a_file_of_the_pilots_is_not_followed(bench, secret, name, code):
    bench.push(f"rm -f ../{name}; ln -s '{secret}' ../{name}; exit {code}", "echo next")
    summary = bench.run(collect=["*"])
    assert "s3cr3t" not in everything(bench)
    assert bench.states()["token_1"] == "done"
    if name == "output.json":
        assert summary.error == 1
        assert bench.message().startswith("$PICAS_OUTPUT is no longer a file") or code
    else:
        log = bench.out if name == "stdout" else bench.err
        assert log() == "[picas: this log is no longer a file]\n"


@pytest.mark.parametrize("name", ["stdout", "stderr", "output.json"])
def test_a_pipe_in_its_place_is_not_waited_for(bench, name):
    bench.push(f"rm -f ../{name}; mkfifo ../{name}; exit 3", "echo next")
    assert bench.run().error == 1
    assert bench.states() == {"token_0": "error", "token_1": "done"}


def test_output_may_be_a_link_within_the_directory(bench):
    bench.push('echo \'{"n": 1}\' > result.json; ln -s work/result.json "$PICAS_OUTPUT"')
    assert bench.run().done == 1
    assert bench.token().output == {"n": 1}


def test_a_link_to_a_directory_elsewhere_is_not_collected(bench, secret):
    bench.push(f"ln -s '{secret.parent}' a; ln -s / b; mkdir c; ln -s ../../../.. c/up; echo 1 > c/fine")
    bench.run(collect=["*/*.json", "**/*", "a/secret.json"])
    assert "s3cr3t" not in everything(bench)
    assert bench.attached("c/fine") == b"1\n"


# --- What somebody has written into the pool ---


@pytest.mark.any_pool
def test_checkpoints_with_impossible_names_are_done_without(bench):
    names = ("a", "a/b", "x" * 300, "d/e", "d", "fine", "f/./../g", "..", "./../up")
    bench.push("find . -type f | sort; true", "echo next")
    token = bench.pool.claim()
    files = tuple(Payload(name, "text/plain", (b"data",)) for name in names)
    outcome = Outcome(143, time.time() - 1, time.time(), Failure.PREEMPTED, "stopped", checkpoint=names)
    bench.pool.finish_many([Result(token, outcome, (), files)], budgets=AT_ONCE)
    assert bench.run().done == 2
    assert bench.out("token_0").split() == ["./a", "./d/e", "./fine"]


def believed_gone(bench, scratch, /, **fields):
    """A token that a pilot seems to have held here that is gone, with a record of somebody else's making."""
    token = bench.pool.claim(Claimer("gone", "here", {}, scratch, 60.0))
    process = {**machine.this_process(), "begun": 1}
    record = {"host": "here", "lease": 60.0, "interval": 10.0, "process": process, "scratch": scratch}
    running = [{"id": token.id, "claim": token.claim_id}]
    bench.pool.store.fleet.beat("gone", {**record, "running": running, **fields})
    assert machine.is_gone(process)
    return token


def reap(bench):
    return Reaper(bench.pool, AT_ONCE).reap(sure=True)


def test_logs_of_a_dead_pilot_are_fetched_but_no_link_is_followed(bench, secret):
    bench.push("x")
    scratch = bench.path / "picas-abc"
    token = believed_gone(bench, str(scratch))
    attempt = scratch / token.claim_id
    attempt.mkdir(0o700, parents=True)
    scratch.chmod(0o700)
    (attempt / "stdout").write_text("so far\n")
    (attempt / "stderr").symlink_to(secret)
    assert reap(bench).tokens == ["token_0"]
    assert "so far" in everything(bench)
    assert "s3cr3t" not in everything(bench)
    assert not scratch.exists()


@pytest.mark.parametrize("how", ["a link", "not a pilot's", "open to others", "no name of a pilot's"])
def test_no_directory_that_somebody_names_is_read_or_removed(bench, how):
    bench.push("x")
    scratch = bench.path / ("data" if how == "no name of a pilot's" else "picas-data")
    token = believed_gone(bench, str(scratch))
    real = bench.path / "picas-real" if how == "a link" else scratch
    attempt = real / token.claim_id
    attempt.mkdir(0o700, parents=True)
    real.chmod(0o755 if how == "open to others" else 0o700)
    (attempt / "stdout").write_text("s3cr3t")
    if how == "not a pilot's":
        (real / "thesis.tex").write_text("s3cr3t")
    if how == "a link":
        scratch.symlink_to(real)
    assert reap(bench).tokens == ["token_0"]
    assert "s3cr3t" not in everything(bench)
    assert (attempt / "stdout").exists()


@pytest.mark.parametrize("scratch", ["/", "/tmp", "", "\0", "relative", 5, None, ["x"]])
def test_odd_places_in_a_record_do_no_harm(bench, scratch):
    bench.push("x")
    before = set(os.listdir("/"))
    believed_gone(bench, str(bench.path / "picas-none"), scratch=scratch)
    assert reap(bench).pilots == ["gone"]
    assert set(os.listdir("/")) == before
    assert Path("/tmp").is_dir()


@pytest.mark.any_pool
@pytest.mark.parametrize(
    "run",
    [
        {"pilot": ["x"]},
        {"pilot": {"a": 1}},
        {"pilot": None},
        {"lease": 10**300, "pilot": "gone"},
        {"lease": "x"},
        {"claimed": 10**300, "pilot": "nobody"},
        {"scratch": "\0", "claim": "\0"},
        {"scratch": ["x"], "claim": 7},
    ],
)
def test_tokens_with_odd_claims_keep_no_reaper_from_its_work(bench, run):
    bench.push("x", "y")
    token = believed_gone(bench, str(bench.path / "picas-none"), running=[7, {"claim": []}, None])
    odd = bench.pool.claim(Claimer("gone", "here", {}, "/nowhere", 60.0))
    body = {**odd.body, "picas": {**odd.picas, "run": {**odd.run, **run}}}
    assert bench.pool.store.replace([Change(replace(odd, body=body))])[0] is not None
    assert token.id in reap(bench).tokens


@pytest.mark.any_pool
@pytest.mark.parametrize(
    "fields",
    [{"lease": 10**300}, {"interval": "x"}, {"running": {"a": 1}}, {"process": []}, {"process": {"boot": 1}}],
)
def test_odd_records_keep_no_reaper_from_its_work(bench, fields):
    bench.push("x")
    bench.pool.store.fleet.beat("odd", {"host": "here", "lease": 60.0, "interval": 10.0, **fields})
    token = believed_gone(bench, str(bench.path / "picas-none"))
    assert reap(bench).tokens == [token.id]


def test_numbers_that_are_no_times_keep_no_reaper_from_its_work(bench):
    bench.push("x", "y")
    bench.pool.store.fleet.beat("odd", {"lease": 10**400, "interval": 10**400, "process": {"pid": 10**400}})
    token = believed_gone(bench, str(bench.path / "picas-none"), interval=10**400)
    odd = bench.pool.claim(Claimer("gone", "here", {}, "/nowhere", 60.0))
    run = {**odd.run, "lease": 10**400, "claimed": 10**400}
    body = {**odd.body, "picas": {**odd.picas, "run": run}}
    assert bench.pool.store.replace([Change(replace(odd, body=body))])[0] is not None
    assert token.id in reap(bench).tokens


# --- The spool ---


@pytest.mark.parametrize("how", ["writable by others", "of somebody else"])
def test_a_spool_that_others_can_fill_is_not_used(bench, how):
    bench.push("true")
    spool = Spool(bench.spool, bench.pool.url).directory
    spool.mkdir(parents=True)
    if how == "writable by others":
        spool.chmod(0o770)
    elif os.geteuid() == 0:
        os.chown(spool, 65534, 65534)
    else:
        pytest.skip("only root can give a directory away")
    with pytest.raises(InfrastructureError, match="the spool cannot be used") as caught:
        bench.run()
    assert "PICAS_SPOOL" in caught.value.advice
    assert bench.states() == {"token_0": "todo"}
    with pytest.raises(InfrastructureError, match="the spool cannot be used"):
        flush(bench.pool, bench.spool)
