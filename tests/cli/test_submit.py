"""`picas submit slurm` where Slurm is played by programs on the PATH: what is said, what is refused, what is noted.

tests/slurm has the same with a real one.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Answer, Shell

pytestmark = pytest.mark.embedded


class Fakes:
    """Programs in place of those of Slurm.

    Attributes:
        calls: the command lines that they were called with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._log = folder / "calls"

    def add(self, name: str, body: str) -> None:
        """A program of this name: lines of shell."""
        program = self.folder / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {shlex.quote(str(self._log))}\n{body}\n')
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def fakes(picas: Shell, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """A Slurm that takes every job as number 77, on a PATH without any other; and a pool to submit for."""
    fakes = Fakes(picas.directory)
    fakes.add("sbatch", "echo 77")
    fakes.add("scontrol", "echo 'MaxArraySize = 100'")
    fakes.add("squeue", "echo '77|RUNNING|None'")
    fakes.add("scancel", "")
    path = f"{fakes.folder}:/usr/bin:/bin"
    picas.environment["PATH"] = path
    monkeypatch.setenv("PATH", path)
    picas.environment["XDG_STATE_HOME"] = str(picas.directory / "state")
    monkeypatch.setenv("XDG_STATE_HOME", str(picas.directory / "state"))
    assert picas.here("push", picas.write("tasks.txt", "true\n")).code == 0
    return fakes


def script_of(picas: Shell) -> str:
    """The only script that was submitted."""
    (path,) = (picas.directory / "state").rglob("*.sh")
    return path.read_text()


def token_is_untouched(picas: Shell) -> bool:
    status = picas.here("status", "--json").json
    return bool(status["todo"] == status["total"] == 1)


# --- What is submitted -------------------------------------------------------------------------------


def test_what_was_submitted_is_told(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "slurm", "--pilots", "20")
    assert answer.code == 0
    first, second, last = answer.out.splitlines()
    assert first == "submitted 20 pilots to slurm: 77"
    assert Path(second.strip()).read_text() == script_of(picas)
    assert last == "picas submit status, picas submit cancel"
    assert fakes.calls == ["scontrol show config", f"sbatch --parsable {second.strip()}"]


def test_json_has_the_ids_and_the_script(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "slurm", "--json", "--pilots", "20").json
    assert (answer["launcher"], answer["pilots"]) == ("slurm", 20)
    assert answer["pool"] == picas.pool
    [job] = answer["jobs"]
    assert (job["ids"], job["pilots"]) == (["77"], 20)


def test_hundreds_of_pilots_are_one_sbatch_for_each_full_array(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm", "--pilots", "200").code == 0
    assert sum(call.startswith("sbatch") for call in fakes.calls) == 2


def test_the_script_has_the_pool_by_its_whole_path(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm").code == 0
    assert f"export PICAS_POOL={picas.pool}\n" in script_of(picas)


def test_a_file_as_pool_is_warned_of(picas: Shell, fakes: Fakes) -> None:
    assert "only pilots that run on this very machine can use it" in picas.here("submit", "slurm").err


def test_modules_a_virtual_environment_and_lines_go_before(picas: Shell, fakes: Fakes) -> None:
    venv = picas.directory / "my venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").write_text("")
    options = [
        "--module",
        "2025",
        "--module",
        "Python/3.11",
        "--venv",
        "my venv",
        "--setup",
        "ulimit -n 4096",
    ]
    assert picas.here("submit", "slurm", *options).code == 0
    lines = script_of(picas).splitlines()
    start = lines.index("module load 2025 Python/3.11")
    assert lines[start + 1 : start + 3] == [f". '{venv}/bin/activate'", "ulimit -n 4096"]
    assert lines[-1].startswith("exec picas run ")


def test_without_them_picas_is_called_as_here(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm").code == 0
    assert f"\nexec {Path(sys.executable).parent}" in script_of(picas)


def test_a_bundle_is_run_by_the_machines_own_python(picas: Shell, fakes: Fakes) -> None:
    picas.write("pilot.pyz", "")
    assert picas.here("submit", "slurm", "--bundle", "pilot.pyz").code == 0
    assert f"\nexec python3 {picas.directory}/pilot.pyz run " in script_of(picas)


def test_pilots_get_the_way_to_the_server_that_was_given(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "slurm", "--ca", "ca.pem", "--insecure", "--dry-run")
    assert f"export PICAS_CA={picas.directory}/ca.pem\nexport PICAS_INSECURE=1\n" in answer.out


def test_a_dry_run_shows_the_script_and_submits_nothing(picas: Shell, fakes: Fakes) -> None:
    shown = picas.here("submit", "slurm", "--pilots", "6", "--dry-run", "--", "-v", "--", "echo", "{input}")
    assert shown.code == 0
    assert not any(call.startswith("sbatch") for call in fakes.calls)
    assert not (picas.directory / "state").exists()
    assert picas.here("submit", "slurm", "--pilots", "6", "--", "-v", "--", "echo", "{input}").code == 0
    assert shown.out == script_of(picas)


def test_a_dry_run_needs_no_slurm_and_no_pool(picas: Shell) -> None:
    answer = picas("submit", "slurm", "--pilots", "2000", "--dry-run", "--json", PATH="/usr/bin:/bin")
    assert [script["pilots"] for script in answer.json["scripts"]] == [1001, 999]
    assert answer.json["scripts"][0]["command"] == ["sbatch", "--parsable", "picas-1.sh"]


def test_a_dry_run_of_several_scripts_names_each(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "slurm", "--pilots", "200", "--dry-run")
    assert [line for line in answer.out.splitlines() if line.startswith("# ---")] == [
        "# --- picas-1.sh ---",
        "# --- picas-2.sh ---",
    ]


def test_jobs_do_not_inherit_what_batch_job_they_were_submitted_from(
    picas: Shell, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.add("sbatch", "env > env.txt; echo 77")
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_CONF"):
        monkeypatch.setenv(name, "5")
    assert picas.here("submit", "slurm").code == 0
    told = picas.path("env.txt").read_text()
    assert "SLURM_CONF=5" in told
    assert not any(name in told for name in ("SLURM_ARRAY", "SLURM_JOB", "SLURM_CPUS"))


# --- Templates ---------------------------------------------------------------------------------------


def test_our_template_is_printed_and_gives_the_same_script_again(picas: Shell, fakes: Fakes) -> None:
    printed = picas.here("submit", "slurm", "--template")
    assert printed.out.startswith("#!/bin/bash\n")
    picas.write("my.sh", printed.out)
    assert (
        picas.here("submit", "slurm", "--cores", "4", "--dry-run").out
        == picas.here("submit", "slurm", "--cores", "4", "--dry-run", "--template", "my.sh").out
    )


def test_a_template_of_the_users_is_used(picas: Shell, fakes: Fakes) -> None:
    picas.write("my.sh", "#!/bin/zsh\n{{export}}\nnice {{command}}\n")
    assert picas.here("submit", "slurm", "--template", "my.sh").code == 0
    assert script_of(picas).startswith("#!/bin/zsh\nexport PICAS_POOL=")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{export}}\n{{comand}}\n", "line 2 of the template: there is nothing called {{comand}}"),
        ("{{export}}\nsleep 1\n", "the template has no {{command}}, so its script would start no pilot"),
        ("{{command}}\n", "the template has no {{export}}, and export is asked for"),
        ("{{export}}\n{{command}}\n", "the template has no {{memory}}, and memory is asked for"),
    ],
)
def test_a_template_with_a_mistake_is_refused(
    picas: Shell, fakes: Fakes, template: str, message: str
) -> None:
    picas.write("my.sh", template)
    answer = picas.here("submit", "slurm", "--memory", "4GB", "--template", "my.sh")
    assert answer.code == 2
    assert answer.err.startswith(f"picas: {message}\n") or f"\npicas: {message}\n" in answer.err
    assert not any(call.startswith("sbatch") for call in fakes.calls)


# --- What is refused before anything is submitted ----------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--pilots", "0"], "0 is not in the range x>=1"),
        (["--time", "soon"], "--time: 'soon' is not a time"),
        (["--memory", "much"], "--memory: 'much' is not a size"),
        (["--signal", "KILL@1"], "no program can heed SIGKILL"),
        (["--name", "a b"], "--name: 'a b' is no name for a job"),
        (["--name", "../x"], "--name: '../x' is no name for a job"),
        (["--array", "5-1"], "'5-1' is no array"),
        (["--array", "0-5", "--pilots", "6"], "--array and --pilots are two ways to say how many"),
        (["--array", "0-100"], "indices of arrays end at 99 here"),
        (["--venv", "nowhere"], "--venv: nowhere is no virtual environment"),
        (["--bundle", "nothing.pyz"], "--bundle: there is no file"),
        (["--template", "nothing.sh"], "--template: nothing.sh cannot be read"),
        (["--option", "qos=x"], "'qos=x' is no option of sbatch"),
        (["--frobnicate"], "no such option"),
        (["--", "--frobnicate"], "no such option"),
        (["--", "--max-time", "soon"], "--max-time: 'soon' is not a time"),
        (["--", "--until", "soon"], "'soon' is not a moment"),
        (["--", "--signal", "NONE"], "there is no signal 'NONE'"),
        (["--", "--where", "cores ="], "cores ="),
        (["--", "--pool", "sqlite:///other.db"], "--pool must stand before the --"),
        (["--signal", "USR1@60", "--", "--signal", "USR1@30"], "--signal is given twice"),
    ],
)
def test_a_mistake_is_told_before_anything_is_submitted(
    picas: Shell, fakes: Fakes, args: list[str], message: str
) -> None:
    answer = picas.here("submit", "slurm", *args)
    assert (answer.code, answer.out) == (2, "")
    assert message.lower() in answer.err.lower()
    assert not any(call.startswith("sbatch") for call in fakes.calls)
    assert not (picas.directory / "state").exists()


def test_no_pilots_are_started_for_a_pool_that_is_not_there(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "slurm", "--pool", "sqlite:///nowhere.db")
    assert answer.code == 1
    assert "there is no pool at sqlite:///nowhere.db" in answer.err
    assert fakes.calls == []


def test_a_password_in_the_url_gets_into_no_script(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "slurm", "--pool", "https://me:secret@h.example.org/p", "--dry-run")
    assert answer.code == 2
    assert "would have to stand in the job script" in answer.err
    assert "secret" not in answer.err + answer.out


def test_jobs_are_asked_about_with_a_password_in_the_url_too(picas: Shell, fakes: Fakes) -> None:
    url = ("--pool", "https://me:secret@h.example.org/p")
    for verb in ("status", "cancel"):
        answer = picas.here("submit", verb, *url)
        assert (answer.code, "secret" in answer.out) == (0, False)


# --- A Slurm that does not do what it should ---------------------------------------------------------


def failed(picas: Shell, *args: str) -> Answer:
    answer = picas.here("submit", "slurm", *args)
    assert (answer.code, answer.out) == (1, "")
    assert token_is_untouched(picas)
    return answer


def test_a_machine_without_sbatch_is_told(picas: Shell, fakes: Fakes) -> None:
    (fakes.folder / "sbatch").unlink()
    if Path("/usr/bin/sbatch").exists():  # this machine has a real one
        picas.environment["PATH"] = os.environ["PATH"] = str(fakes.folder)
    answer = failed(picas)
    assert "there is no command 'sbatch' on this machine" in answer.err
    assert "no token was touched" in answer.err
    assert picas.here("submit", "status").out.startswith("no jobs for ")


def test_what_sbatch_refuses_is_shown_whole_with_the_script(picas: Shell, fakes: Fakes) -> None:
    fakes.add(
        "sbatch",
        "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; echo second >&2; exit 1",
    )
    answer = failed(picas)
    (path,) = (picas.directory / "state").rglob("*.sh")
    assert f"sbatch --parsable {path} ended with exit code 1:\n" in answer.err
    assert "sbatch: error: Batch job submission failed: Invalid account\nsecond\n" in answer.err
    assert f"The script is {path}." in answer.err
    assert picas.here("submit", "status").out.startswith("no jobs for ")


def test_a_slurm_that_does_not_answer_may_have_heard(picas: Shell, fakes: Fakes) -> None:
    fakes.add("sbatch", "sleep 60")
    answer = failed(picas, "--patience", "0.5s")
    assert "did not answer within 0.5 s" in answer.err
    assert "may have been heard nevertheless" in answer.err
    shown = picas.here("submit", "status")
    assert "no answer has come to its submission" in shown.out
    [job] = picas.here("submit", "status", "--json").json["jobs"]
    assert (job["ids"], job["alive"]) == ([], 1)


def test_an_answer_that_nobody_understands_is_shown(picas: Shell, fakes: Fakes) -> None:
    fakes.add("sbatch", "echo 'The budget office will call you.'")
    assert "sbatch tells no job's id, but: The budget office will call you." in failed(picas).err
    assert "no answer has come" in picas.here("submit", "status").out


def test_of_several_arrays_those_before_the_refused_one_are_told(picas: Shell, fakes: Fakes) -> None:
    fakes.add("sbatch", 'case "$2" in *-1.sh) echo 77;; *) echo full >&2; exit 1;; esac')
    answer = failed(picas, "--pilots", "150")
    assert "Before it, 100 pilots were submitted: 77; picas submit cancel." in answer.err
    assert [job["ids"] for job in picas.here("submit", "status", "--json").json["jobs"]] == [["77"]]


def test_a_site_that_tells_no_limit_is_taken_at_slurms_own(picas: Shell, fakes: Fakes) -> None:
    fakes.add("scontrol", "exit 1")
    assert picas.here("submit", "slurm", "--pilots", "1001").code == 0
    assert "#SBATCH --array=0-1000\n" in script_of(picas)


# --- Afterwards --------------------------------------------------------------------------------------


def test_status_counts_the_pilots_in_each_phase(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm", "--pilots", "6", "--name", "fits").code == 0
    fakes.add("squeue", "for n in 0 1; do echo \"77_$n|RUNNING|None\"; done; echo '77_2|PENDING|Priority'")
    answer = picas.here("submit", "status")
    head, row, detail = answer.out.splitlines()
    assert head.split() == "job with name pilots queued running ended submitted".split()
    assert row.split()[:7] == ["77", "slurm", "fits", "6", "1", "2", "3"]
    assert detail == "77: 1 PENDING (Priority)"
    [job] = picas.here("submit", "status", "--json").json["jobs"]
    assert job["alive"] == 3
    assert job["pilots_in"] == {"queued": 1, "running": 2, "ended": 3, "failed": 0, "unknown": 0}


def test_jobs_that_are_over_are_shown_once_and_then_on_request(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm").code == 0
    fakes.add("squeue", "echo '77|FAILED|NonZeroExitCode'")
    assert "77: 1 FAILED (NonZeroExitCode)" in picas.here("submit", "status").out
    assert picas.here("submit", "status").out.startswith("no jobs for ")
    assert "\n77 " in picas.here("submit", "status", "--all").out
    [job] = picas.here("submit", "status", "--all", "--json").json["over"]
    assert (job["ids"], job["outcome"]) == (["77"], "1 FAILED (NonZeroExitCode)")


def test_a_job_that_slurm_does_not_know_yet_is_not_over(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm").code == 0
    fakes.add("squeue", "")
    [job] = picas.here("submit", "status", "--json").json["jobs"]
    assert (job["alive"], job["ended"]) == (1, None)


def test_a_slurm_that_is_down_ends_no_job(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm").code == 0
    fakes.add("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    answer = picas.here("submit", "status")
    assert answer.code == 1
    assert "Unable to contact slurm controller" in answer.err
    assert "\n77 " in answer.out
    fakes.add("squeue", "echo '77|RUNNING|None'")
    [job] = picas.here("submit", "status", "--json").json["jobs"]
    assert job["alive"] == 1


def test_of_several_batch_systems_those_that_answer_are_told(picas: Shell, fakes: Fakes) -> None:
    fakes.add("qsub", "echo 5.server")
    fakes.add("qstat", "echo down >&2; exit 1")
    assert picas.here("submit", "pbs").code == 0
    assert picas.here("submit", "slurm").code == 0
    answer = picas.here("submit", "status", "--json")
    assert answer.code == 1
    assert answer.error["message"].endswith("\ndown")
    assert [(job["launcher"], job["pilots_in"]["running"]) for job in answer.json["jobs"]] == [
        ("pbs", 0),
        ("slurm", 1),
    ]
    assert [job["alive"] for job in answer.json["jobs"]] == [1, 1]


def test_cancel_takes_all_jobs_or_those_named(picas: Shell, fakes: Fakes) -> None:
    assert picas.here("submit", "slurm").code == 0
    fakes.add("sbatch", "echo 78")
    assert picas.here("submit", "slurm", "--pilots", "6").code == 0
    assert picas.here("submit", "cancel").out == "cancelled 77 78\n"
    assert picas.here("submit", "cancel", "78_3").out == "cancelled 78_3\n"
    assert fakes.calls[-2:] == ["scancel 77 78", "scancel 78_3"]


def test_cancel_of_a_job_that_is_not_of_this_pool_is_refused(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "cancel", "5")
    assert (answer.code, fakes.calls) == (2, [])
    assert "no job 5 of this pool is known here" in answer.err


def test_nothing_to_cancel_is_no_error(picas: Shell, fakes: Fakes) -> None:
    answer = picas.here("submit", "cancel")
    assert (answer.code, fakes.calls) == (0, [])
    assert answer.out.startswith("no jobs to cancel for ")


def test_the_scripts_are_such_as_bash_can_read(picas: Shell, fakes: Fakes) -> None:
    words = ["--directory", "a 'b\" $c", "--cores", "4", "--", "--", "echo", "it's", "$HOME", "`x`"]
    assert picas.here("submit", "slurm", *words).code == 0
    checked = subprocess.run(
        ["bash", "-n"], input=script_of(picas), text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_template_is_told_in_json_too(picas: Shell, fakes: Fakes) -> None:
    told = picas.here("submit", "slurm", "--template", "--json").json
    assert told["launcher"] == "slurm"
    assert "exec {{command}}" in told["template"]
