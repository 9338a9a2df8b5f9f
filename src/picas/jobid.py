"""Which batch job this process runs in, by the variables that batch systems set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def batch_job_ids(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The job's id under the token field that names its system; empty outside of a batch job.

    A pilot may run in a job within a job (a Slurm job that the Grid sent); the outermost system wins.

    Args:
        environ: the environment, usually ``os.environ``.
    """
    get = environ.get
    if get("DIRACJOBID"):
        return {"dirac_job_id": get("DIRACJOBID")}
    wms = get("GLITE_WMS_JOBID")
    if wms is not None:
        # The variable may hold "Undefined"; only a URL is an id, and anything else is noted as none.
        return {"wms_job_id": wms if wms.startswith("http") else None}
    if get("CREAM_JOBID"):
        return {"cream_job_id": get("CREAM_JOBID")}
    if get("PBS_JOBID"):
        return {"pbs_job_id": get("PBS_JOBID")}
    if get("SLURM_ARRAY_JOB_ID") and get("SLURM_ARRAY_TASK_ID"):
        return {"slurm_job_id": f"{get('SLURM_ARRAY_JOB_ID')}_{get('SLURM_ARRAY_TASK_ID')}"}
    if get("SLURM_JOB_ID"):
        return {"slurm_job_id": get("SLURM_JOB_ID")}
    return {}
