"""Job descriptions, sandboxes and startpilot.sh under the real client of DIRAC: ``nox -s grid`` installs and runs it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.grid.conftest import EXAMPLE, User

from picas.launchers.base import Phase, Request
from picas.launchers.dirac import Dirac

HERE = Path(__file__).parent
CLIENT = HERE / ".dirac"
GOLDEN = HERE / "golden" / "fractals.jdl"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CLIENT / ".made").exists(), reason="no client of DIRAC here: run nox -s grid"),
]


def ask(folder: Path, *words: str, code: int = 0, **environ: str) -> Any:
    """What DIRAC answers, see `tests.grid.with_dirac`; its words if it refuses."""
    ended = subprocess.run(
        [CLIENT / "bin" / "python", HERE / "with_dirac.py", *words],
        cwd=folder,
        env={"PATH": f"{CLIENT / 'bin'}:/usr/bin:/bin", "HOME": str(folder), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == code, ended.stdout
    return json.loads(ended.stdout.splitlines()[-1]) if code == 0 else ended.stdout


@pytest.fixture
def sandbox(user: User, bundle: Path) -> User:
    """A user in a folder with all that the example's JDL names, and five tokens in the pool."""
    shutil.copytree(EXAMPLE, user.folder, dirs_exist_ok=True)
    shutil.copy(bundle, user.folder)
    shutil.copy(user.configuration, user.folder)
    user.pool.push((EXAMPLE / "tokens.txt").read_text().splitlines())
    return user


# --- Its parsers -------------------------------------------------------------------------------------


def test_dirac_reads_what_was_asked_for(tmp_path: Path) -> None:
    jobs = ask(tmp_path, "check", str(GOLDEN))
    assert len(jobs) == 12
    for number, job in enumerate(jobs):
        assert (job["executable"], job["arguments"]) == ("/bin/sh", "startpilot.sh")
        assert set(job["inputSandbox"]) == {"startpilot.sh", "config.toml", "process_task.sh", "pilot.pyz"}
        assert set(job["outputSandbox"]) == {"pilot.out", "pilot.err", "unsent*"}
        assert (job["jobName"], job["jobGroup"], job["priority"]) == ("fractals", "paper", 5)
        assert (job["cpuTime"], job["minNumberOfProcessors"], job["maxNumberOfProcessors"]) == (7200, 4, 4)
        assert job["sites"] == ["LCG.Example.org"]
        assert {"EL9", "SSD", "GPU", "MultiProcessor"} <= set(job["tags"])
        assert job["platform"] == "Linux_x86_64_glibc-2.34"
        assert job["extraFields"] == {
            "MinRAM": 4001,
            "Parameter": number,
            "ParameterNumber": number,
            "StopSigFinishWork": 6000,
            "StopSigNumber": 10,
            "StopSigRegex": "pilot.pyz run",
        }


def test_dirac_reads_the_example(tmp_path: Path) -> None:
    jobs = ask(tmp_path, "check", str(EXAMPLE / "grid-example.jdl"))
    assert [job["extraFields"]["Parameter"] for job in jobs] == list(range(10))


def test_dirac_numbers_the_jobs_of_several_jdls_one_after_the_other(tmp_path: Path) -> None:
    request = Request("https://pool.example.org/ana", pilots=45, program=("python3", "/x/pilot.pyz"))
    numbers = []
    for script in Dirac().scripts(request):
        (tmp_path / script.name).write_text(script.text)
        jobs = ask(tmp_path, "check", script.name)
        assert len(jobs) == script.pilots
        numbers += [job["extraFields"]["Parameter"] for job in jobs]
    assert numbers == list(range(45))


def test_every_state_of_a_job_means_something(tmp_path: Path) -> None:
    states = ask(tmp_path, "states")
    assert len(states) > 10
    printed = "".join(f"JobID={number} Status={state}; \n" for number, state in enumerate(states))
    found = Dirac().parse_status(printed, [str(number) for number in range(len(states))])
    phases = {each.detail: each.phase for each in found}
    assert {state for state in states if phases[state] is Phase.RUNNING} == {
        "Running",
        "Stalled",
        "Completing",
    }
    assert {state for state in states if phases[state] is Phase.ENDED} == {"Done", "Completed"}
    assert {state for state in states if phases[state] is Phase.FAILED} == {"Failed", "Killed", "Deleted"}


# --- Its sandbox -------------------------------------------------------------------------------------


def test_what_is_submitted_has_all_files_as_they_are(sandbox: User) -> None:
    words = ("--bundle", "pilot.pyz", "--file", "process_task.sh", "--pilots", "2", "--json")
    said = json.loads(
        sandbox("picas", "submit", "dirac", *words, "--", "--", "./process_task.sh", "{input}", "{id}")
    )
    script = Path(said["jobs"][0]["script"])
    # the login was removed when it had been submitted
    (script.parent / "config.toml").unlink()
    shutil.copy(sandbox.configuration, script.parent)
    jdl = ask(script.parent, "pack", script.name, str(sandbox.folder / "sandbox.tar.bz2"))
    assert "SB:ProductionSandboxSE|/SandBox/" in jdl
    with tarfile.open(sandbox.folder / "sandbox.tar.bz2") as archive:
        found = {member.name: stat.S_IMODE(member.mode) for member in archive}
    assert set(found) == {"startpilot.sh", "config.toml", "process_task.sh", "pilot.pyz"}
    assert (found["config.toml"], found["process_task.sh"] & 0o100) == (0o600, 0o100)


def test_without_a_server_its_words_are_shown(sandbox: User) -> None:
    shutil.rmtree(sandbox.grid.bin)
    sandbox.grid.bin.symlink_to(CLIENT / "bin")
    # its python3 must not stand before ours
    words = (str(shutil.which("picas", path=sandbox.environment["PATH"].split(":", 1)[1])), "submit", "dirac")
    said = sandbox(*words, "--bundle", "pilot.pyz", code=1)
    assert "URL for service WorkloadManagement/SandboxStore not found" in said
    assert "The script is " in said
    assert sandbox.counts() == {"todo": 5}


# --- Its local mode ----------------------------------------------------------------------------------


def _check_done(user: User, job: str) -> None:
    assert user.counts() == {"done": 5}
    assert {token["dirac_job_id"] for token in user.tokens().values()} == {job}
    (place,) = user.folder.glob("Local_*_JobDir")
    assert [path for path in place.glob("unsent/**/*") if path.is_file() and path.stat().st_size] == []


def test_the_example_runs_under_dirac(sandbox: User) -> None:
    answer = ask(sandbox.folder, "local", "grid-example.jdl", JOBID="123", DIRACSITE="LCG.Example.org")
    assert answer == {"OK": True, "Value": "Execution completed successfully"}
    _check_done(sandbox, "123")


def test_startpilot_is_a_program_for_dirac_s_own_jobs(sandbox: User) -> None:
    files = ("startpilot.sh", "config.toml", "process_task.sh", "pilot.pyz")
    answer = ask(sandbox.folder, "job", *files, DIRACJOBID="124")
    assert answer == {"OK": True, "Value": "Execution completed successfully"}
    _check_done(sandbox, "124")


def test_what_picas_submits_runs_under_dirac(sandbox: User) -> None:
    words = ("--bundle", "pilot.pyz", "--file", "process_task.sh", "--cores", "2", "--time", "1h", "--json")
    work = ("--", "--max-scrub", "1", "--", "./process_task.sh", "{input}", "{id}")
    sandbox("picas", "submit", "dirac", *words, *work)
    script = next(sandbox.configuration.parents[2].rglob("picas.jdl"))
    for name in ("picas.jdl", "startpilot.sh"):
        shutil.copy(script.with_name(name), sandbox.folder)
    answer = ask(sandbox.folder, "local", "picas.jdl", JOBID="125", DIRACSITE="LCG.Example.org")
    assert answer == {"OK": True, "Value": "Execution completed successfully"}
    _check_done(sandbox, "125")


def test_a_pilot_that_fails_is_a_job_that_fails(sandbox: User) -> None:
    (sandbox.folder / "config.toml").write_text("pool = 7\n")
    answer = ask(sandbox.folder, "local", "grid-example.jdl", JOBID="126", DIRACSITE="LCG.Example.org")
    assert answer["OK"] is False
    assert "Execution completed with non-zero status" in str(answer["Message"])
    assert sandbox.counts() == {"todo": 5}
