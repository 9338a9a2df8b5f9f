"""PBS, Torque and HTCondor that run what is submitted at once, on this machine: what their manual pages say, no more.

Neither can be installed by itself where the tests run, so nobody has tried picas on the real ones here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMON = f"""#!{sys.executable}
import json, os, re, subprocess, sys
from pathlib import Path
state = Path(os.environ["FAKE_STATE"])
def note(**facts):
    state.write_text(json.dumps(facts))
def noted():
    return json.loads(state.read_text())
"""

QSUB = (
    COMMON
    + r"""
script = Path(sys.argv[-1])
text = script.read_text()
given = dict(re.findall(r"^#PBS -(\w) ?(.*)$", text, re.MULTILINE))
torque = "nodes=" in text
array = given.get("t" if torque else "J")
first, last = map(int, array.split("-")) if array else (0, 0)
ends = {}
for index in range(first, last + 1):
    job = f"1234[{index}].pbs01" if array else "1234.pbs01"
    extra = {"PBS_JOBID": job, "PBS_O_WORKDIR": os.getcwd()}
    if array:
        extra["PBS_ARRAYID" if torque else "PBS_ARRAY_INDEX"] = str(index)
    log = Path(given["o"]) / f"{job}.OU"
    with log.open("w") as output:
        ends[job] = subprocess.run(["bash", script], env={**os.environ, **extra}, stdout=output, stderr=output).returncode
note(ends=ends, array=bool(array), torque=torque)
print("Welcome to this site")
print("1234[].pbs01" if array else "1234.pbs01")
"""
)

QSTAT = (
    COMMON
    + r"""
if "-B" in sys.argv:
    print("Server: pbs01")
    print("    server_state = Active")
    print("    max_array_size = 4")
    sys.exit()
facts = noted()
if "-x" in sys.argv and os.environ.get("FAKE_NO_HISTORY"):
    sys.exit("qstat: PBS is not configured to maintain job history")
if facts["array"]:
    counts = f"Queued:0 Running:0 Exiting:0 Expired:{len(facts['ends'])}"
    print("Job Id: 1234[].pbs01")
    print("    Job_Name = picas")
    print("    job_state = F")
    print(f"    array_state_count = {counts} \n")
for job, code in facts["ends"].items():
    print(f"Job Id: {job}")
    print("    Job_Name = picas")
    print(f"    job_state = {'C' if facts['torque'] else 'X' if facts['array'] else 'F'}")
    print("    Variable_List = PBS_O_HOME=/home/me,PBS_O_LANG=en_US.UTF-8,")
    print("\tPBS_O_PATH=/usr/bin:/bin")
    print(f"    {'exit_status' if facts['torque'] else 'Exit_status'} = {code}")
    print()
"""
)

QDEL = (
    COMMON
    + """
note(**{**noted(), "deleted": sys.argv[1:]})
sys.stderr.write("qdel: Job has finished 1234.pbs01\\n")
sys.exit(35)
"""
)

CONDOR_SUBMIT = (
    COMMON
    + r"""
assert sys.argv[1] == "-terse"
text = Path(sys.argv[-1]).read_text()
given = dict(re.findall(r"^([\w+]+) *= *(.*)$", text, re.MULTILINE))
count = int(re.search(r"^queue (\d+)$", text, re.MULTILINE)[1])
executable = Path.cwd() / given["executable"]
ends = {}
for number in range(count):
    name = given["output"].replace("$(Cluster)", "12").replace("$(Process)", str(number))
    with (Path(given["initialdir"]) / name).open("w") as output:
        done = subprocess.run([executable], cwd=given["initialdir"], stdout=output, stderr=subprocess.DEVNULL)
    ends[f"12.{number}"] = done.returncode
note(ends=ends)
print("WARNING: your quota is nearly used up")
print(f"12.0 - 12.{count - 1}")
"""
)

CONDOR_Q = COMMON + "sys.exit(0)\n"  # nothing is left in the queue

CONDOR_HISTORY = (
    COMMON
    + """
for job, code in reversed(noted()["ends"].items()):
    print(job, 4, code, "undefined")
"""
)

CONDOR_RM = COMMON + "note(**{**noted(), 'removed': sys.argv[1:]})\n"

BATCH = {
    "qsub": QSUB,
    "qstat": QSTAT,
    "qdel": QDEL,
    "condor_submit": CONDOR_SUBMIT,
    "condor_q": CONDOR_Q,
    "condor_history": CONDOR_HISTORY,
    "condor_rm": CONDOR_RM,
}


def write(folder: Path, programs: dict[str, str]) -> None:
    """Write programs into a folder of their own."""
    folder.mkdir(exist_ok=True)
    for name, text in programs.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
