"""What the client of DIRAC makes of a job description; run by the Python that has it, see `tests.grid.test_dirac`.

``states`` prints the states that jobs can be in, ``check JDL`` the jobs that DIRAC's server would make of it;
``pack JDL TARGET`` submits it by the client's own code to a server that only keeps the sandbox; ``local JDL`` runs it by
``Dirac().submitJob(job, mode="local")``, and ``job FILE...`` does so with a job made by DIRAC's own interface, which begins
with the first file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from DIRAC.ConfigurationSystem.Client.ConfigurationData import gConfigurationData
from DIRAC.Core.Utilities.ClassAd.ClassAdLight import ClassAd
from DIRAC.Core.Utilities.JDL import jdlToBaseJobDescriptionModel, loadJDLAsCFG
from DIRAC.Interfaces.API.Dirac import Dirac
from DIRAC.Interfaces.API.Job import Job
from DIRAC.WorkloadManagementSystem.Client.JobStatus import JOB_STATES
from DIRAC.WorkloadManagementSystem.Client.WMSClient import WMSClient
from DIRAC.WorkloadManagementSystem.Utilities.JobModel import JobDescriptionModel
from DIRAC.WorkloadManagementSystem.Utilities.ParametricJob import generateParametricJobs
from diraccfg import CFG

SITES = "Resources { Sites { LCG { LCG.Example.org { } } } }"


def _value(answer: dict[str, Any]) -> Any:
    if not answer["OK"]:
        sys.exit(f"DIRAC says: {answer['Message']}")
    return answer["Value"]


def check(path: str) -> list[dict[str, Any]]:
    """The jobs that a JDL makes, as DIRAC's JobManager reads and checks them."""
    text = Path(path).read_text().strip()
    whole = ClassAd(text)
    if not whole.isOK():
        sys.exit("DIRAC says: Invalid job JDL")
    found = []
    for each in _value(generateParametricJobs(whole)):
        _value(loadJDLAsCFG(each))  # by which a job's own machine reads it
        base = _value(jdlToBaseJobDescriptionModel(ClassAd(each)))
        facts = base.model_dump(exclude_none=True)
        model = JobDescriptionModel(**facts, owner="ana", ownerGroup="user", vo="example")
        found.append(json.loads(model.model_dump_json()))
    return found


class _Server:
    """Takes what it is given."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.jdl = ""

    def submitJob(self, jdl: str) -> dict[str, Any]:  # noqa: N802 - DIRAC's names
        self.jdl = jdl
        return {"OK": True, "Value": [1, 2]}

    def confirmBulkSubmission(self, ids: list[int]) -> dict[str, Any]:  # noqa: N802
        return {"OK": True, "Value": ids}

    def sendFile(self, path: str, facts: Any) -> dict[str, Any]:  # noqa: N802
        shutil.copy(path, self.target)
        return {"OK": True, "Value": f"SB:ProductionSandboxSE|/SandBox/{facts[0]}"}


def pack(path: str, target: str) -> str:
    """Submit a JDL of two jobs from its folder; the JDL that the server gets."""
    server = _Server(Path(target))
    client = WMSClient(jobManagerClient=server, sbRPCClient=server, sbTransferClient=server)
    _value(client.submitJob(Path(path).read_text()))
    return server.jdl


class _Described(Job):
    """A job that is described by a JDL, for DIRAC's local mode, which wants a `Job`."""

    def __init__(self, jdl: str) -> None:
        super().__init__()
        self.text = jdl

    def _toJDL(self, *args: Any, **kwargs: Any) -> str:  # noqa: N802
        return self.text


def main(verb: str, *words: str) -> int:
    """Do it; what there is to say is printed as JSON on the last line."""
    found: Any
    if verb == "states":
        found = JOB_STATES
    elif verb == "check":
        found = check(*words)
    elif verb == "pack":
        found = pack(*words)
    else:
        job = _Described(Path(words[0]).read_text()) if verb == "local" else Job()
        if verb == "job":
            job.setExecutable(words[0])
            job.setInputSandbox(list(words))
        found = Dirac().submitJob(job, mode="local")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    gConfigurationData.mergeWithLocal(CFG().loadFromBuffer(SITES))
    sys.exit(main(*sys.argv[1:]))
