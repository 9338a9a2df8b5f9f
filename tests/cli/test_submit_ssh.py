"""`picas submit ssh`: pilots on other machines, by a real ssh to a real server of it on this one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb.processes import wait_until
from tests.sshd import SshServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Shell

SECONDS = 120.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home directory on the other machines, whose login shell greets people."""
    home = tmp_path_factory.mktemp("home")
    (home / ".bash_profile").write_text("echo 'Welcome to \"node\", maintenance on 261122-060000'\n")
    return home


@pytest.fixture(scope="module")
def sshd(home: Path) -> Iterator[SshServer]:
    """The server of the machines."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    yield from serving({"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8"})


@pytest.fixture
def shell(picas: Shell, sshd: SshServer, home: Path) -> Iterator[Shell]:
    """`picas` in an empty directory, from which ssh goes to those machines."""
    ours = {"PICAS_SSH": sshd.client, "XDG_STATE_HOME": str(picas.directory / "state")}
    picas.own.update(ours)
    picas.environment.update(ours)
    yield picas
    for path in home.glob(".local/state/picas/local/*/*.pid"):
        with contextlib.suppress(OSError):
            # only what is certainly one of them: a group of another number may be anybody's, and 1 stands for all
            pid = int(path.read_text())
            if str(path.parent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.killpg(pid, signal.SIGKILL)


def _push(shell: Shell, *lines: str) -> None:
    text = "".join(line + "\n" for line in lines)
    assert shell.here("push", shell.write("tokens.txt", text)).code == 0


def _jobs(shell: Shell) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = shell.here("submit", "status", "--json").json["jobs"]
    return jobs


def _wait(shell: Shell, condition: Any) -> None:
    wait_until(condition, SECONDS, lambda: shell.here("submit", "status").out)


def test_pilots_on_several_machines_do_all_the_work_and_leave(shell: Shell) -> None:
    _push(shell, *(f"echo {number}" for number in range(6)))
    answer = shell.here("submit", "ssh", "--host", "node1", "--hosts", shell.write("more", "node2 # old\n\n"))
    ids = re.findall(r"submitted 2 pilots to ssh: (\S+) (\S+)\n", answer.out)
    assert answer.code == 0, answer.err
    assert [each.partition(":")[0] for each in ids[0]] == ["node1", "node2"]
    _wait(shell, lambda: not _jobs(shell))
    assert shell.here("status", "--json").json["done"] == 6
    (over,) = shell.here("submit", "status", "--all", "--json").json["over"]
    assert (over["pilots"], over["outcome"]) == (2, "2 ended")


@pytest.mark.slow
def test_pilots_are_cancelled_on_all_machines(shell: Shell) -> None:
    _push(shell, "sleep 600", "sleep 600")
    assert shell.here("submit", "ssh", "--host=node1", "--host=node2", "--", "--wait").code == 0
    _wait(shell, lambda: shell.here("status", "--json").json["locked"] == 2)
    assert _jobs(shell)[0]["pilots_in"]["running"] == 2
    assert shell.here("submit", "cancel").code == 0
    _wait(shell, lambda: not _jobs(shell))
    assert shell.here("status", "--json").json["todo"] == 2


def test_machines_that_do_not_answer_keep_no_others_from_their_pilots(shell: Shell) -> None:
    _push(shell, "true")
    shell.own["PICAS_SSH"] += " -o ConnectTimeout=1"
    hosts = [f"--host={name}" for name in ("node1", "nobody", "silent")]
    answer = shell.here("submit", "ssh", *hosts, "--", "--wait")
    assert answer.code == 1
    assert "no pilots were started on\nnobody: ssh: connect to host 127.0.0.1" in answer.err
    assert "\nsilent: " in answer.err
    found = re.search(
        r"Pilots were started on the others: (node1:\S+)\. The script is /\S+\.sh\.", answer.err
    )
    assert found, answer.err
    (job,) = _jobs(shell)
    assert (job["ids"], job["pilots_in"]["running"]) == ([found[1]], 1)


def test_a_machine_that_no_longer_answers_is_not_taken_for_one_without_pilots(shell: Shell) -> None:
    _push(shell, "true")
    assert shell.here("submit", "ssh", "--host=node1", "--host=node2", "--", "--wait").code == 0
    _wait(shell, lambda: _jobs(shell)[0]["pilots_in"]["running"] == 2)
    client = Path(shell.own["PICAS_SSH"].split()[-1])
    text = client.read_text()
    broken = text.replace("Host node1 node2 node3", "Host node1\n  HostName 127.0.0.1\n  Port 1\nHost node2")
    shell.write("broken", broken.replace("Host node2", f"Host node2\n  Port {_port(text)}"))
    shell.own["PICAS_SSH"] = f"ssh -F {shell.path('broken')}"
    (job,) = _jobs(shell)
    assert (job["pilots_in"]["running"], job["pilots_in"]["unknown"], job["alive"]) == (1, 1, 2)
    assert "1 no answer (ssh: connect to host 127.0.0.1 port 1" in shell.here("submit", "status").out
    refused = shell.here("submit", "cancel")
    assert refused.code == 1
    assert "node1: ssh: connect to host" in refused.err


def _port(client: str) -> str:
    found = re.search(r"Port (\d+)", client)
    assert found
    return found[1]


def test_files_are_brought_for_nobody_else_to_read(shell: Shell, home: Path) -> None:
    _push(shell, "cat input.txt")
    shell.write("input.txt", "what was brought\n")
    place = home / "work of mine"
    where = ["--host=node1", f"--directory={place}", "--file=input.txt"]
    answer = shell.here("submit", "ssh", *where, "--", "--", "cat", f"{place}/input.txt")
    assert answer.code == 0, answer.err
    _wait(shell, lambda: not _jobs(shell))
    assert "what was brought" in shell.here("logs", "token_0").out
    assert stat.S_IMODE((place / "input.txt").stat().st_mode) == 0o600
    assert len(list(place.glob("picas-*_1.out"))) == 1


@pytest.mark.slow
def test_a_bundle_is_all_that_a_machine_needs(shell: Shell, home: Path) -> None:
    _push(shell, "true", "true")
    assert shell.here("bundle", "-o", "pilot.pyz").code == 0
    place = home / "bundled"
    answer = shell.here("submit", "ssh", "--host=node1", f"--directory={place}", "--bundle=pilot.pyz")
    assert answer.code == 0, answer.err
    _wait(shell, lambda: not _jobs(shell))
    assert shell.here("status", "--json").json["done"] == 2
    assert stat.S_IMODE((place / "pilot.pyz").stat().st_mode) == 0o600


def test_a_problem_over_there_is_told_whole(shell: Shell) -> None:
    _push(shell, "true")
    answer = shell.here("submit", "ssh", "--host=node1", "--setup=echo no such module >&2; exit 3")
    assert answer.code == 1
    assert "node1: no such module" in answer.err
    assert re.search(r"The script is /\S+/picas\.sh\.", answer.err)
    assert _jobs(shell) == []
    assert shell.here("status", "--json").json["todo"] == 1


def test_without_ssh_it_is_told(shell: Shell) -> None:
    _push(shell, "true")
    shell.own["PICAS_SSH"] = "/nowhere/ssh"
    answer = shell.here("submit", "ssh", "--host=node1")
    assert answer.code == 1
    assert "node1: /nowhere/ssh: No such file or directory" in answer.err


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ([], "no host is named"),
        (["--host=-oProxyCommand=touch x"], "'-oProxyCommand=touch x' is no host"),
        (["--host=node1;reboot"], "'node1;reboot' is no host"),
        (["--hosts=nowhere"], "--hosts: nowhere cannot be read"),
        (["--host=node1", "--file=nothing"], "there is no file"),
        (["--host=node1", "--gpus=1"], "no such option"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_done(
    shell: Shell, args: list[str], problem: str
) -> None:
    _push(shell, "true")
    answer = shell.here("submit", "ssh", *args)
    assert answer.code == 2
    assert problem in answer.err
