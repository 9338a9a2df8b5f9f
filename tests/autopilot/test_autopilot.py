"""`picas autopilot` on pools of either kind, with a Slurm that is made of a few scripts and really starts pilots."""

from __future__ import annotations

import json
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.autopilot.conftest import PATIENCE_SECONDS, PLAN, Site
from tests.autopilot.fake_slurm import calls

from picas.autopilot.loop import HELD
from picas.pool import open_pool

if TYPE_CHECKING:
    from pathlib import Path


def ended(element: Path) -> bool:
    """Whether an element of an array is over."""
    code = element.with_suffix(".code")
    return code.exists() and bool(code.read_text().strip())


@pytest.mark.any_pool
def test_from_an_empty_pool_to_all_done_and_no_pilot_left(site: Site) -> None:
    site.push(*({"input": "true"} for _ in range(6)), *({"input": "true", "cores": 3} for _ in range(2)))
    answer = site.picas("autopilot", "--every", "0.2", "--until-done")
    assert answer.code == 0, answer.err
    assert site.counts() == {"todo": 0, "locked": 0, "done": 8, "error": 0, "other": 0}
    assert "started 2 pilots of SingleCore: slurm 1" in answer.out
    assert "started 2 pilots of MultiCore: slurm 2" in answer.out
    assert answer.out.rstrip().endswith("nothing is left to do, and no pilot")
    assert all(ended(path) for path in site.slurm.glob("job-*/*.waits"))
    with open_pool(site.url) as pool:
        found = {(token.cores, str(token["slurm_job_id"]).partition("_")[0]) for token in pool.tokens()}
    assert found == {(1, "1"), (3, "2")}


@pytest.mark.any_pool
def test_a_look_starts_what_is_wanted_and_the_next_one_no_more(site: Site) -> None:
    (site.slurm / "slots").write_text("1")
    site.push(*({"input": "sleep 600"} for _ in range(3)))
    first = site.look()
    assert (first["started"], first["pilots"]) == (3, 3)
    assert [(job["ids"], job["pilots"], job["profile"]) for job in first["jobs"]] == [
        (["1"], 3, "SingleCore")
    ]
    site.until(lambda: site.counts()["locked"] == 1)
    second = site.look()
    assert (second["started"], second["pilots"]) == (0, 3)
    found = site.profile(second)
    assert (found["waiting"], found["locked"], found["queued"], found["running"]) == (2, 1, 2, 1)
    assert calls(site.slurm, "sbatch") == 1


def test_a_dry_run_starts_nothing_and_tells_why(site: Site) -> None:
    site.push({"input": "x"}, {"input": "x", "cores": 64, "memory": "1TB"}, {"input": "x", "gpus": 1})
    answer = site.picas.here("autopilot", "--dry-run")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split() == "profile waiting each takes queued running wanted start".split()
    assert lines[1].split() == ["SingleCore", "1", "?", "0", "0", "1", "1"]
    assert lines[3] == "SingleCore: room for all at once, since nobody knows how long they take"
    assert lines[5].startswith("2 waiting tokens fit no profile: ")
    assert "1 with cores=64 memory=1000GB" in lines[5]
    assert "1 with cores=1 gpus=1" in lines[5]
    assert (
        answer.err == f"picas: {site.url} is a file: only pilots that run on this very machine can use it\n"
    )
    assert calls(site.slurm, "sbatch") == 0
    assert site.picas.here("autopilot", "--dry-run", "--json").json["dry_run"] is True
    assert site.look()["started"] == 1, "it has not kept anybody from looking after the pool"


def test_tokens_that_no_pilot_fits_do_not_keep_it_from_ending(site: Site) -> None:
    site.push({"input": "true"}, {"input": "true", "cores": 64})
    answer = site.picas("autopilot", "--every", "0.2", "--until-done")
    assert answer.code == 1
    assert site.counts()["done"] == 1
    assert "1 waiting token fits no profile: 1 with cores=64" in answer.out
    assert answer.out.rstrip().endswith("nothing else is left to do, and no pilot")


def test_limits_of_the_command_line_go_before_the_files(site: Site) -> None:
    site.push(*({"input": "sleep 600"} for _ in range(9)))
    assert site.look("--max-pilots", "0")["started"] == 0
    found = site.look("--max-pilots", "9", "--per-hour", "2")
    assert (found["started"], site.profile(found)["why"][1:]) == (2, ["per-hour 2 leaves room for 2"])
    found = site.look("--per-hour", "2")
    assert (found["started"], site.profile(found)["why"][1:]) == (0, ["per-hour 2 leaves room for none"])
    assert site.look()["started"] == 2, "max-pilots in the file is 4"


@pytest.mark.any_pool
def test_two_do_not_look_after_one_pool(site: Site) -> None:
    site.push({"input": "true"})
    with open_pool(site.url) as pool:
        fleet = pool.store.fleet
        assert fleet is not None
        assert fleet.hold(HELD, {"id": "x", "host": "login7", "began": 1.8e9}, 3600).mine
        found = site.look()
        assert (found["busy"]["host"], found["started"], found["profiles"]) == ("login7", 0, [])
        said = site.picas.here("autopilot", "--once")
        assert said.out.startswith("another autopilot on login7, since 2027-")
        assert said.out.endswith(" looks after this pool already: nothing was done\n")
        assert site.picas.here("autopilot", "--dry-run").out.startswith("profile")
        assert fleet.hold(HELD, {"id": "x"}, 0).mine
    assert site.look()["started"] == 1


def test_one_that_was_killed_keeps_nobody_away(site: Site) -> None:
    site.push({"input": "sleep 600"})
    with site.picas.start("autopilot", "--every", "10m", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["busy"] is None
        assert site.look()["busy"] is not None
        process.kill()
        process.wait()
    assert site.look()["busy"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_loop_and_no_pilot(site: Site, number: signal.Signals) -> None:
    site.push({"input": "sleep 600"})
    with site.picas.start("autopilot", "--every", "10m", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["started"] == 1
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 128 + number
    site.until(lambda: site.counts()["locked"] == 1)
    assert site.look()["busy"] is None


@pytest.mark.any_pool
def test_after_failed_starts_it_stops_and_says_why(site: Site) -> None:
    site.plan(PLAN.replace('time = "1h"', 'time = "1h"\nsetup = "echo no such module >&2; exit 7"', 1))
    site.push({"input": "true"}, {"input": "true"}, {"input": "true"}, {"input": "true", "cores": 2})
    assert site.look()["started"] == 4
    site.until(lambda: len(list(site.slurm.glob("job-1/*.code"))) == 3 and site.counts()["done"] == 1)
    found = site.look(code=1)
    single = site.profile(found)
    assert (found["started"], single["wanted"], single["start"], single["failed"]) == (0, 3, 0, 3)
    assert single["held_until"] > time.time() + 3000
    assert "3 pilots in a row failed: FAILED (NonZeroExitCode)" in single["why"]
    assert site.profile(found, "MultiCore")["failed"] == 0
    said = site.picas.here("autopilot", "--once")
    assert said.code == 1
    assert "or now with --retry" in said.out
    assert site.look(code=1)["started"] == 0
    site.plan(PLAN)
    assert site.look("--retry")["started"] == 3
    site.until(lambda: site.counts()["done"] == 4)
    assert site.profile(site.look())["failed"] == 0


def test_pilots_that_take_nothing_of_what_waits_are_not_started_for_ever(site: Site) -> None:
    site.plan(PLAN.replace('time = "1h"', 'time = "1h"\nsetup = "exit 0"', 1))
    site.push({"input": "true"}, {"input": "true"})
    for started in (2, 2, 0):
        found = site.look(code=0 if started else 1)
        assert found["started"] == started
        site.until(lambda: not [path for path in site.slurm.glob("job-*/*.waits") if not ended(path)])
    why = site.profile(found)["why"][-1]
    assert why == "4 pilots in a row failed: they ended without taking one of the tokens that wait for them"
    site.plan(PLAN)
    assert site.look("--retry")["started"] == 2
    site.until(lambda: site.counts()["done"] == 2)
    assert site.profile(site.look())["failed"] == 0


def test_tokens_that_are_paused_are_not_waited_for(site: Site) -> None:
    site.push({"input": "true"}, {"input": "true", "cores": 2})
    assert site.picas.here("pause", "--where", "cores == 2").code == 0
    found = site.look()
    assert [(each["name"], each["waiting"], each["start"]) for each in found["profiles"]] == [
        ("SingleCore", 1, 1),
        ("MultiCore", 0, 0),
    ]


def test_a_batch_system_that_refuses_is_quoted_and_after_three_times_left_alone(site: Site) -> None:
    (site.slurm / "refuse").write_text(
        "sbatch: error: Batch job submission failed: Invalid account\nline two\n"
    )
    site.push({"input": "true"})
    for _ in range(3):
        found = site.look(code=1)
        assert "Invalid account\nline two" in site.profile(found)["refused"]
        assert ".sh" in site.profile(found)["refused"], "where the script is"
    assert calls(site.slurm, "sbatch") == 3
    found = site.profile(site.look(code=1))
    assert (found["failed"], found["refused"]) == (3, None)
    assert "Invalid account" in found["why"][1]
    assert calls(site.slurm, "sbatch") == 3
    (site.slurm / "refuse").unlink()
    assert site.look("--retry")["started"] == 1


def test_a_batch_system_that_does_not_answer_starts_nothing(site: Site) -> None:
    site.push({"input": "sleep 600"})
    assert site.look()["started"] == 1
    site.push({"input": "sleep 601"})
    (site.slurm / "deaf").touch()
    found = site.look("--patience", "2", code=1)
    assert "did not answer within 2 s" in found["problem"]
    assert (found["started"], site.profile(found)["why"][-1]) == (0, "its batch system does not answer")
    site.plan(PLAN + '[profiles.here]\nlauncher = "local"\ngpus = 1\nwhere = "gpus > 0"\n')
    site.push({"input": "true", "gpus": 1})
    found = site.look("--patience", "2", code=1)
    assert [job["profile"] for job in found["jobs"]] == ["here"], "others go on"
    (site.slurm / "deaf").unlink()
    assert site.look()["started"] == 1


def test_without_slurm_it_is_said_what_is_missing(site: Site) -> None:
    shutil.rmtree(site.slurm)
    site.slurm.mkdir()
    site.push({"input": "true"})
    only = (
        f"{site.slurm}:/usr/bin:/bin"
        if shutil.which("sbatch", path="/usr/bin:/bin") is None
        else str(site.slurm)
    )
    site.picas.own["PATH"] = only
    answer = site.picas.here("autopilot", "--once")
    assert answer.code == 1
    assert "there is no command 'sbatch' on this machine" in answer.out
    assert site.counts()["todo"] == 1


@pytest.mark.any_pool
def test_nothing_is_started_while_the_pool_is_paused(site: Site) -> None:
    site.push({"input": "true"})
    assert site.picas.here("pause").code == 0
    found = site.look()
    assert (found["started"], site.profile(found)["why"][1]) == (0, "the pool is paused")
    assert site.picas.here("resume").code == 0
    assert site.look()["started"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[profiles.A]\nlauncher = "slurn"', "profile A: there is no batch system 'slurn'"),
        ('[profiles.A]\nlauncher = "slurm"\npartitions = "x"', "profile A: no such option"),
        ('[profiles.A]\nlauncher = "slurm"\nrun = ["--max-skrub", "2"]', "profile A: no such option"),
        ('[profiles.A]\nlauncher = "slurm"\nvenv = "none"', "profile A: --venv: "),
        ('[profiles.A]\nlauncher = "slurm"\ncores = "many"', "'profiles.A.cores' must be a whole number"),
    ],
)
def test_mistakes_in_the_plan_are_told_before_anything_is_done(site: Site, text: str, said: str) -> None:
    site.push({"input": "true"})
    site.plan(text)
    answer = site.picas.here("autopilot", "--once")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "autopilot.toml" in answer.err
    assert calls(site.slurm, "sbatch") == 0


def test_it_does_not_look_all_the_time(site: Site) -> None:
    answer = site.picas.here("autopilot", "--every", "0")
    assert (answer.code, answer.out) == (2, "")
    assert "--every: it looks every 0.1 s at the most often" in answer.err


def test_a_plan_that_is_not_there(site: Site) -> None:
    answer = site.picas.here("autopilot", "none.toml", "--once")
    assert answer.code == 2
    assert "none.toml cannot be read" in answer.err


def test_pilots_on_this_machine_need_no_batch_system(site: Site) -> None:
    site.plan('[profiles.here]\nlauncher = "local"\ncores = 2\nmemory = "2GB"\n')
    site.push(*({"input": "true", "memory": "1GB"} for _ in range(5)), {"input": "true", "memory": "1.5GB"})
    answer = site.picas("autopilot", "--every", "0.2", "--until-done")
    assert answer.code == 1, answer.err
    assert site.counts() == {"todo": 1, "locked": 0, "done": 5, "error": 0, "other": 0}
    assert "started 3 pilots of here: local " in answer.out
