"""Files of tokens: fetched before their work begins, brought away after it has ended well."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from picas.budgets import Budgets
from picas.finishing import Result
from picas.fleet import orders
from picas.spool.records import loaded_result, text_of
from picas.staging.plan import Staging
from picas.stores.base import Change
from picas.tokens import Failure, Outcome, Token
from picas.trust.keys import KeyFiles

DATA = os.urandom(100_000)
SHA = hashlib.sha256(DATA).hexdigest()
AT_ONCE = (0.0, 0.0)
PATIENCE = 120.0

TELLS_WHAT_IS_LOADED = """
import atexit, sys
atexit.register(lambda: print([n for n in sys.modules if n.startswith("picas.staging.")], file=sys.stderr))
"""


def chosen(**choices):
    return Staging(**{"pauses": AT_ONCE, **choices})


def failure(token):
    return token.picas["run"].get("failure")


@pytest.fixture
def data(site):
    """The URL of a file."""
    site.files["/in/a.fits"] = DATA
    return f"{site.url}/in/a.fits"


@pytest.mark.any_pool
def test_a_token_gets_its_files_and_says_where_it_put_its_own(bench, site, data):
    site.fail("GET", "/in/a.fits", {"cut": 70_000}, {"status": 503})
    bench.push(
        {
            "input": "sha256sum < data/raw.fits > sums/a.txt; wc -c < data/raw.fits > b.txt",
            "stage_in": [
                {"url": data, "path": "data/raw.fits", "checksum": f"sha256:{SHA}"},
                {"url": f"{site.url}/in/a.fits?authz=s3cret", "path": "sums/b"},
            ],
            "stage_out": [
                {"url": f"{site.url}/out/a.txt?authz=s3cret", "path": "sums/a.txt", "checksum": "adler32"},
                {"url": f"{site.url}/out/", "path": "*.txt"},
            ],
        }
    )
    assert bench.run(staging=chosen()).done == 1
    assert site.files["/out/a.txt"].decode().split()[0] == SHA
    assert site.files["/out/b.txt"] == b"100000\n"
    uploads = bench.token()["uploads"]
    assert uploads["b.txt"]["url"] == f"{site.url}/out/b.txt"
    assert uploads["sums/a.txt"]["checksum"].startswith("adler32:")
    assert uploads["sums/a.txt"]["size"] == len(site.files["/out/a.txt"])
    assert "s3cret" not in str(uploads) + bench.out() + bench.err()
    assert "the connection broke off; again in" in bench.err()
    assert not bench.left_in_scratch()


def test_what_a_pilots_owner_wants_is_staged_for_every_token(bench, site, data):
    bench.push("a.fits", "b.fits")
    site.files["/in/b.fits"] = b"b"
    staging = chosen(stage_in=[f"raw={site.url}/in/{{input}}"], stage_out=[f"raw={site.url}/out/{{id}}.copy"])
    assert bench.run(["true"], staging=staging, workers=2).done == 2
    assert sorted(site.files.get(f"/out/{name}.copy") for name in ("token_0", "token_1")) == sorted(
        (DATA, b"b")
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_function_finds_its_files_too(bench, site, data, workers):
    def work(token, job):
        if not token.get("stage_in"):
            return {"pid": os.getpid()}
        (job.scratch / "out.txt").write_text(str(len((job.scratch / "a.fits").read_bytes())))
        return {"pid": os.getpid()}

    staged = {"input": "", "stage_in": data, "stage_out": {"url": f"{site.url}/out.txt", "path": "out.txt"}}
    bench.push(staged, "none", staged)
    assert bench.run(work, staging=chosen(sites=[site.url]), workers=workers).done == 3
    assert site.files["/out.txt"] == b"100000"
    pids = [bench.token(f"token_{number}")["output"]["pid"] for number in range(3)]
    assert len(set(pids)) == 3
    assert (pids[1] == os.getpid()) == (workers == 1)


def test_a_function_whose_files_do_not_come_is_not_called(bench, site):
    bench.push({"input": "", "stage_in": f"{site.url}/none"})
    staging = chosen(sites=[site.url])
    assert bench.run(lambda token: Path("/no/such/file").read_bytes(), staging=staging, max_tasks=1).retried
    last = bench.token().history[-1]
    assert (last["exit_code"], last["failure"]) == (74, "infrastructure")
    assert "no such file (404)" in last["message"]


# --- What goes wrong ---


def test_files_that_cannot_be_had_are_no_fault_of_the_work(bench, site):
    bench.push({"input": f"touch {bench.path}/ran", "stage_in": f"{site.url}/none"})
    summary = bench.run(staging=chosen())
    assert (summary.error, summary.retried) == (1, 3)  # the budget of its class
    token = bench.token()
    assert (token["exit_code"], failure(token), token["lock"]) == (74, "infrastructure", 99)
    assert bench.message() == f"fetching {site.url}/none failed: there is no such file (404)"
    assert not (bench.path / "ran").exists()


def test_a_wrong_checksum_is_tried_again_and_then_told(bench, site, data):
    bench.push({"input": "true", "stage_in": {"url": data, "checksum": "md5:" + "0" * 32}})
    assert bench.run(staging=chosen(tries=2), max_tasks=1).retried == 1
    assert "failed 2 times, at last: its checksum is md5:" in bench.message()
    assert bench.token().history[-1]["failure"] == "infrastructure"


def test_what_could_be_brought_is_noted_where_the_rest_could_not(bench, site):
    bench.push(
        {
            "input": "echo a > a; echo b > b",
            "stage_out": [
                {"url": f"{site.url}/a", "path": "a"},
                {"url": "http://127.0.0.1:9/b", "path": "b"},
            ],
        }
    )
    assert bench.run(staging=chosen(tries=1), max_tasks=1).retried == 1
    token = bench.token()
    assert list(token["uploads"]) == ["a"]
    assert token.history[-1]["failure"] == "infrastructure"
    assert "bringing b to http://127.0.0.1:9/b failed" in token["error"][-1]["message"]


@pytest.mark.parametrize(
    ("work", "code", "kind"),
    [("exit 3", 3, "application"), ("kill -SEGV $$", 139, "signal"), ("kill -TERM $$", 143, "signal")],
)
def test_work_that_fails_is_seen_as_it_is_and_nothing_is_brought(bench, site, data, work, code, kind):
    bench.push(
        {"input": f"echo x > x; {work}", "stage_in": data, "stage_out": {"url": f"{site.url}/x", "path": "x"}}
    )
    assert bench.run(staging=chosen()).error == 1
    token = bench.token()
    assert (token["exit_code"], failure(token)) == (code, kind)
    assert not site.of("PUT")
    assert not token.get("uploads")


@pytest.mark.parametrize(
    ("work", "path"),
    [
        ("true", "x"),
        ("true", "*.x"),
        ("ln -s /etc/hostname x", "x"),
        ("mkdir x", "x"),
        ("ln -s / y", "y/etc/hostname"),
    ],
)
def test_a_file_that_the_work_did_not_make_is_its_own_fault(bench, site, work, path):
    bench.push({"input": work, "stage_out": {"url": f"{site.url}/", "path": path}})
    assert bench.run(staging=chosen()).error == 1
    token = bench.token()
    assert (token["exit_code"], failure(token)) == (65, "application")
    assert "the work ended well, but" in bench.message()
    assert not site.of("PUT")


def test_a_command_that_is_not_there_is_told_as_ever(bench, data):
    bench.push({"input": "x", "program": "/no/such/program", "stage_in": data})
    assert bench.run(["{program}"], staging=chosen(sites=[data]), max_tasks=1).retried == 1
    last = bench.token().history[-1]
    assert (last["exit_code"], last["failure"]) == (127, "infrastructure")
    assert last["message"].startswith("there is no command '/no/such/program'")


def test_a_command_that_fails_twice_brings_the_file_the_third_time(bench):
    flaky = bench.path / "flaky"
    flaky.write_text(
        '#!/bin/sh\necho x >> "$0.count"; [ "$(wc -l < "$0.count")" -ge 3 ] || exit 7\ncp "${1#surf:}" "$2"\n'
    )
    flaky.chmod(0o755)
    (bench.path / "a.fits").write_bytes(DATA)
    bench.push({"input": "sha256sum a.fits", "stage_in": f"surf:{bench.path}/a.fits"})
    assert bench.run(staging=chosen(command=f"{flaky} {{source}} {{destination}}")).done == 1
    assert bench.out().split()[0] == SHA
    assert bench.err().count("flaky failed (exit code 7); again in") == 2


def test_a_full_disk_is_no_fault_of_the_work(bench, site):
    site.files["/big"] = b""
    site.fail("GET", "/big", {"status": 200, "headers": {"Content_Length": str(1 << 60)}})
    bench.push({"input": "true", "stage_in": f"{site.url}/big"})
    assert bench.run(staging=chosen(), max_tasks=1).retried == 1
    last = bench.token().history[-1]
    assert last["failure"] == "infrastructure"
    assert "it needs 1,152,921,504,606,846,976 bytes, and the disk of" in last["message"]


# --- Being stopped ---


@pytest.fixture
def hold(site, data):
    """A server that does not go on with the file before this is set."""
    held = threading.Event()
    site.fail("GET", "/in/a.fits", {"hold": held}, {"hold": held})
    yield held
    held.set()


def test_a_time_limit_holds_for_staging_while_other_slots_go_on(bench, data, hold):
    bench.push({"input": f"touch {bench.path}/ran", "stage_in": data}, *["true"] * 5)
    summary = bench.run(staging=chosen(), task_timeout=5.0, workers=2, max_tasks=6)
    assert (summary.done, summary.retried) == (5, 1)
    last = bench.token().history[-1]
    assert (last["exit_code"], last["failure"]) == (124, "infrastructure")
    assert "while its files were being fetched" in last["message"]
    assert not (bench.path / "ran").exists()
    assert not bench.alive(pilots=True)


def test_a_signal_stops_staging_and_the_token_goes_back(bench, site, data, hold, eventually):
    bench.push({"input": f"touch {bench.path}/ran", "stage_in": data})
    pilot = bench.start()
    eventually(lambda: site.of("GET"))
    pilot.signal(signal.SIGTERM)
    assert pilot.summary()["released"] == 1
    assert bench.states() == {"token_0": "todo"}
    assert not (bench.path / "ran").exists()
    assert not bench.alive()
    assert not bench.left_in_scratch()


def test_work_does_not_begin_after_the_warning_of_the_end(bench, site, data, hold, eventually):
    bench.push({"input": f"touch {bench.path}/ran", "stage_in": data})
    pilot = bench.start(signal="USR1@120")
    eventually(lambda: site.of("GET"))
    pilot.signal(signal.SIGUSR1)
    assert pilot.summary()["released"] == 1
    assert bench.states() == {"token_0": "todo"}
    assert bench.token().history[-1]["failure"] == "preempted"
    assert not (bench.path / "ran").exists()


def test_a_token_can_be_cancelled_while_its_files_come(bench, site, data, hold, eventually):
    bench.push({"input": f"touch {bench.path}/ran", "stage_in": data})
    pilot = bench.start(beat=0.5)
    eventually(lambda: site.of("GET"))
    held, fleet = bench.token().claim_id, bench.pool.store.fleet
    eventually(lambda: fleet.pilots()[0].fields["running"])
    now = bench.pool.store.now()
    orders.give(fleet, lambda fields: orders.cancel(fields, [held], now), now)
    assert pilot.summary()["error"] == 1
    assert failure(bench.token()) == Failure.CANCELLED.value
    assert not (bench.path / "ran").exists()
    assert not bench.alive()


def test_a_warning_reaches_the_work_through_the_process_that_stages(bench, site, data, eventually):
    ready = bench.path / "ready"
    bench.push(
        {
            "input": f"trap 'echo saved > saved; exit 0' USR1; touch {ready}; while :; do sleep 0.05; done",
            "stage_in": data,
            "stage_out": {"url": f"{site.url}/saved", "path": "saved"},
        }
    )
    pilot = bench.start(signal="USR1@120")
    eventually(ready.exists)
    pilot.signal(signal.SIGUSR1)
    assert pilot.summary()["done"] == 1
    assert site.files["/saved"] == b"saved\n"


# --- Who may what ---


def test_a_fixed_command_stages_nothing_from_places_that_nobody_named(bench, site, data):
    secret = bench.path / "secret"
    secret.write_text("s3cret")
    bench.push(
        {"input": "", "stage_in": str(secret)},
        {"input": "", "stage_in": data},
        {"input": "", "stage_out": {"url": f"{bench.path}/.bashrc", "path": "a"}},
    )
    assert bench.run(["sh", "-c", "cat *; touch a"], workers=1, max_scrub=0).error == 3
    for number in range(3):
        assert "is at no site that this pilot's owner has named" in bench.message(f"token_{number}")
    assert not site.asked
    assert not (bench.path / ".bashrc").exists()


def test_a_signed_token_may_name_any_place_and_a_changed_one_none(bench, data, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(bench.path / "config"))
    keys = KeyFiles()
    keys.new("me")
    signer = keys.signer()
    bench.push({"input": "", "stage_in": data}, {"input": "", "stage_in": data}, sign=signer)
    changed = bench.token("token_1")
    body = {**changed.body, "stage_in": "/etc/passwd"}
    bench.pool.store.replace([Change(Token(changed.id, body, changed.rev))])
    summary = bench.run(["wc", "-c", "a.fits"], require_signed=True, staging=chosen())
    assert (summary.done, summary.error) == (1, 1)
    assert failure(bench.token("token_1")) == "untrusted"


def test_credentials_for_copying_are_hidden_from_the_work(bench, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    monkeypatch.setenv("PICAS_PASSWORD", "pw")
    copy = bench.path / "copy"
    copy.write_text('#!/bin/sh\necho "$MY_TOKEN,$PICAS_PASSWORD" > "$2"\n')
    copy.chmod(0o755)
    bench.push({"input": 'cat a; echo "[$MY_TOKEN]"', "stage_in": "x:a"})
    staging = chosen(command=f"{copy} {{source}} {{destination}}")
    assert bench.run(staging=staging, secrets=("MY_*",)).done == 1
    assert bench.out() == "s3cret,\n[]\n"


# --- What it costs ---


def test_nothing_is_loaded_for_tokens_without_files(bench):
    bench.push(*["echo $PPID"] * 3)
    pilot = bench.start(TELLS_WHAT_IS_LOADED)
    _out, err = pilot.process.communicate(timeout=PATIENCE)
    assert pilot.process.returncode == 0, err
    assert err.strip().endswith("[]")
    assert {bench.out(f"token_{number}").strip() for number in range(3)} == {str(pilot.process.pid)}


def test_what_was_brought_away_is_noted_in_the_spool_too():
    uploads = {"a": {"url": "https://host/a", "size": 3}}
    result = Result(Token("token_1", {}), Outcome(0, 1.0, 2.0, uploads=uploads))
    text = text_of(result, Budgets().as_dict(), [])
    assert loaded_result(json.loads(text), []).result.outcome.uploads == uploads
