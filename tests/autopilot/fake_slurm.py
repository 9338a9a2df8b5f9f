"""Slurm's commands as a folder of small programs, which really start the scripts that are submitted: see `install`.

What they are to do is in files beside them:

- ``slots``: so many elements run at a time, the others wait; all run if there is no such file;
- ``refuse``: sbatch says this and takes nothing; ``deaf``: squeue does not answer;
- ``calls``: what has been called is noted here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ALONE = "alone"
"""The name of the only element of a job that is no array."""

NAMES = ("sbatch", "squeue", "scancel", "scontrol")


def install(folder: Path) -> Path:
    """Put the commands into this folder, which is then to be on the PATH."""
    folder.mkdir()
    for name in NAMES:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" {name} "$0" "$@"\n')
        path.chmod(0o755)
    return folder


def calls(folder: Path, name: str) -> int:
    """How often this command has been called."""
    noted = folder / "calls"
    return noted.read_text().split().count(name) if noted.exists() else 0


def main(name: str, folder: Path, args: list[str]) -> int:
    """Be this command."""
    with (folder / "calls").open("a") as file:
        file.write(f"{name}\n")
    return {"sbatch": _sbatch, "squeue": _squeue, "scancel": _scancel, "scontrol": _scontrol}[name](
        folder, args
    )


def _sbatch(folder: Path, args: list[str]) -> int:
    if (folder / "refuse").exists():
        sys.stderr.write((folder / "refuse").read_text())
        return 1
    script = Path(args[-1])
    said = dict(
        line[len("#SBATCH --") :].split("=", 1)
        for line in script.read_text().splitlines()
        if line.startswith("#SBATCH --") and "=" in line
    )
    number = 1 + len(list(folder.glob("job-*")))
    job = folder / f"job-{number}"
    job.mkdir()
    (job / "script").write_text(str(script))
    (job / "directory").write_text(said.get("chdir", str(Path.cwd())))
    size = int(said["array"].partition("-")[2].partition("%")[0]) + 1 if "array" in said else 0
    for element in range(size) if size else (ALONE,):
        (job / f"{element}.waits").touch()
    _start(folder)
    print(number)
    return 0


def _elements(folder: Path) -> list[Path]:
    found = list(folder.glob("job-*/*.waits"))
    return sorted(
        found, key=lambda path: (int(path.parent.name[4:]), int(path.stem) if path.stem != ALONE else 0)
    )


def _start(folder: Path) -> None:
    """Start what waits and has room."""
    slots = int((folder / "slots").read_text()) if (folder / "slots").exists() else 10_000
    room = slots - sum(_state(path) == "RUNNING" for path in _elements(folder))
    for path in _elements(folder):
        if room <= 0 or _state(path) != "PENDING":
            continue
        room -= 1
        job, element = path.parent, path.stem
        environment = {**os.environ, "SLURM_JOB_ID": f"{job.name[4:]}"}
        if element != ALONE:
            environment.update(SLURM_ARRAY_JOB_ID=job.name[4:], SLURM_ARRAY_TASK_ID=element)
        code = f'bash "{(job / "script").read_text()}" > "{job}/{element}.out" 2>&1; echo $? > "{job}/{element}.code"'
        process = subprocess.Popen(
            ["bash", "-c", code],
            cwd=(job / "directory").read_text(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (job / f"{element}.pid").write_text(str(process.pid))


def _state(path: Path) -> str:
    code, pid = path.with_suffix(".code"), path.with_suffix(".pid")
    if code.exists() and code.read_text().strip():
        return "COMPLETED" if code.read_text().strip() == "0" else "FAILED"
    if path.with_suffix(".cancelled").exists():
        return "CANCELLED"
    return "RUNNING" if pid.exists() else "PENDING"


def _squeue(folder: Path, _args: list[str]) -> int:
    while (folder / "deaf").exists():
        time.sleep(0.1)
    _start(folder)
    for path in _elements(folder):
        state = _state(path)
        reason = {"PENDING": "Resources", "FAILED": "NonZeroExitCode"}.get(state, "None")
        print(f"{path.parent.name[4:]}{'' if path.stem == ALONE else f'_{path.stem}'}|{state}|{reason}")
    return 0


def _scancel(folder: Path, args: list[str]) -> int:
    for path in _elements(folder):
        if path.parent.name[4:] in args:
            path.with_suffix(".cancelled").touch()
            if path.with_suffix(".pid").exists():
                os.killpg(int(path.with_suffix(".pid").read_text()), signal.SIGTERM)
    return 0


def _scontrol(_folder: Path, _args: list[str]) -> int:
    print("MaxArraySize            = 1001")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]).parent, sys.argv[3:]))
