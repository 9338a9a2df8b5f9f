"""`picas submit local`: pilots in the background of this machine, as people without a batch system start them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.processes import wait_until

from picas.launchers.local import Local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Shell

SECONDS = 120.0

NO_PID = 2**30
"""More than any system has."""

FOREVER = "touch began; exec sleep 600"


def _push(shell: Shell, *lines: str) -> None:
    text = "".join(line + "\n" for line in lines)
    assert shell.here("push", shell.write("tokens.txt", text)).code == 0


def _counts(shell: Shell) -> dict[str, int]:
    counts: dict[str, int] = shell.here("status", "--json").json
    return counts


def _jobs(shell: Shell) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = shell.here("submit", "status", "--json").json["jobs"]
    return jobs


def _wait(shell: Shell, condition: Any) -> None:
    wait_until(condition, SECONDS, lambda: f"status is {shell.here('submit', 'status').out}\n{_logs(shell)}")


def _logs(shell: Shell) -> str:
    return "".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(shell.directory.glob("*.out")))


def _submit(shell: Shell, *args: str) -> str:
    answer = shell.here("submit", "local", "--json", *args)
    assert answer.code == 0, answer.err
    return str(answer.json["jobs"][0]["ids"][0])


def _state(shell: Shell, job: str) -> Path:
    return Path(shell.own["XDG_STATE_HOME"]) / "picas" / "local" / job


@pytest.fixture
def shell(picas: Shell) -> Iterator[Shell]:
    """`picas` in an empty directory; whatever was started there is killed in the end."""
    picas.own["XDG_STATE_HOME"] = picas.environment["XDG_STATE_HOME"] = str(picas.directory / "state")
    yield picas
    for path in (picas.directory / "state/picas/local").glob("*/*.pid"):
        with contextlib.suppress(OSError):
            # only what is certainly one of them: a group of another number may be anybody's, and 1 stands for all
            pid = int(path.read_text())
            if str(path.parent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.killpg(pid, signal.SIGKILL)


# --- What they do ---


@pytest.mark.any_pool
def test_pilots_in_the_background_do_all_the_work_and_leave(shell: Shell) -> None:
    _push(shell, *(f"echo {number}" for number in range(8)))
    answer = shell.here("submit", "local", "--pilots", "2", "--name", "fit", "--", "-v")
    job = re.findall(r"submitted 2 pilots to local: (\S+)", answer.out)
    assert answer.code == 0, answer.err
    assert len(job) == 1
    _wait(shell, lambda: not _jobs(shell))
    assert _counts(shell)["done"] == 8
    over = shell.here("submit", "status", "--all", "--json").json["over"]
    assert [(each["ids"], each["pilots"], each["outcome"]) for each in over] == [(job, 2, "2 ended")]
    logs = [shell.path(f"fit-{job[0]}_{number}.out").read_text() for number in (1, 2)]
    assert sum(len(re.findall(r"  done  ", log)) for log in logs) == 8


def test_they_outlive_the_terminal_and_cancel_puts_the_work_back(shell: Shell) -> None:
    _push(shell, FOREVER)
    terminal = shell.terminal("submit", "local", "--", "--wait")
    assert terminal.end() == 0  # and its terminal is closed, which tells HUP to all that is left on it
    _wait(shell, lambda: _counts(shell)["locked"] == 1)
    assert [(each["pilots_in"]["running"], each["alive"]) for each in _jobs(shell)] == [(1, 1)]
    (job,) = _jobs(shell)[0]["ids"]
    assert shell.here("submit", "cancel").out == f"cancelled {job}\n"
    _wait(shell, lambda: not _jobs(shell))
    assert (_counts(shell)["todo"], _counts(shell)["locked"]) == (1, 0)


def test_one_of_several_can_be_cancelled(shell: Shell) -> None:
    _push(shell, "true")
    job = _submit(shell, "--pilots", "2", "--", "--wait")
    _wait(shell, lambda: _counts(shell)["done"] == 1)
    assert shell.here("submit", "cancel", f"{job}_2").code == 0
    _wait(shell, lambda: _jobs(shell)[0]["pilots_in"]["failed"] == 1)
    assert _jobs(shell)[0]["pilots_in"]["running"] == 1
    assert "1 FAILED (stopped by SIGTERM)" in shell.here("submit", "status").out


def test_the_work_heeds_an_interrupt_even_if_who_started_the_pilots_does_not(shell: Shell) -> None:
    _push(shell, "grep SigIgn /proc/$$/status")
    starter = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as a shell does for what runs in its background
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    subprocess.run(
        [sys.executable, "-c", starter, sys.executable, "-m", "picas", "submit", "local"],
        cwd=shell.directory,
        env=shell.environment,
        check=True,
    )
    _wait(shell, lambda: _counts(shell)["done"] == 1)
    ignored = shell.here("logs", "token_0").out
    found = re.search(r"SigIgn:\s*([0-9a-f]+)", ignored)
    if found is None:
        pytest.skip("no /proc here")
    assert int(found[1], 16) & 1 << (signal.SIGINT - 1) == 0


@pytest.mark.slow
def test_a_pilot_leaves_when_its_time_is_over(shell: Shell) -> None:
    _push(shell, FOREVER)
    job = _submit(shell, "--time", "3s")
    _wait(shell, lambda: not _jobs(shell))
    assert _counts(shell)["todo"] == 1
    assert "its time is nearly over" in shell.path(f"picas-{job}_1.out").read_text()


# --- What goes wrong ---


def test_a_second_lot_of_the_same_name_is_not_unnoticed(shell: Shell) -> None:
    _push(shell, "true")
    first = _submit(shell, "--name", "one", "--", "--wait")
    other = shell.here("submit", "local", "--name", "other", "--", "--wait")
    twin = shell.here("submit", "local", "--name", "one", "--", "--wait")
    assert "already" not in other.err
    assert f"1 pilot named one for this pool runs already, as {first}; more are added" in twin.err
    assert len(_jobs(shell)) == 3


def test_a_pilot_that_does_not_start_is_shown_as_failed(shell: Shell) -> None:
    _push(shell, "true")
    _submit(shell, "--setup", "echo no module today >&2", "--setup", "exit 7")
    _wait(shell, lambda: _state(shell, "").exists() and list(_state(shell, "").glob("*/*.exit")))
    assert "1 FAILED (exit code 7)" in shell.here("submit", "status").out
    assert "no module today" in _logs(shell)
    assert _counts(shell)["todo"] == 1


def test_a_pilot_that_was_killed_is_not_taken_for_one_that_runs(shell: Shell) -> None:
    _push(shell, "true")
    job = _submit(shell, "--", "--wait")
    mark = _state(shell, job) / "1.pid"
    pilot = int(mark.read_text())
    assert pilot > 1
    os.killpg(pilot, signal.SIGKILL)
    _wait(shell, lambda: not _jobs(shell))
    (over,) = shell.here("submit", "status", "--all", "--json").json["over"]
    assert over["outcome"] == "1 FAILED (killed, or the machine was started anew)"


def test_another_process_with_a_pilots_number_is_left_alone(shell: Shell) -> None:
    _push(shell, "true")
    job = _submit(shell)
    _wait(shell, (_state(shell, job) / "1.exit").exists)
    (_state(shell, job) / "1.exit").unlink()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            (_state(shell, job) / "1.pid").write_text(f"{stranger.pid}\n")
            assert shell.here("submit", "cancel", job).code == 0
            assert shell.here("submit", "status", "--json").json["jobs"][0]["pilots_in"]["failed"] == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_if_one_pilot_cannot_be_started_none_is(shell: Shell) -> None:
    _push(shell, "true")
    script = shell.write("job.sh", "#PICAS --pilots=3 --directory=nowhere\nexec sleep 600\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        subprocess.run(
            Local().submit_argv(script),
            cwd=shell.directory,
            env=shell.environment,
            check=True,
            capture_output=True,
        )
    assert b"pilot 1 of 3 cannot be started" in failed.value.stderr
    assert b"nowhere" in failed.value.stderr


def test_an_option_that_there_is_not_is_told_with_the_script(shell: Shell) -> None:
    _push(shell, "true")
    shell.write("mine.sh", "#PICAS --pilots={{pilots}} --nice=3\n{{export}}\n{{command}}\n")
    answer = shell.here("submit", "local", "--template", "mine.sh")
    assert answer.code == 1
    assert "unrecognized arguments: --nice=3" in answer.err
    assert re.search(r"The script is /\S+/picas\.sh\.", answer.err)
    assert _counts(shell)["todo"] == 1


@pytest.mark.parametrize("option", ["--gpus=1", "--memory=1GB", "--queue=short", "--account=me"])
def test_what_only_a_batch_system_can_give_is_no_option(shell: Shell, option: str) -> None:
    answer = shell.here("submit", "local", option)
    assert answer.code == 2
    assert option.partition("=")[0] in answer.err


def test_what_is_known_of_old_pilots_is_forgotten(shell: Shell) -> None:
    _push(shell, "true")
    old = _state(shell, "200101-000000-1")
    running = _state(shell, "200101-000000-2")
    for folder in (old, running):
        folder.mkdir(parents=True)
        (folder / "1.pid").write_text(f"{NO_PID}\n")
    (old / "1.exit").write_text("0\n")
    for folder in (old, running):
        os.utime(folder, (time.time() - 40 * 86_400,) * 2)
    _submit(shell)
    assert not old.exists()
    assert running.exists()
