"""Which batch job this process runs in, by the variables that batch systems set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

JOB_ID_FIELDS = ("dirac_job_id", "wms_job_id", "cream_job_id", "pbs_job_id", "slurm_job_id")
"""The fields that name the batch job that holds a token; removed when the token is free again."""


def batch_job_ids(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The job's id under the token field that names its system; empty outside of a batch job.

    A pilot may run in a job within a job (a Slurm job that the Grid sent); the outermost system wins.

    Args:
        environ: the environment, usually ``os.environ``.
    """
    get = environ.get
    # DIRAC 9 says JOBID where those before it say DIRACJOBID; alone that could be anybody's variable.
    dirac = get("DIRACJOBID") or (get("JOBID") if get("DIRACSITE") else None)
    if dirac:
        return {"dirac_job_id": dirac}
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


def add_job_id(doc: MutableMapping[str, Any]) -> None:
    """Note in a token's document, or in a `picas.documents.Task`, which batch job this process runs in.

    Nothing is changed outside of a batch job. Pilots do this by themselves; it is for programs of 1.x.
    """
    for name, value in batch_job_ids(os.environ).items():
        doc[name] = value


def remove_job_id(doc: MutableMapping[str, Any]) -> None:
    """Take the ids of batch jobs out of a token's document, or out of a `picas.documents.Task`."""
    for name in JOB_ID_FIELDS:
        if name in doc:
            del doc[name]
