"""What is submitted, word for word: golden files beside this one, read against the manual pages of each batch system.

With WRITE_GOLDEN set they are written anew, to be looked at.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from picas.launchers.base import Request
from picas.launchers.htcondor import HTCondor
from picas.launchers.local import Local
from picas.launchers.pbs import PBS, Torque
from picas.launchers.ssh import SSH

if TYPE_CHECKING:
    from picas.launchers.base import Launcher

GOLDEN = Path(__file__).with_name("golden")

LEAST = Request(
    pool="https://pool.example.org/mine",
    program=("/home/me/venv/bin/picas",),
    directory=Path("/home/me/work"),
)

MOST = replace(
    LEAST,
    run=("--wait", "--", "./fit", "{input}", "it's"),
    pilots=20,
    name="fit",
    cores=4,
    memory=8 * 2**30,
    gpus=1,
    walltime=45_000.0,
    queue="long",
    account="lofar",
    constraint="bigmem=true",
    signal="USR1@120",
    setup=("module load Python", ". '/home/me/my venv/bin/activate'"),
    options=("-m n",),
    environment={"PICAS_CA": "/home/me/ca.pem"},
)

# no memory, GPUs, queue … without a batch system
PLAIN = replace(MOST, memory=None, gpus=0, queue="", account="", constraint="", options=())

BUNDLED = replace(
    MOST,
    queue="",
    program=("python3", "pilot.pyz"),
    constraint='OpSysAndVer == "AlmaLinux9"',
    options=('+JobFlavour = "workday"',),
    files=(Path("/home/me/pilot.pyz"), Path("/home/me/config.toml")),
)

CASES: dict[str, tuple[Launcher, Request]] = {
    "pbs-least": (PBS(), LEAST),
    "pbs-most": (PBS(), MOST),
    "torque-least": (Torque(), LEAST),
    "torque-most": (Torque(), MOST),
    "htcondor-least": (HTCondor(), LEAST),
    "htcondor-most": (HTCondor(), BUNDLED),
    "ssh-least": (SSH(), replace(LEAST, hosts=("node1",))),
    "ssh-most": (
        SSH(),
        replace(PLAIN, hosts=("node1", "me@node2"), program=BUNDLED.program, files=BUNDLED.files),
    ),
    "local-least": (Local(), LEAST),
    "local-most": (Local(), PLAIN),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_submitted_is_as_in_the_golden_file(case: str) -> None:
    launcher, request = CASES[case]
    (script,) = launcher.scripts(request)
    parts = {script.name: script.text, **script.companions}
    text = "".join(f"=== {name} ===\n{content}" for name, content in parts.items())
    text += f"=== pilots: {script.pilots} ===\n"
    golden = GOLDEN / f"{case}.txt"
    if "WRITE_GOLDEN" in os.environ:
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


def test_there_is_no_golden_file_of_nothing() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)
