"""The small modules of 1.x under their old names: generators, jobid, util, picaslogger, and the package itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from picas.generators import TokenGenerator
from picas.jobid import add_job_id, remove_job_id
from picas.util import Timer, merge_dicts, seconds, time_elapsed

JOB_VARIABLES = (
    "SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID DIRACJOBID GLITE_WMS_JOBID CREAM_JOBID PBS_JOBID"
).split()


def _run(code: str) -> subprocess.CompletedProcess[str]:
    """A program that has imported nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )


def test_an_empty_token_is_a_new_one_each_time() -> None:
    token = TokenGenerator.get_empty_token()
    assert token == {"lock": 0, "done": 0, "hostname": "", "scrub_count": 0, "type": "token"}
    token["input"] = "echo hello"
    assert "input" not in TokenGenerator().get_empty_token()


@pytest.mark.parametrize(
    ("environment", "fields"),
    [
        ({}, {}),
        ({"SLURM_JOB_ID": "1"}, {"slurm_job_id": "1"}),
        (
            {"SLURM_JOB_ID": "1", "SLURM_ARRAY_JOB_ID": "2", "SLURM_ARRAY_TASK_ID": "3"},
            {"slurm_job_id": "2_3"},
        ),
        ({"DIRACJOBID": "4", "PBS_JOBID": "5", "SLURM_JOB_ID": "1"}, {"dirac_job_id": "4"}),
        ({"GLITE_WMS_JOBID": "Undefined", "CREAM_JOBID": "6"}, {"wms_job_id": None}),
        ({"GLITE_WMS_JOBID": "https://wms/7"}, {"wms_job_id": "https://wms/7"}),
        ({"CREAM_JOBID": "6", "PBS_JOBID": "5"}, {"cream_job_id": "6"}),
        ({"PBS_JOBID": "5", "SLURM_JOB_ID": "1"}, {"pbs_job_id": "5"}),
    ],
)
def test_a_token_notes_its_batch_job_and_forgets_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], fields: dict[str, Any]
) -> None:
    for name in JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    token = {"_id": "token_1", "mine": 1}
    add_job_id(token)
    assert token == {"_id": "token_1", "mine": 1, **fields}
    remove_job_id(token)
    assert token == {"_id": "token_1", "mine": 1}


def test_joined_dictionaries_leave_both_as_they_were() -> None:
    first, second = {"a": {"b": 1, "c": 2}, "x": 1}, {"a": {"b": 3}, "y": 2}
    joined = merge_dicts(first, second)
    assert joined == {"a": {"b": 3}, "x": 1, "y": 2}
    assert first == {"a": {"b": 1, "c": 2}, "x": 1}


def test_time_is_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.5]
    monkeypatch.setattr("time.time", lambda: clock[0])
    assert seconds() == 1000
    timer = Timer()
    clock[0] += 31
    assert timer.elapsed() == 31
    assert time_elapsed(timer)
    assert not time_elapsed(timer, 31)
    assert timer.reset() == 31
    assert timer.elapsed() == 0
    assert not time_elapsed(timer, max=5)


def test_the_logger_prints_and_leaves_the_root_logger_alone() -> None:
    ended = _run(
        "import logging\n"
        "from picas.picaslogger import picaslogger\n"
        "picaslogger.info('ready'); picaslogger.debug('never')\n"
        "print(logging.getLogger().handlers, logging.getLogger().level == logging.WARNING)"
    )
    assert ended.stdout == "[] True\n"
    assert ended.stderr.endswith(" - PiCaS - INFO - ready\n")
    assert ended.stderr.count("\n") == 1


def test_a_program_that_sets_the_logger_up_itself_is_not_printed_twice() -> None:
    ended = _run(
        "import logging, sys\n"
        "logging.getLogger('PiCaS').addHandler(logging.StreamHandler(sys.stdout))\n"
        "from picas.picaslogger import picaslogger\n"
        "picaslogger.info('ready')"
    )
    assert (ended.stdout, ended.stderr) == ("ready\n", "")
