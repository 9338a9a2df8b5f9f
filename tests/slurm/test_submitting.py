"""`picas submit slurm` on a real Slurm: what is submitted runs, and is followed and cancelled."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.slurm.cluster import ARRAY, NODE
from tests.slurm.conftest import Site

if TYPE_CHECKING:
    from tests.slurm.cluster import SlurmCluster

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "slurm" / "slurm-example.sh"
HOW_TO = ROOT / "docs" / "how-to" / "slurm.md"


@pytest.mark.any_pool
def test_an_array_of_six_pilots_runs_three_hundred_tokens(site: Site) -> None:
    site.push(*(f"echo {number}" for number in range(300)))
    (job,) = site.submit("--pilots", "6")
    site.until_over()
    assert site.states() == ["done"] * 300
    assert {token["slurm_job_id"] for token in site.tokens()} <= {f"{job}_{element}" for element in range(6)}


def test_a_pilot_runs_as_many_tokens_at_a_time_as_its_job_has_cores(site: Site) -> None:
    meet = "touch {id}; until [ $(ls token_* | wc -l) = 3 ]; do sleep 0.05; done"
    site.push(*["."] * 3)
    together = site.picas.path("together")
    together.mkdir()
    site.submit("--cores", "3", "--", "--", "sh", "-c", f"cd {together}; {meet}")
    site.until_over()
    assert site.states() == ["done"] * 3  # of fewer at a time each would wait for the others


def test_a_job_has_what_is_asked_for(site: Site) -> None:
    site.push("true")
    wanted = ["--memory", "1GiB", "--gpus", "2", "--time", "1h30m", "--partition", "normal"]
    more = ["--account", "astro", "--constraint", "fast", "--name", "fits", "--option=--comment=hello"]
    (job,) = site.submit(*wanted, *more, "--setup", "echo set up")
    site.until_over()
    told = site.slurm.ask("scontrol", "show", "job", job)
    shown = "MinMemoryNode=1G TimeLimit=01:30:00 Partition=normal Account=astro Features=fast JobName=fits Comment=hello"
    for each in (*shown.split(), "TresPerNode=gres:gpu:2"):
        assert each in told
    assert site.printed().startswith("set up\n")


def test_what_slurm_says_of_pilots_that_wait_and_work_is_told(site: Site) -> None:
    mark = site.picas.path("mark")
    site.push(f"touch {mark}; while [ -e {mark} ]; do sleep 0.1; done")
    site.submit("--array", "0-1%1", "--name", "one-by-one")
    site.until(mark.exists)
    [job] = site.picas("submit", "status", "--json").json["jobs"]
    assert (job["name"], job["alive"]) == ("one-by-one", 2)
    assert (job["pilots_in"]["running"], job["pilots_in"]["queued"]) == (1, 1)
    assert job["details"] == {"RUNNING": 1, "PENDING (JobArrayTaskLimit)": 1}
    mark.unlink()
    site.until_over()
    [job] = site.picas("submit", "status", "--json").json["jobs"]
    assert (job["alive"], job["pilots_in"]["ended"]) == (0, 2)
    assert job["outcome"] == "2 COMPLETED"


def test_one_element_of_an_array_is_cancelled_and_the_others_stay(site: Site) -> None:
    site.push("sleep 1000")
    site.submit("--array", "0-2", "--", "--wait")
    site.until(lambda: site.states() == ["locked"])
    holder = site.token()["slurm_job_id"]
    assert site.picas("submit", "cancel", holder).out == f"cancelled {holder}\n"
    site.until(lambda: site.token().get("slurm_job_id") not in (None, holder))
    site.until(lambda: site.alive() == 2)


def test_arrays_are_as_large_as_this_slurm_allows(site: Site) -> None:
    site.push("true")
    answer = site.picas("submit", "slurm", "--json", "--dry-run", "--pilots", str(ARRAY + 1))
    assert [script["pilots"] for script in answer.json["scripts"]] == [ARRAY, 1]
    refused = site.picas("submit", "slurm", "--array", f"0-{ARRAY}")
    assert refused.code == 2
    assert f"indices of arrays end at {ARRAY - 1} here" in refused.err
    assert site.slurm.waiting() == []


def test_what_slurm_refuses_is_told_in_its_words(site: Site) -> None:
    site.push("true")
    answer = site.picas("submit", "slurm", "--partition", "nowhere")
    assert answer.code == 1
    assert "invalid partition specified: nowhere" in answer.err
    assert "The script is /" in answer.err
    assert site.states() == ["todo"]


def test_no_pilots_are_started_that_the_pools_server_would_refuse(
    slurm: SlurmCluster, tmp_path: Path, database: str, real_couchdb: object
) -> None:
    site = Site(slurm, tmp_path, database)
    answer = site.picas("submit", "slurm", "--pilots", "6", PICAS_PASSWORD="wrong")
    assert answer.code == 1
    assert "password" in answer.err
    assert slurm.waiting() == []


def test_pilots_start_in_a_directory_of_any_name_and_write_there(site: Site) -> None:
    directory = site.picas.path('it\'s #1, "100%" $HOME')
    site.push("true")
    (job,) = site.submit("--directory", str(directory))
    site.until_over()
    assert site.states() == ["done"]
    assert "1 done" in (directory / f"picas-{job}.out").read_text()


def test_the_script_of_a_dry_run_can_be_submitted_by_hand(site: Site) -> None:
    site.push(*["true"] * 10)
    script = site.picas("submit", "slurm", "--pilots", "2", "--dry-run").out
    site.slurm.ask("sbatch", site.picas.write("mine.sh", script), cwd=site.picas.directory)
    site.until_over()
    assert site.states() == ["done"] * 10


def by_hand(site: Site) -> dict[str, str]:
    """The environment of a person with picas on the PATH, a home, and modules."""
    home = site.picas.directory / "home"
    (home / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    (home / "venv" / "bin" / "activate").write_text("")
    return {
        **site.picas.environment,
        **site.slurm.environment,
        "PICAS_POOL": site.picas.pool,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BASH_FUNC_module%%": '() { [ "$1" = load ]; }',
    }


def test_the_example_runs_as_its_readme_says(site: Site) -> None:
    readme = (EXAMPLE.parent / "README.md").read_text()
    commands = re.findall(r"^    (.+)$", readme, re.MULTILINE)
    assert "sbatch examples/slurm/slurm-example.sh" in commands
    environment = by_hand(site)
    (site.picas.directory / "examples").symlink_to(ROOT / "examples")
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=site.picas.directory, env=environment, check=False)
        assert done.returncode == 0, command
    site.until_over()
    assert site.states() == ["done"] * 10
    assert all("_" in token["slurm_job_id"] for token in site.tokens())


@pytest.mark.slow
def test_the_example_of_1x_runs(site: Site) -> None:
    folder = site.picas.directory / "classic"
    shutil.copytree(ROOT / "examples" / "classic", folder)
    for command in ("./push_tokens.sh quick", "sbatch slurm_example.sh"):
        done = subprocess.run(command, shell=True, cwd=folder, env=by_hand(site), check=False)
        assert done.returncode == 0, command
    site.until_over()
    assert set(site.states()) == {"done"}
    assert all("_" in token["slurm_job_id"] for token in site.tokens())


def test_the_commands_of_the_how_to_can_be_given(site: Site) -> None:
    blocks = re.findall(r"^```console\n(.*?)^```", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)
    commands = [
        command.replace("\\\n", " ")
        for block in blocks
        for command in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
    ]
    assert len(commands) > 10
    environment = by_hand(site)
    site.picas.write("tasks.txt", "true\n" * 20)
    shutil.copy(EXAMPLE, site.picas.directory)
    made = ["picas", "bundle", "-o", "home/pilot.pyz"]
    subprocess.run(made, cwd=site.picas.directory, env=environment, check=True, stdout=subprocess.DEVNULL)
    # all of them are submitted for good, and wait: hundreds of pilots would take their time
    site.slurm.ask("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=test")
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=site.picas.directory,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"
