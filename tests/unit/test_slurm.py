"""What is written for Slurm, and read from it. tests/slurm has the same with a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from picas.errors import InvalidInput, LaunchError
from picas.launchers.base import JobStatus, Phase, Request
from picas.launchers.slurm import Slurm, clock, count

POOL = "https://couch.example.org:6984/pool"
BARE = Request(pool=POOL, directory=Path("/data/run"))

FULL = """\
#!/bin/bash
# Pilots of PiCaS, 200 at the most; submit it with: sbatch THIS-FILE
#SBATCH --job-name=fits
#SBATCH --array=0-199
#SBATCH --chdir="/data/my run"
#SBATCH --output=fits-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=7630M
#SBATCH --gres=gpu:2
#SBATCH --time=1-12:00:00
#SBATCH --partition=normal
#SBATCH --account=astro
#SBATCH --constraint=rome&scratch-node
#SBATCH --signal=B:USR1@120
#SBATCH --qos=short
#SBATCH --exclusive

set -e
module load Python/3.11
. /home/me/venv/bin/activate
export PICAS_POOL=https://couch.example.org:6984/pool
export PICAS_CA='/etc/my ca.pem'
trap '' USR1 # until the pilot is there to heed it

# The pilot takes the shell's place, so that it is what Slurm signals.
exec picas run --workers "${SLURM_CPUS_PER_TASK:-4}" --signal USR1@2m -v -- ./simulate --level 3 '{input}'
"""

SMALL = """\
#!/bin/bash
# Pilots of PiCaS, 1 at the most; submit it with: sbatch THIS-FILE
#SBATCH --job-name=picas
#SBATCH --chdir=/data/run
#SBATCH --output=picas-%j.out
#SBATCH --open-mode=append
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1

set -e
export PICAS_POOL=https://couch.example.org:6984/pool

# The pilot takes the shell's place, so that it is what Slurm signals.
exec picas run --workers "${SLURM_CPUS_PER_TASK:-1}"
"""


def texts(request: Request, limit: int | None = None) -> list[str]:
    return [script.text for script in Slurm().scripts(request, limit=limit)]


def test_all_that_is_asked_for_is_in_the_script() -> None:
    request = Request(
        pool=POOL,
        run=("-v", "--", "./simulate", "--level", "3", "{input}"),
        pilots=200,
        name="fits",
        directory=Path("/data/my run"),
        cores=4,
        memory=8 * 10**9,
        gpus=2,
        walltime=36 * 3600,
        queue="normal",
        account="astro",
        constraint="rome&scratch-node",
        signal="USR1@2m",
        setup=("module load Python/3.11", ". /home/me/venv/bin/activate"),
        options=("--qos=short", "--exclusive"),
        environment={"PICAS_CA": "/etc/my ca.pem"},
    )
    (script,) = Slurm().scripts(request)
    assert (script.name, script.pilots) == ("fits.sh", 200)
    assert script.text == FULL


def test_what_is_not_asked_for_is_left_to_the_site() -> None:
    assert texts(BARE) == [SMALL]


def test_a_pilot_whose_slots_are_chosen_gets_no_others() -> None:
    request = Request(pool=POOL, run=("-w", "2"), cores=8, slots=False)
    assert texts(request)[0].endswith("\nexec picas run -w 2\n")


def test_more_pilots_than_an_array_may_have_become_the_fewest_arrays() -> None:
    scripts = Slurm().scripts(Request(pool=POOL, pilots=2003), limit=1001)
    assert [(script.name, script.pilots) for script in scripts] == [
        ("picas-1.sh", 1001),
        ("picas-2.sh", 1001),
        ("picas-3.sh", 1),
    ]
    assert ["--array" in script.text for script in scripts] == [True, True, False]
    assert "#SBATCH --array=0-1000\n" in scripts[0].text


def test_more_arrays_than_anybody_wants_are_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        Slurm().scripts(Request(pool=POOL, pilots=1001), limit=20)
    assert refused.value.message.startswith("--pilots 1001: that would be 51 arrays")
    assert refused.value.advice.startswith("Ask for 1000 or fewer")
    assert len(Slurm().scripts(Request(pool=POOL, pilots=1000), limit=20)) == 50


def test_where_nobody_tells_the_largest_array_it_is_slurms_own() -> None:
    assert [script.pilots for script in Slurm().scripts(Request(pool=POOL, pilots=1002))] == [1001, 1]


def test_an_array_that_is_asked_for_is_taken_as_it_is() -> None:
    (script,) = Slurm().scripts(Request(pool=POOL, pilots=100, array="0-99%20"), limit=100)
    assert "#SBATCH --array=0-99%20\n" in script.text


def test_an_array_beyond_the_sites_limit_is_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidInput) as refused:
        Slurm().scripts(Request(pool=POOL, pilots=101, array="0-100"), limit=100)
    assert refused.value.message == (
        "--array 0-100: indices of arrays end at 99 here (MaxArraySize of this Slurm)"
    )
    assert refused.value.advice == "--pilots 101 makes as many arrays as it takes."


@pytest.mark.parametrize(
    ("array", "elements"), [("0-5", 6), ("7", 1), ("1,3,7", 3), ("0-15:4", 4), ("0-9,5-14%3", 15)]
)
def test_the_elements_of_an_array_are_counted(array: str, elements: int) -> None:
    assert count(array) == elements


@pytest.mark.parametrize(
    "array", ["", "5-1", "a", "1-", "1,,2", "0-5%", "0-5%0", "0-5:0", "-1", "1;2", "0-5\n"]
)
def test_what_is_no_array_is_refused(array: str) -> None:
    with pytest.raises(InvalidInput, match="is no array"):
        count(array)


@pytest.mark.parametrize(
    ("directory", "written"),
    [
        ("/data/a b", '"/data/a b"'),
        ("/data/#1", '"/data/#1"'),
        ('/data/"x"', r'"/data/\"x\""'),
        ("/data/a\\b", r'"/data/a\\b"'),
        ("/data/ü", '"/data/ü"'),
    ],
)
def test_odd_names_are_quoted_as_sbatch_reads_them(directory: str, written: str) -> None:
    assert f"#SBATCH --chdir={written}\n" in texts(Request(pool=POOL, directory=Path(directory)))[0]


@pytest.mark.parametrize("field", ["queue", "account", "constraint"])
def test_a_value_cannot_bring_a_line_of_its_own(field: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be written into a job script"):
        Slurm().scripts(Request(pool=POOL, **{field: "x\n#SBATCH --exclusive"}))  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["qos=short", "--qos=x\nrm -rf /", ""])
def test_what_is_no_option_of_sbatch_is_refused(option: str) -> None:
    with pytest.raises(InvalidInput, match="is no option of sbatch"):
        Slurm().scripts(Request(pool=POOL, options=(option,)))


@pytest.mark.parametrize("option", ["--clusters=other", "-Mother", "-M other"])
def test_jobs_that_could_not_be_followed_are_refused(option: str) -> None:
    with pytest.raises(InvalidInput, match="could not be followed"):
        Slurm().scripts(Request(pool=POOL, options=(option,)))


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(1, "00:01:00"), (60, "00:01:00"), (61, "00:02:00"), (5400, "01:30:00"), (86_400, "1-00:00:00")],
)
def test_times_are_rounded_up_to_minutes_as_slurm_does(seconds: float, written: str) -> None:
    assert clock(seconds) == written


@pytest.mark.parametrize("printed", ["1234\n", "1234;cluster\n", "Your budget is fine.\n1234\n", "1234"])
def test_the_id_is_the_last_line_that_sbatch_prints(printed: str) -> None:
    assert Slurm().parse_submitted(printed) == ["1234"]


@pytest.mark.parametrize("printed", ["", "Submitted batch job\n", "12 34\n", "1234\nbut held\n"])
def test_an_answer_without_an_id_is_shown_whole(printed: str) -> None:
    with pytest.raises(LaunchError) as refused:
        Slurm().parse_submitted(printed)
    assert (printed.strip() or "nothing") in refused.value.message


def test_the_largest_array_is_read_from_the_sites_configuration() -> None:
    printed = "ClusterName             = x\nMaxArraySize            = 30001\nMaxJobCount = 10000\n"
    assert Slurm().parse_limit(printed) == 30001
    assert Slurm().parse_limit("") is None


def test_the_states_of_elements_are_read_and_those_of_others_left_out() -> None:
    printed = (
        "CLUSTER: x\n"
        "1234_0|RUNNING|None\n"
        "1234_1|PENDING|Resources\n"
        "1234_2|COMPLETED|None\n"
        "1234_3|TIMEOUT|TimeLimit\n"
        "1235|REQUEUE_HOLD|launch failed requeued held\n"
        "99|RUNNING|None\n"
    )
    assert Slurm().parse_status(printed, ["1234", "1235", "1236"]) == [
        JobStatus("1234_0", Phase.RUNNING, "RUNNING", "1234"),
        JobStatus("1234_1", Phase.QUEUED, "PENDING (Resources)", "1234"),
        JobStatus("1234_2", Phase.ENDED, "COMPLETED", "1234"),
        JobStatus("1234_3", Phase.FAILED, "TIMEOUT (TimeLimit)", "1234"),
        JobStatus("1235", Phase.QUEUED, "REQUEUE_HOLD (launch failed requeued held)", "1235"),
        JobStatus("1236", Phase.UNKNOWN),
    ]
