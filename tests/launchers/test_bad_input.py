"""What goes wrong when pilots are submitted, the same for every batch system: it is told, and nothing has happened.

The programs on the PATH are fakes that refuse, are silent or say something else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.processes import wait_until

from picas.launchers.execute import NotHeard, execute
from picas.launchers.submit import LAUNCHERS, load

if TYPE_CHECKING:
    from typing import Callable

    from tests.cli.conftest import Shell

    Site = Callable[..., Shell]

# the arguments of picas submit, and the programs that tell the largest array and ask for and about jobs
SYSTEMS = {
    "slurm": (["slurm"], ("scontrol", "sbatch", "squeue", "scancel")),
    "dirac": (
        ["dirac", "--setup", "true"],
        ("", "dirac-wms-job-submit", "dirac-wms-job-status", "dirac-wms-job-kill"),
    ),
    "htcondor": (["htcondor"], ("", "condor_submit", "condor_q", "condor_rm")),
    "pbs": (["pbs"], ("qstat", "qsub", "qstat", "qdel")),
    "torque": (["pbs", "--torque"], ("qstat", "qsub", "qstat", "qdel")),
}

WITH_SITE = list(SYSTEMS)

ANSWERS = {
    "slurm": "123",
    "dirac": "JobID = 123",
    "htcondor": "123.0 - 123.0",
    "pbs": "123.pbs01",
    "torque": "123.pbs01",
}

NO_SERVER = "http://127.0.0.1:9/pool"

REFUSED = "#!/bin/sh\necho 'error: your account is over its budget' >&2\necho 'see https://example.org/budget' >&2\nexit 1\n"
SILENT = "#!/bin/sh\nexec sleep 600\n"
BUSY = "#!/bin/sh\necho 'error: Socket timed out on send/recv operation' >&2\nexit 1\n"
OTHER = "#!/bin/sh\necho 'Welcome! All systems are well.'\n"


def _says(text: str) -> str:
    return f"#!/bin/sh\necho '{text}'\n"


def _site(site: Site, system: str, submits: str, asks: str = OTHER, limit: str = OTHER) -> Shell:
    """A machine with this batch system, and a pool with one token."""
    limiting, submitting, asking, cancelling = SYSTEMS[system][1]
    programs = {limiting: limit, cancelling: asks, asking: asks, submitting: submits}
    shell = site(**{name.replace("-", "__"): text for name, text in programs.items() if name})
    return _filled(shell, system)


def _filled(shell: Shell, system: str) -> Shell:
    assert shell.here("push", shell.write("tokens.txt", "true\n")).code == 0
    if system == "dirac":  # a grid cannot reach a file; of a server that is down it is said so, no more
        shell.own["PICAS_POOL"] = NO_SERVER
    return shell


def _submit(shell: Shell, system: str, *more: str) -> Any:
    return shell.here("submit", *SYSTEMS[system][0], *more)


def _untouched(shell: Shell) -> bool:
    counts = shell.here("--pool", shell.pool, "status", "--json").json
    return (counts["todo"], counts["total"]) == (1, 1)


def _script(message: str) -> Path:
    found = re.search(r"The script is (/\S+)\.(?: |\n)", message)
    assert found, message
    return Path(found[1])


def test_all_launchers_are_looked_at_here_or_have_tests_of_their_own() -> None:
    assert set(LAUNCHERS) == {*WITH_SITE, "ssh", "local"}


@pytest.mark.parametrize("system", WITH_SITE)
def test_a_machine_without_the_command(picas: Shell, tmp_path: Path, system: str) -> None:
    shell = _filled(picas, system)
    shell.own["PATH"] = str(tmp_path / "nothing")
    answer = _submit(shell, system)
    assert answer.code == 1
    assert f"there is no command '{load(system).submits}' on this machine" in answer.err
    assert _script(answer.err).is_file()
    assert _untouched(shell)
    assert shell.here("submit", "status", "--json").json["jobs"] == []


@pytest.mark.parametrize("system", WITH_SITE)
def test_a_refusal_is_shown_whole_with_the_scripts_path(site: Site, system: str) -> None:
    shell = _site(site, system, REFUSED)
    answer = _submit(shell, system)
    assert answer.code == 1
    assert "error: your account is over its budget\nsee https://example.org/budget\n" in answer.err
    assert _script(answer.err).is_file()
    assert _untouched(shell)
    assert shell.here("submit", "status", "--json").json["jobs"] == []


@pytest.mark.parametrize("system", WITH_SITE)
def test_of_a_site_that_does_not_answer_nobody_says_that_nothing_was_submitted(
    site: Site, system: str
) -> None:
    shell = _site(site, system, SILENT)
    answer = _submit(shell, system, "--patience", "0.3s")
    assert answer.code == 1
    assert "did not answer within 0.3 s" in answer.err
    assert "It may have been heard nevertheless" in answer.err
    assert _untouched(shell)
    (job,) = shell.here("submit", "status", "--json").json["jobs"]
    assert (job["ids"], job["alive"]) == ([], 1)


@pytest.mark.parametrize("system", WITH_SITE)
def test_an_answer_that_nobody_understands_is_shown(site: Site, system: str) -> None:
    shell = _site(site, system, OTHER)
    answer = _submit(shell, system)
    assert answer.code == 1
    assert "Welcome! All systems are well." in answer.err
    assert _script(answer.err).is_file()
    assert _untouched(shell)


def test_what_a_command_has_started_does_not_outlive_its_time(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with pytest.raises(NotHeard):
        execute(["sh", "-c", f"sleep 600 & echo $! >{started}; wait"], seconds=0.5)
    wait_until(lambda: not _runs(int(started.read_text())), 60, lambda: "sleep goes on")


def _runs(pid: int) -> bool:
    try:
        # a zombie of which nobody has heard yet runs no more
        return "sleep" in Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("system", WITH_SITE)
@pytest.mark.parametrize(
    ("asks", "problem"),
    [(SILENT, "did not answer within"), (BUSY, "Socket timed out")],
    ids=["silent", "busy"],
)
def test_a_site_that_cannot_be_asked_ends_no_job(site: Site, system: str, asks: str, problem: str) -> None:
    shell = _site(site, system, _says(ANSWERS[system]), asks)
    assert _submit(shell, system).code == 0
    status = shell.here("submit", "status", "--patience", "0.3s")
    assert status.code == 1
    assert problem in status.err
    cancel = shell.here("submit", "cancel", "--patience", "0.3s")
    assert cancel.code == 1
    assert problem in cancel.err
    folder = Path(shell.own["XDG_STATE_HOME"]) / "picas" / "jobs"
    (book,) = folder.glob("*/book.jsonl")
    assert '"ended"' not in book.read_text()


@pytest.mark.parametrize("system", WITH_SITE)
def test_a_site_that_knows_nothing_of_a_job_just_submitted_is_not_believed(site: Site, system: str) -> None:
    shell = _site(site, system, _says(ANSWERS[system]), "#!/bin/sh\nexit 0\n")
    assert _submit(shell, system).code == 0
    (job,) = shell.here("submit", "status", "--json").json["jobs"]
    assert (job["pilots_in"]["unknown"], job["alive"]) == (1, 1)


@pytest.mark.parametrize("system", [*WITH_SITE, "ssh", "local"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("first\nsecond\n{{core}}\n", "line 3 of the template: there is nothing called {{core}}"),
        ("first\n{{name\n", "line 2 of the template: '{{' begins no name"),
        ("#!/bin/bash\n", "the template has no {{"),
    ],
)
def test_a_mistake_in_a_template_is_told_by_its_line(
    picas: Shell, system: str, text: str, problem: str
) -> None:
    shell = _filled(picas, system)
    more = ["--host", "node1"] if system == "ssh" else []
    args = SYSTEMS[system][0] if system in SYSTEMS else [system]
    answer = shell.here("submit", *args, *more, "--template", shell.write("mine", text))
    assert answer.code == 2
    assert problem in answer.err
    assert not list(shell.directory.glob("state/picas/jobs/*/*/*"))


@pytest.mark.parametrize("system", ["dirac", "pbs"])
@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--cores", "0"], "--cores"),
        (["--time", "soon"], "--time: 'soon'"),
        (["--memory", "much"], "--memory: 'much'"),
        (["--name", "two words"], "--name: 'two words' is no name for a job"),
        (["--template", "nowhere"], "--template: nowhere cannot be read"),
        (["--bundle", "nowhere.pyz"], "nowhere.pyz"),
        (["--signal", "NONE@60"], "there is no signal 'NONE'"),
        (["--", "--wrkers", "3"], "--wrkers"),
        (["--", "--until", "never ever"], "'never ever' is not a moment"),
        (["--", "--pool", "sqlite:///other.db"], "--pool must stand before the --"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_submitted(
    site: Site, system: str, args: list[str], problem: str
) -> None:
    shell = _site(site, system, _says(ANSWERS[system]))
    answer = _submit(shell, system, *args)
    assert answer.code == 2, answer
    assert problem in answer.err
    assert _untouched(shell)
    assert not list(shell.directory.glob("state/picas/jobs/*/book.jsonl"))


@pytest.mark.parametrize("system", ["slurm", "htcondor", "pbs"])
def test_without_a_pool_no_pilot_is_submitted(site: Site, system: str) -> None:
    shell = _site(site, system, _says(ANSWERS[system]))
    answer = shell.here("--pool", "sqlite:///other.db", "submit", *SYSTEMS[system][0])
    assert answer.code == 1
    assert "there is no pool at" in answer.err


# --- Arrays that are too large ---


def test_slurm_tells_that_an_array_is_too_large(site: Site) -> None:
    shell = _site(site, "slurm", _says("123"), limit=_says("MaxArraySize            = 100"))
    answer = _submit(shell, "slurm", "--array", "0-100")
    assert answer.code == 2
    assert "--array 0-100: indices of arrays end at 99 here" in answer.err
    several = _submit(shell, "slurm", "--pilots", "250", "--json").json
    assert [each["pilots"] for each in several["jobs"]] == [100, 100, 50]


@pytest.mark.parametrize("system", ["pbs", "torque"])
def test_an_array_that_pbs_finds_too_large_nevertheless(site: Site, system: str) -> None:
    # Torque, and servers that hide their attributes, do not tell how large it may be
    refused = "#!/bin/sh\necho 'qsub: Array job exceeds server or queue size limit' >&2\nexit 1\n"
    shell = _site(site, system, refused, asks=BUSY)
    answer = _submit(shell, system, "--pilots", "500")
    assert answer.code == 1
    assert "qsub: Array job exceeds server or queue size limit" in answer.err
    assert _untouched(shell)


def test_if_the_second_of_several_arrays_is_refused_the_first_is_known(site: Site) -> None:
    once = "#!/bin/sh\nif mkdir once 2>/dev/null; then echo 123[].pbs01; else echo 'qsub: too many' >&2; exit 1; fi\n"
    shell = _site(site, "pbs", once, asks=_says("    max_array_size = 4"))
    answer = _submit(shell, "pbs", "--pilots", "6")
    assert answer.code == 1
    assert "qsub: too many" in answer.err
    assert "Before it, 4 pilots were submitted: 123[].pbs01" in answer.err
