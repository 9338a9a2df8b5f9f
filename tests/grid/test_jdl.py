"""Job descriptions for DIRAC, and what its commands say, without any DIRAC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from picas.errors import InvalidInput, LaunchError
from picas.launchers.base import JobStatus, Phase, Request
from picas.launchers.dirac import Dirac

GOLDEN = Path(__file__).parent / "golden"

BUNDLE = Path("/home/ana/pilot.pyz")


def _request(**more: Any) -> Request:
    return Request(**{"pool": "https://pool.example.org/ana", "program": ("python3", str(BUNDLE)), **more})


def _attributes(request: Request) -> dict[str, str]:
    (script,) = Dirac().scripts(request)
    lines = [line.strip().rstrip(";").partition(" = ") for line in script.text.splitlines()[1:-1]]
    return {name: value for name, _, value in lines}


def test_everything_that_can_be_asked_for_has_its_attribute() -> None:
    request = _request(
        run=("--max-scrub", "2", "--", "./process_task.sh", "{input}", "it's {id}"),
        pilots=12,
        name="fractals",
        cores=4,
        memory=4_000_000_001,
        gpus=1,
        walltime=7200.0,
        queue="LCG.Example.org",
        constraint="EL9,SSD",
        signal="USR1@5m",
        setup=("export OMP_NUM_THREADS=1",),
        options=('JobGroup = "paper"', "priority=5;", 'Platform = "Linux_x86_64_glibc-2.34" '),
        files=(Path("config.toml"), Path("data/process_task.sh")),
        environment={"LEVEL": "a b"},
    )
    (script,) = Dirac().scripts(request)
    assert (script.name, script.pilots, script.inside) == ("fractals.jdl", 12, True)
    assert script.files == (*request.files, BUNDLE)
    assert script.text == (GOLDEN / "fractals.jdl").read_text()
    assert script.companions == {"startpilot.sh": (GOLDEN / "startpilot.sh").read_text()}


def test_of_what_is_not_asked_for_nothing_is_said() -> None:
    names = set(_attributes(_request()))
    assert not names & {"CPUTime", "NumberOfProcessors", "MinRAM", "Site", "Tags", "JobGroup"}


def test_a_jdl_makes_no_more_jobs_than_dirac_takes_and_their_numbers_go_on() -> None:
    scripts = Dirac().scripts(_request(pilots=45))
    assert [(each.name, each.pilots) for each in scripts] == [
        ("picas-1.jdl", 20),
        ("picas-2.jdl", 20),
        ("picas-3.jdl", 5),
    ]
    assert ["ParameterStart = 40;" in each.text for each in scripts] == [False, False, True]
    assert [each.pilots for each in Dirac().scripts(_request(pilots=45), limit=1000)] == [45]


def test_an_option_takes_the_place_of_what_is_said_otherwise() -> None:
    attributes = _attributes(_request(options=('outputsandbox = {"pilot.out", "a.root"}', "CPUTime=100")))
    assert attributes["OutputSandbox"] == '{"pilot.out", "a.root"}'
    assert attributes["CPUTime"] == "100"
    assert "outputsandbox" not in attributes


@pytest.mark.parametrize(
    "option", ["Site", "Site=", 'Site = "a"; Owner = "b"', "--site=a", "A = [ B = 1 ]", "A=\n1"]
)
def test_what_is_no_attribute_is_refused(option: str) -> None:
    with pytest.raises(InvalidInput, match="is no attribute of a JDL"):
        Dirac().scripts(_request(options=(option,)))


@pytest.mark.parametrize("name", ['a"b', "a;b", "50%n", "a[0]", "a\nb", "{a}"])
def test_what_dirac_would_misread_is_refused(name: str) -> None:
    for field in ("name", "queue", "constraint"):
        with pytest.raises(InvalidInput, match="because of"):
            Dirac().scripts(_request(**{field: name.replace("\n", "\x01")}))


@pytest.mark.parametrize("name", ["two words.sh", "a,b", "ü.sh", "-rf", "a;b", ".hidden"])
def test_a_file_that_would_not_arrive_under_its_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is no name for a file that travels"):
        Dirac().scripts(_request(files=(Path(name),)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"account": "atlas"}, "dirac-proxy-init -g GROUP"),
        ({"gpus": 2}, "Ask for --gpus 1"),
        ({"walltime": 20.0}, "DIRAC takes 100 to 500000 seconds"),
        ({"walltime": 1e6}, "DIRAC takes 100 to 500000 seconds"),
    ],
)
def test_what_dirac_has_no_word_for_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Dirac().scripts(_request(**asked))
    assert said in str(caught.value)


def test_a_program_that_is_there_needs_no_bundle_and_no_python_of_ours() -> None:
    (script,) = Dirac().scripts(
        _request(program=("picas",), setup=(". /cvmfs/example.org/env/bin/activate",))
    )
    start = script.companions["startpilot.sh"]
    assert start.splitlines()[-1] == 'exec picas run --workers "${DIRAC_JOB_PROCESSORS:-1}"'
    assert ". /cvmfs/example.org/env/bin/activate\n" in start
    assert "\nfind_python #" not in start
    assert 'StopSigRegex = "picas run";' in script.text


def test_a_template_of_ones_own() -> None:
    (script,) = Dirac().scripts(_request(), "chmod 600 {{config}}\nexec {{command}} # mine\n")
    start = script.companions["startpilot.sh"].splitlines()
    assert start[0] == "chmod 600 config.toml"
    assert start[1].endswith("# mine")
    with pytest.raises(InvalidInput, match=r"config is asked for"):
        Dirac().scripts(_request(), "exec {{command}}")


# --- What the commands say ---------------------------------------------------------------------------

NOISE = "2026-11-23 03:00:00 UTC dirac-wms-job-submit NOTICE: Executing\n"


@pytest.mark.parametrize(
    ("printed", "ids"),
    [
        ("JobID = 11\n", ["11"]),
        (NOISE + "JobID = [11, 12, 130]\n" + NOISE, ["11", "12", "130"]),
        ("JobID = [7]\n", ["7"]),
    ],
)
def test_the_ids_are_found_among_what_is_logged(printed: str, ids: list[str]) -> None:
    assert Dirac().parse_submitted(printed) == ids


@pytest.mark.parametrize("printed", ["", NOISE, "JobID = None\n", "JobID = []\n"])
def test_no_id_is_an_error_that_shows_what_was_said(printed: str) -> None:
    with pytest.raises(LaunchError) as caught:
        Dirac().parse_submitted(printed)
    assert (printed.strip() or "nothing") in caught.value.message


def test_the_state_of_each_job() -> None:
    printed = NOISE + (
        "JobID=11 Status=Waiting; MinorStatus=Pilot Agent Submission; Site=ANY; \n"
        "JobID=12 ApplicationStatus=Unknown; MinorStatus=Application; Status=Running; Site=LCG.Example.org; \n"
        "JobID=13 Status=Done; MinorStatus=Execution Complete; Site=LCG.Example.org; \n"
        "JobID=14 Status=Failed; MinorStatus=Watchdog identified this job as stalled; Site=LCG.Example.org; \n"
        "JobID=15 Status=Killed; \n"
    )
    assert Dirac().parse_status(printed, ["11", "12", "13", "14", "15", "16"]) == [
        JobStatus("11", Phase.QUEUED, "Waiting (Pilot Agent Submission, ANY)"),
        JobStatus("12", Phase.RUNNING, "Running (Application, LCG.Example.org)"),
        JobStatus("13", Phase.ENDED, "Done (Execution Complete, LCG.Example.org)"),
        JobStatus("14", Phase.FAILED, "Failed (Watchdog identified this job as stalled, LCG.Example.org)"),
        JobStatus("15", Phase.FAILED, "Killed"),
        JobStatus("16", Phase.UNKNOWN),
    ]
