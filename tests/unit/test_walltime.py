"""When a batch job ends, by what each batch system says; what people and tokens say of time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from picas.errors import InvalidInput
from picas.walltime import End, Notice, declared, job_end, parse_moment, parse_notice, until_when

NOW = 1_800_000_000.0

SCONTROL = """\
JobId=77 JobName=pilot
   UserId=ana(1000) GroupId=ana(1000)
   RunTime=00:10:00 TimeLimit=01:00:00 TimeMin=N/A
   StartTime={start} EndTime={end} Deadline=N/A
"""

QSTAT = """\
Job Id: 77.server
    Job_Name = pilot
    Resource_List.ncpus = 1
    Resource_List.walltime = 01:00:00
    stime = {start}
    Variable_List = PBS_O_HOME=/home/ana,
\tPBS_O_LANG=C
"""

TORQUE = """\
Job Id: 77.server
    Resource_List.walltime = 01:00:00
    start_time = {start}
    Walltime.Remaining = 1234
"""

JOB_AD = """\
AllowedJobDuration = 7200
ClusterId = 77
JobCurrentStartDate = 1799999000
MaxWallTimeMins = 60
Requirements = (TARGET.Arch == "X86_64")
"""


def asked(answers):
    """A batch system that gives these answers, by the command's name; and what it was asked."""
    questions = []

    def ask(command):
        questions.append(list(command))
        return answers.get(command[0], "")

    return ask, questions


def local(form, at):
    return time.strftime(form, time.localtime(at))


def test_outside_of_a_batch_job_there_is_no_end_and_nobody_is_asked():
    ask, questions = asked({})
    assert job_end({"PATH": "/bin"}, NOW, ask) is None
    assert questions == []


def test_slurm_says_it_in_the_environment():
    ask, questions = asked({})
    environ = {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": "1800003600"}
    assert job_end(environ, NOW, ask) == End(NOW + 3600, "SLURM_JOB_END_TIME")
    assert questions == []


def test_an_older_slurm_is_asked():
    shown = SCONTROL.format(start="2027-01-15T08:00:00", end=local("%Y-%m-%dT%H:%M:%S", NOW + 1800))
    ask, questions = asked({"scontrol": shown})
    assert job_end({"SLURM_JOB_ID": "77"}, NOW, ask) == End(NOW + 1800, "scontrol")
    assert questions == [["scontrol", "show", "job", "77"]]


def test_a_slurm_job_that_was_prolonged_is_asked_for_anew():
    shown = SCONTROL.format(start="x", end=local("%Y-%m-%dT%H:%M:%S", NOW + 60))
    environ = {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": str(NOW - 5)}
    assert job_end(environ, NOW, asked({"scontrol": shown})[0]) == End(NOW + 60, "scontrol")


@pytest.mark.parametrize(
    ("left", "seconds"), [("1-02:03:04", 93784), ("02:03:04", 7384), ("03:04", 184), ("0:07", 7)]
)
def test_where_scontrol_is_not_there_squeue_tells_the_time_left(left, seconds):
    assert job_end({"SLURM_JOB_ID": "77"}, NOW, asked({"squeue": left + "\n"})[0]) == End(
        NOW + seconds, "squeue"
    )


@pytest.mark.parametrize("left", ["UNLIMITED", "NOT_SET", "INVALID", ""])
def test_a_slurm_job_without_a_limit_has_no_end(left):
    unknown = SCONTROL.format(start="x", end="Unknown")
    assert job_end({"SLURM_JOB_ID": "77"}, NOW, asked({"scontrol": unknown, "squeue": "1:00"})[0]) is None
    assert job_end({"SLURM_JOB_ID": "77"}, NOW, asked({"squeue": left})[0]) is None


def test_pbs_that_tells_when_the_job_began_and_how_long_it_may_run():
    told = QSTAT.format(start=local("%a %b %d %H:%M:%S %Y", NOW - 600))
    ask, questions = asked({"qstat": told})
    assert job_end({"PBS_JOBID": "77.server"}, NOW, ask) == End(NOW + 3000, "qstat")
    assert questions == [["qstat", "-f", "77.server"]]


def test_torque_tells_what_remains():
    assert job_end({"PBS_JOBID": "77"}, NOW, asked({"qstat": TORQUE})[0]) == End(NOW + 1234, "qstat")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_pbs_job_began_when_its_script_did():
    """The limit counts from the oldest process that has the job's id: here a shell, of which a child is asked."""
    program = (
        "import os, time; from picas.walltime import job_end; print(job_end(os.environ, time.time()).at)"
    )
    before = time.time()
    answer = subprocess.run(
        ["bash", "-c", f"date +%s; sleep 2.5; {sys.executable} -c '{program}'; true"],
        env={**os.environ, "PBS_JOBID": "77", "PBS_WALLTIME": "3600"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shell_ran_at, end = map(float, answer.stdout.split())
    # The system tells when it was booted in whole seconds; the child began 2.5 s later than the shell.
    assert before - 1.5 <= end - 3600 <= shell_ran_at + 2


def test_htcondor_says_it_in_the_ads_of_job_and_machine(tmp_path):
    (tmp_path / "job").write_text(JOB_AD)
    (tmp_path / "machine").write_text("GLIDEIN_ToDie = 1800001000\nCpus = 8\n")
    job, machine = (
        {"_CONDOR_JOB_AD": str(tmp_path / "job")},
        {"_CONDOR_MACHINE_AD": str(tmp_path / "machine")},
    )
    assert job_end(job, NOW, asked({})[0]) == End(1799999000 + 3600, "MaxWallTimeMins of the job's ad")
    assert job_end({**job, **machine}, NOW, asked({})[0]).source == "GLIDEIN_ToDie of the machine's ad"


def test_a_job_ad_without_its_beginning_is_as_old_as_its_file(tmp_path):
    ad = tmp_path / "job"
    ad.write_text("AllowedJobDuration = 7200\n")
    os.utime(ad, (NOW - 200, NOW - 200))
    assert job_end({"_CONDOR_JOB_AD": str(ad)}, NOW, asked({})[0]).at == NOW + 7000


def test_machine_and_job_features_as_on_the_grid(tmp_path):
    (tmp_path / "jobstart_secs").write_text("1799990000\n")
    (tmp_path / "wall_limit_secs").write_text("20000")
    (tmp_path / "shutdowntime").write_text("1800009000")
    features = {"JOBFEATURES": str(tmp_path), "DIRACJOBID": "5"}
    assert job_end(features, NOW, asked({})[0]) == End(1800010000, "JOBFEATURES/wall_limit_secs")
    both = {**features, "MACHINEFEATURES": str(tmp_path)}
    assert job_end(both, NOW, asked({})[0]) == End(1800009000, "MACHINEFEATURES/shutdowntime")
    (tmp_path / "shutdowntime_job").write_text("1800000500")
    assert job_end(both, NOW, asked({})[0]).at == NOW + 500


def test_of_a_job_within_a_job_the_earlier_end_counts(tmp_path):
    (tmp_path / "shutdowntime_job").write_text(str(NOW + 50))
    environ = {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": str(NOW + 900), "JOBFEATURES": str(tmp_path)}
    assert job_end(environ, NOW, asked({})[0]).at == NOW + 50


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-5", str(NOW - 1)])
def test_what_makes_no_sense_or_is_over_is_no_end(text):
    environ = {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": text, "JOBFEATURES": "/nowhere", "PBS_JOBID": "1"}
    assert job_end(environ, NOW, asked({"qstat": "qstat: unknown job"})[0]) is None


def test_a_batch_system_is_asked_by_its_real_command(tmp_path, monkeypatch):
    command = tmp_path / "scontrol"
    command.write_text(
        f'#!/bin/sh\n[ "$*" = "show job 77" ] && echo "EndTime={local("%Y-%m-%dT%H:%M:%S", NOW)}"'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert job_end({"SLURM_JOB_ID": "77"}, NOW - 9) == End(NOW, "scontrol")
    command.write_text("#!/bin/sh\nexit 1")
    assert job_end({"SLURM_JOB_ID": "77"}, NOW - 9) is None


# --- What people write -------------------------------------------------------------------------------


def test_moments():
    now = time.mktime((*time.localtime(NOW)[:3], 12, 0, 0, 0, 0, -1))
    assert parse_moment("12:30", now) == now + 1800
    assert parse_moment("12:00:05", now) == now + 5
    assert 22 * 3600 < parse_moment("11:30", now) - now < 25 * 3600  # the next one, also where clocks change
    assert parse_moment("+1h30m", now) == now + 5400
    assert parse_moment("1900000000", now) == 1_900_000_000
    assert parse_moment("2027-06-01T00:00Z", now) == 1_811_808_000
    assert parse_moment("2027-06-01 02:00:00+02:00", now) == 1_811_808_000
    assert local("%Y-%m-%d %H:%M:%S", parse_moment("2027-06-01", now)) == "2027-06-01 00:00:00"


@pytest.mark.parametrize("text", ["soon", "25:00", "90", "", "2020-01-01T00:00", "+", "+soon", "12"])
def test_what_is_no_moment_or_is_over_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_moment(text, NOW)


def test_never_and_times_in_python():
    assert until_when("never") == float("inf")
    assert until_when(None) is None
    later = time.time() + 60
    assert until_when(later) == later
    with pytest.raises(InvalidInput, match="over"):
        until_when(later - 61)


@pytest.mark.parametrize(
    ("text", "number", "seconds"),
    [
        ("USR1@120", signal.SIGUSR1, 120),
        ("sigusr2@2m", signal.SIGUSR2, 120),
        ("INT@00:05:00", signal.SIGINT, 300),
        ("12@30", 12, 30),
        ("USR1", signal.SIGUSR1, 60),
    ],
)
def test_signals_and_when_they_are_sent(text, number, seconds):
    assert parse_notice(text) == Notice(int(number), seconds)


@pytest.mark.parametrize("text", ["KILL@60", "STOP", "NONE@60", "USR1@soon", "USR1@0", "", "999@5"])
def test_signals_that_cannot_be_meant_are_refused(text):
    with pytest.raises(InvalidInput):
        parse_notice(text)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("1h30m", 5400), ("01:30:00", 5400), ("1-00:00:00", 86400)]
    + [(value, None) for value in (0, -5, True, None, "", "soon", [60], {"s": 1}, float("inf"))],
)
def test_what_a_token_says_that_it_takes(written, seconds):
    assert declared({"walltime": written}) == seconds
    assert declared({}) is None
