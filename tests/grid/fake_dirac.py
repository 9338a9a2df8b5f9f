"""DIRAC as far as its commands show it: they are put on the PATH under their names, and keep what they know in a folder.

It reads a JDL and packs a sandbox in the way that DIRAC 9.1 does, and refuses what that refuses. Jobs run when a test
says so, `Grid.run`: each in a folder with what was in its sandbox, by what its JDL says.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMANDS = tuple(f"dirac-wms-job-{verb}" for verb in ("submit", "status", "kill", "get-output"))
HOME_VARIABLE = "FAKE_DIRAC"
MOST_JOBS = 20
MOST_BYTES = 10 * 2**20
NOISE = "2026-11-23 03:00:00 UTC Framework NOTICE: as DIRAC likes to say"


def values(jdl: str) -> dict[str, Any]:
    """The attributes of a JDL: texts, or lists of them."""
    body = jdl.strip()[1:-1]
    pairs = (part.partition("=") for part in body.split(";") if "=" in part)
    return {name.strip(): _value(value.strip()) for name, _, value in pairs}


def _value(text: str) -> Any:
    return re.findall(r'"([^"]*)"', text) if text.startswith("{") else text.strip('"')


class Grid:
    """A DIRAC with a Grid behind it.

    Args:
        home: where it keeps its jobs; the commands are in ``bin`` there.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"

    def install(self) -> Grid:
        """Make the commands."""
        self.bin.mkdir(parents=True)
        for name in COMMANDS:
            script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n'
            (self.bin / name).write_text(script)
            (self.bin / name).chmod(0o755)
        return self

    @property
    def jobs(self) -> dict[int, dict[str, Any]]:
        """All jobs, by their numbers."""
        found = {}
        for path in self.home.glob("*/job.json"):
            found[int(path.parent.name)] = json.loads(path.read_text())
        return dict(sorted(found.items()))

    def note(self, number: int, **facts: Any) -> None:
        """Change what is known of a job."""
        path = self.home / str(number) / "job.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**known, **facts}))

    def unpack(self, number: int) -> tuple[Path, list[str]]:
        """A job's folder as it is on its machine, and the command that begins it."""
        place = self.home / str(number) / "place"
        with tarfile.open(self.jobs[number]["sandbox"]) as archive:
            for member in archive:  # nobody but the test has made it
                archive.extract(member, place, filter="fully_trusted")
        jdl = self.jobs[number]["jdl"]
        return place, [jdl["Executable"], *jdl["Arguments"].split()]

    def start(self, number: int, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a job here. Its output is where the JDL says, in its folder."""
        place, argv = self.unpack(number)
        jdl = self.jobs[number]["jdl"]
        with (place / jdl["StdOutput"]).open("wb") as out, (place / jdl["StdError"]).open("wb") as err:
            return subprocess.Popen(
                argv,
                cwd=place,
                env={**environ, "JOBID": str(number), "DIRACSITE": "LCG.Example.org"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def wait(self, number: int, process: subprocess.Popen[bytes]) -> int:
        """Its exit code when it has ended; what its JDL names as output is kept, as DIRAC keeps it."""
        code = process.wait(timeout=300)
        self.note(number, status="Failed" if code else "Done")
        place = self.home / str(number) / "place"
        with tarfile.open(self.home / str(number) / "output.tar.bz2", "w:bz2") as archive:
            for pattern in self.jobs[number]["jdl"]["OutputSandbox"]:
                for found in place.glob(pattern):
                    file = found
                    if found.is_dir():
                        file = found.with_name(f"{found.name}.tar")
                        subprocess.run(["tar", "cf", file, found], check=True, stderr=subprocess.DEVNULL)
                    archive.add(file, file.name)
        return code

    def run(self, number: int, environ: Mapping[str, str]) -> int:
        """Run a job here to its end; the exit code."""
        return self.wait(number, self.start(number, environ))


# --- The commands ------------------------------------------------------------------------------------


def submit(grid: Grid, paths: Iterable[str]) -> int:
    """``dirac-wms-job-submit JDL...``."""
    refused = ""
    for path in paths:
        attributes = values(Path(path).read_text())
        wanted = attributes.get("InputSandbox", [])
        count = int(attributes.get("Parameters", 1))
        if not all(Path(name).exists() for name in wanted):
            refused = "Input Sandbox is not valid"
        elif count > MOST_JOBS:
            refused = f"Number of parametric jobs exceeds the limit of {MOST_JOBS}"
        else:
            ids = _accept(grid, attributes, wanted, count)
            print(f"JobID = {ids if 'Parameters' in attributes else ids[0]}")
        if refused:
            print(f"ERROR {path}: {refused}")
    return 2 if refused else 0


def _accept(grid: Grid, attributes: dict[str, Any], wanted: list[str], count: int) -> list[int]:
    first = max(grid.jobs, default=10) + 1
    packed = grid.home / f"{first}.tar.bz2"
    with tarfile.open(packed, "w|bz2") as archive:
        for name in wanted:
            archive.add(Path(name).resolve(), Path(name).name)
    for number in range(first, first + count):
        grid.note(number, jdl=attributes, status="Waiting", sandbox=str(packed))
    return list(range(first, first + count))


def status(grid: Grid, ids: Iterable[str]) -> int:
    """``dirac-wms-job-status ID...``."""
    for number, job in grid.jobs.items():
        if str(number) in ids:
            print(f"JobID={number} Status={job['status']}; MinorStatus=; Site=ANY; ")
    return 0


def kill(grid: Grid, ids: Iterable[str]) -> int:
    """``dirac-wms-job-kill ID...``."""
    for each in ids:
        grid.note(int(each), status="Killed")
    print(f"Killed jobs {','.join(ids)}")
    return 0


def get_output(grid: Grid, ids: Iterable[str]) -> int:
    """``dirac-wms-job-get-output ID...``."""
    for each in ids:
        with tarfile.open(grid.home / each / "output.tar.bz2") as archive:
            for member in archive:
                archive.extract(member, each, filter="fully_trusted")
        print(f"Job output sandbox retrieved in {Path(each).absolute()}/")
    return 0


if __name__ == "__main__":
    print(NOISE)
    print(NOISE, file=sys.stderr)
    verbs = dict(zip(COMMANDS, (submit, status, kill, get_output)))
    sys.exit(verbs[sys.argv[1]](Grid(Path(os.environ[HOME_VARIABLE])), sys.argv[2:]))
