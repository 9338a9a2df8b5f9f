"""The batch job that holds a token is noted in it."""

from __future__ import annotations

import pytest

from picas.jobid import batch_job_ids

SLURM = {"SLURM_JOB_ID": "12"}
ARRAY = {**SLURM, "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3"}
PBS = {**ARRAY, "PBS_JOBID": "7.server"}
CREAM = {**PBS, "CREAM_JOBID": "https://cream/1"}
WMS = {**CREAM, "GLITE_WMS_JOBID": "https://wms/1"}
DIRAC = {**WMS, "DIRACJOBID": "99"}


@pytest.mark.parametrize(
    ("environ", "ids"),
    [
        ({}, {}),
        (SLURM, {"slurm_job_id": "12"}),
        (ARRAY, {"slurm_job_id": "11_3"}),
        (PBS, {"pbs_job_id": "7.server"}),
        (CREAM, {"cream_job_id": "https://cream/1"}),
        (WMS, {"wms_job_id": "https://wms/1"}),
        (DIRAC, {"dirac_job_id": "99"}),
        ({**SLURM, "JOBID": "98", "DIRACSITE": "LCG.Example.org"}, {"dirac_job_id": "98"}),
        ({**SLURM, "JOBID": "98"}, {"slurm_job_id": "12"}),
        ({"GLITE_WMS_JOBID": "Undefined"}, {"wms_job_id": None}),
        ({"SLURM_JOB_ID": "", "DIRACJOBID": ""}, {}),
    ],
)
def test_the_outermost_system_wins(environ, ids):
    assert batch_job_ids(environ) == ids


def test_a_token_names_its_job_until_it_is_free_again(bench, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    bench.push("false")
    bench.run()
    assert bench.token()["slurm_job_id"] == "12"
    bench.pool.reset(bench.pool.tokens())
    assert "slurm_job_id" not in bench.token().body
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("PBS_JOBID", "7")
    bench.run()
    assert bench.token()["pbs_job_id"] == "7"
    assert "slurm_job_id" not in bench.token().body
