"""PBS, Torque and HTCondor from submission to the end, with programs on the PATH that do what their manual pages say."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.launchers import fakes

from picas.errors import InvalidInput
from picas.launchers.base import Phase, Request
from picas.launchers.htcondor import HTCondor
from picas.launchers.pbs import PBS, Torque

if TYPE_CHECKING:
    from typing import Callable

    from tests.cli.conftest import Shell

    Site = Callable[..., Shell]

IDS = {"pbs": "1234[].pbs01", "torque": "1234[].pbs01", "htcondor": "12"}

SAID = {"pbs": "2 X, 1 X (exit status 3)", "torque": "2 C, 1 C (exit status 3)"}
SAID["htcondor"] = "2 COMPLETED, 1 COMPLETED (exit code 3)"

FAIL_ONE = "if mkdir only-one 2>/dev/null; then exit 3; fi"


@pytest.fixture
def shell(site: Site) -> Shell:
    """A machine with all three, and a pool of four tokens."""
    shell = site(**fakes.BATCH)
    assert shell.here("push", shell.write("tokens.txt", "true\n" * 4)).code == 0
    return shell


def _args(system: str) -> list[str]:
    return ["pbs", "--torque"] if system == "torque" else [system]


def _over(shell: Shell) -> Any:
    """The jobs that are over, after the batch system was asked; none must be left."""
    assert shell.here("submit", "status", "--json").code == 0
    answer = shell.here("submit", "status", "--all", "--json").json
    assert answer["jobs"] == []
    return answer["over"]


# --- From the start to the end ---


@pytest.mark.parametrize("system", ["pbs", pytest.param("torque", marks=pytest.mark.slow), "htcondor"])
def test_pilots_are_submitted_work_and_are_known_to_have_ended(shell: Shell, system: str) -> None:
    answer = shell.here("submit", *_args(system), "--pilots", "3", "--setup", FAIL_ONE, "--", "-v")
    assert answer.code == 0, answer.err
    assert f"submitted 3 pilots to {system}: {IDS[system]}\n" in answer.out
    assert shell.here("status", "--json").json["done"] == 4
    (job,) = _over(shell)
    assert (job["ids"], job["pilots"], job["launcher"]) == ([IDS[system]], 3, system)
    assert sorted(job["outcome"].split(", ")) == sorted(SAID[system].split(", "))
    assert len(list(shell.directory.glob("*.out" if system == "htcondor" else "1234*.OU"))) == 3
    tokens = [shell.here("show", f"token_{number}", "--json").json for number in range(4)]
    if system != "htcondor":  # which has no field of its own in the tokens of 1.x
        assert {each["pbs_job_id"] for each in tokens} <= {f"1234[{index}].pbs01" for index in range(3)}


def test_one_pilot_is_no_array(shell: Shell) -> None:
    assert "1234.pbs01" in shell.here("submit", "pbs", "--setup=exit").out
    assert [each["outcome"] for each in _over(shell)] == ["1 F"]


def test_a_server_that_keeps_no_history_still_tells_of_what_it_has(shell: Shell) -> None:
    shell.own["FAKE_NO_HISTORY"] = "1"
    assert shell.here("submit", "pbs", "--pilots", "2", "--setup=exit").code == 0
    assert [each["outcome"] for each in _over(shell)] == ["2 X"]


def test_as_many_arrays_as_the_site_needs(shell: Shell) -> None:
    answer = shell.here("submit", "pbs", "--pilots", "10", "--dry-run", "--json").json
    scripts = answer["scripts"]
    assert [each["pilots"] for each in scripts] == [4, 4, 2]
    assert [re.findall(r"^#PBS -J (.*)$", each["text"], re.MULTILINE) for each in scripts] == [
        ["0-3"],
        ["0-3"],
        ["0-1"],
    ]
    assert len({each["name"] for each in scripts}) == 3


@pytest.mark.parametrize(
    ("system", "element", "told"),
    [
        ("pbs", "1234[1].pbs01", {"deleted": ["1234[1].pbs01"]}),
        ("torque", "1234[].pbs01", {"deleted": ["1234[].pbs01"]}),
        ("htcondor", "12.1", {"removed": ["12.1"]}),
    ],
)
def test_jobs_and_their_elements_are_cancelled(
    shell: Shell, system: str, element: str, told: dict[str, list[str]]
) -> None:
    # qdel of the fake says with exit code 35 that some have finished, which is no failure
    assert shell.here("submit", *_args(system), "--pilots", "2", "--setup=exit").code == 0
    answer = shell.here("submit", "cancel", element)
    assert answer.code == 0, answer.err
    facts = json.loads(shell.path("fake.json").read_text())
    assert {name: facts.get(name) for name in told} == told


def test_an_id_of_another_job_is_not_cancelled(shell: Shell) -> None:
    assert shell.here("submit", "pbs", "--pilots", "2", "--setup=exit").code == 0
    answer = shell.here("submit", "cancel", "123[1].pbs01")
    assert answer.code == 2
    assert "no job 123[1].pbs01 of this pool is known here" in answer.err


def test_what_travels_with_jobs_of_htcondor_must_be_there(shell: Shell) -> None:
    answer = shell.here("submit", "htcondor", "--file", "nothing")
    assert answer.code == 2
    assert "there is no file" in answer.err
    shell.write("nothing", "")
    (shell.directory / "other").mkdir()
    shell.write("other/nothing", "")
    twice = shell.here("submit", "htcondor", "--file", "nothing", "--file", "other/nothing")
    assert twice.code == 2
    assert "two files would both be nothing there" in twice.err


# --- What they say, in the words of their manuals ---

RUNNING = """\
Job Id: 1234[].pbs01
    Job_Name = fit
    job_state = B
    array_state_count = Queued:2 Running:1 Exiting:0 Expired:1\x20

Job Id: 1234[0].pbs01.example.org
    Job_Name = fit
    job_state = X
    Exit_status = 0

Job Id: 1234[1].pbs01.example.org
    job_state = R
    comment = Job run at Mon Nov 23 at 10:00 on (node7:ncpus=4)

Job Id: 1234[2].pbs01.example.org
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ncpus

Job Id: 77.pbs01
    job_state = F
    Exit_status = 271

Job Id: 78.pbs01
    job_state = F
    comment = Job deleted

Job Id: 999.pbs01
    job_state = R
"""


@pytest.mark.parametrize("launcher", [PBS(), Torque()])
def test_what_qstat_tells_of_elements_counts_before_what_it_tells_of_the_array(launcher: PBS) -> None:
    ids = ["1234[].pbs01", "77.pbs01", "78.pbs01", "5.pbs01"]
    told = {each.id: each for each in launcher.parse_status(RUNNING, ids)}
    assert {name: (each.phase, each.job) for name, each in told.items()} == {
        "1234[0].pbs01.example.org": (Phase.ENDED, "1234[].pbs01"),
        "1234[1].pbs01.example.org": (Phase.RUNNING, "1234[].pbs01"),
        "1234[2].pbs01.example.org": (Phase.QUEUED, "1234[].pbs01"),
        "77.pbs01": (Phase.FAILED, "77.pbs01"),
        "78.pbs01": (Phase.FAILED, "78.pbs01"),
        "5.pbs01": (Phase.UNKNOWN, ""),
    }
    assert (
        told["1234[2].pbs01.example.org"].detail == "Q (Not Running: Insufficient amount of resource: ncpus)"
    )
    assert told["77.pbs01"].detail == "F (exit status 271)"
    assert told["78.pbs01"].detail == "F (Job deleted)"


def test_of_an_array_whose_elements_are_not_told_the_counts_are_taken() -> None:
    whole = RUNNING.split("Job Id: 1234[0]", 1)[0]
    phases = [each.phase for each in PBS().parse_status(whole, ["1234[].pbs01"])]
    assert phases == [Phase.QUEUED, Phase.QUEUED, Phase.RUNNING, Phase.ENDED]


def test_what_condor_tells_of_jobs_in_the_queue_and_in_its_history() -> None:
    printed = """\
12.0 1 undefined
12.1 2 undefined
12.2 5 Error from slot1@node7: Failed to execute '/home/me/picas-pilot.sh': No such file
12.3 6 undefined
12.3 4 0 undefined
12.4 4 0 undefined
12.5 4 143 undefined
12.6 3 undefined via condor_rm (by user me)
13.0 2 undefined
-- Schedd: submit.example.org
"""
    told = HTCondor().parse_status(printed, ["12", "14"])
    assert [(each.id, each.phase, each.detail) for each in told] == [
        ("12.0", Phase.QUEUED, "IDLE"),
        ("12.1", Phase.RUNNING, "RUNNING"),
        (
            "12.2",
            Phase.FAILED,
            "HELD (Error from slot1@node7: Failed to execute '/home/me/picas-pilot.sh': No such file)",
        ),
        ("12.3", Phase.RUNNING, "TRANSFERRING_OUTPUT"),
        ("12.4", Phase.ENDED, "COMPLETED"),
        ("12.5", Phase.FAILED, "COMPLETED (exit code 143)"),
        ("12.6", Phase.FAILED, "REMOVED (via condor_rm (by user me))"),
        ("14", Phase.UNKNOWN, ""),
    ]
    assert {each.job for each in told} == {"12", ""}


@pytest.mark.parametrize(
    ("printed", "limit"),
    [
        ("Server: pbs01\n    max_array_size = 10000\n", 10_000),
        ("    max_job_array_size = 500\n", 500),
        ("Server: pbs01\n", None),
    ],
)
def test_the_largest_array_is_what_the_server_says(printed: str, limit: int | None) -> None:
    assert PBS().parse_limit(printed) == limit


# --- What cannot be written into a script ---


@pytest.mark.parametrize(
    ("launcher", "fields"),
    [
        (PBS(), {"queue": "long\n#PBS -l walltime=1"}),
        (PBS(), {"account": "two words"}),
        (PBS(), {"constraint": "a=b -W x"}),
        (PBS(), {"options": ("rm",)}),
        (PBS(), {"array": "0-5"}),
        (Torque(), {"options": ("-l a\nreboot",)}),
        (HTCondor(), {"account": "a\nqueue 100"}),
        (HTCondor(), {"constraint": "true\nqueue 100"}),
        (HTCondor(), {"options": ("queue 100",)}),
        (HTCondor(), {"queue": "long"}),
    ],
)
def test_what_would_change_the_script_is_refused(launcher: PBS | HTCondor, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        launcher.scripts(Request(pool="sqlite:////p.db", **fields))
