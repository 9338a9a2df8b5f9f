"""What the tests of autopilot share: plans written as people write them, jobs, and what batch systems say of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from picas.autopilot.planfile import parse
from picas.launchers.base import Phase
from picas.launchers.book import Job
from picas.launchers.submit import Progress

if TYPE_CHECKING:
    from picas.autopilot.profiles import Plan

PATH = Path("/data/autopilot.toml")

THREE_KINDS = """
[profiles.SingleCore]
launcher = "slurm"
cores = 1
memory = "4GB"
time = "4h"

[profiles.MultiCore]
launcher = "slurm"
cores = 8
memory = "64GB"
time = "2d"

[profiles.gpu]
launcher = "slurm"
cores = 4
gpus = 1
where = "gpus > 0 and site != 'far'"
"""


def plan_of(text: str) -> Plan:
    """The plan that a file with this text describes."""
    return parse(PATH, text)


def job(profile: str = "SingleCore", pilots: int = 1, asked: float = 100.0, *ids: str) -> Job:
    """A job that was submitted."""
    key = f"{profile}-{asked:g}"
    return Job(key, "slurm", pilots, f"picas-{profile}", profile, "/x.sh", asked, ids or (key,))


def progress(of: Job, detail: str = "", **counts: int) -> Progress:
    """How far it is: pilots by phase."""
    return Progress(
        of,
        {Phase(name): count for name, count in counts.items()},
        {detail: sum(counts.values())} if detail else {},
    )
