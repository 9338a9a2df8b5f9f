"""Commands in containers: what the runtimes are called with, and what becomes of the work in them.

The runtimes are stand-ins: see `tests.pilot.runtimes`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pilot import runtimes

from picas.errors import InvalidInput
from picas.staging.plan import Staging
from picas.work.containers import RUNTIMES, Container

GOLDEN = Path(__file__).parent / "golden"
PATIENCE = 120.0


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder for runtimes on PATH, where there are no real ones."""
    place = tmp_path / "bin"
    place.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in "bash sh env cat cp ls grep kill dirname basename setsid sleep touch sha256sum".split():
        (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", f"{place}:{tools}")
    return place


def as_golden(argv, place):
    return (
        "\n".join(argv).replace(str(place), "/bin").replace(f"{os.getuid()}:{os.getgid()}", "UID:GID") + "\n"
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_command_line_is_the_one_that_was_agreed_on(machine, runtime, monkeypatch):
    runtimes.put(machine, runtime)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/ann"))
    container = Container("python:3.12", ["--nv" if runtime in RUNTIMES[:2] else "--gpus=all"])
    argv = container.argv(
        ["./work.py", "a b"],
        "/scratch/picas-x/0123",
        "/scratch/picas-x/0123/work",
        "0123",
        ["PICAS_TOKEN_ID", "PICAS_OUTPUT"],
    )
    assert as_golden(argv, machine) == (GOLDEN / f"{runtime}.txt").read_text()


@pytest.mark.parametrize(
    ("image", "there", "taken"),
    [
        ("python:3.12", ["apptainer", "docker"], "docker"),
        ("python:3.12", ["singularity", "apptainer"], "apptainer"),
        ("docker://python:3.12", ["apptainer", "docker"], "apptainer"),
        ("library://alpine", ["singularity", "docker"], "singularity"),
        ("./image.sif", ["apptainer", "docker"], "apptainer"),
    ],
)
def test_the_image_says_which_runtime_is_meant(machine, tmp_path, monkeypatch, image, there, taken):
    runtimes.put(machine, *there)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.sif").touch()
    assert Container(image).runtime == taken


@pytest.mark.parametrize(
    ("image", "options", "runtime", "said"),
    [
        ("python:3.12", [], "", "there is no docker or apptainer or singularity"),
        ("docker://a", [], "", "there is no apptainer or singularity"),
        ("none.sif", [], "", "there is no image none.sif"),
        ("--privileged", [], "", "is no image"),
        ("", [], "", "is no image"),
        ("a", ["/data"], "", "is no option"),
        ("a", [], "lxc", "there is no container runtime 'lxc'"),
        ("docker://a", [], "docker", "docker cannot run docker://a"),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_claimed(machine, image, options, runtime, said):
    with pytest.raises(InvalidInput, match=said):
        Container(image, options, runtime)


def test_a_function_runs_in_no_container(bench, machine):
    runtimes.put(machine, "docker")
    with pytest.raises(InvalidInput, match="a function cannot run in a container"):
        bench.pilot(print, container=Container("python"))


@pytest.mark.parametrize("runtime", ["apptainer", "docker"])
def test_a_token_is_run_in_a_container(bench, machine, runtime):
    runtimes.put(machine, runtime)
    bench.push(
        {
            "input": 'echo "$PICAS_TOKEN_ID $x,$PICAS_X"; echo \'{"a": 1}\' > "$PICAS_OUTPUT"; touch new',
            "x": "1\n2",
        }
    )
    assert bench.run(container=Container("python:3.12"), collect=["new"]).done == 1
    assert bench.out() == "token_0 ,1\n2\n"
    assert bench.token()["output"] == {"a": 1}
    assert "new" in bench.token().attachments


def test_with_a_clean_environment_the_work_is_told_of_its_token_too(bench, machine):
    runtimes.put(machine, "apptainer")
    bench.push("echo $PICAS_TOKEN_ID")
    assert bench.run(container=Container("image", ["--cleanenv"])).done == 1
    assert bench.out() == "token_0\n"


def test_a_program_of_the_users_is_there_by_its_relative_path(bench, machine):
    runtimes.put(machine, "docker")
    (bench.path / "work.sh").write_text("#!/bin/sh\necho mine $1\n")
    (bench.path / "work.sh").chmod(0o755)
    bench.push("a")
    assert bench.run(["./work.sh", "{input}"], container=Container("image")).done == 1
    assert bench.out() == "mine a\n"
    assert f"{bench.path}:{bench.path}:ro" in runtimes.calls(machine, "docker")[0]


def test_nothing_secret_is_on_the_command_line(bench, machine, monkeypatch):
    monkeypatch.setenv("PICAS_PASSWORD", "pw-s3cret")
    runtimes.put(machine, "docker")
    bench.push({"input": "echo [$PICAS_PASSWORD] $PICAS_KEY", "key": "s3cret"})
    assert bench.run(container=Container("image")).done == 1
    assert bench.out() == "[] s3cret\n"
    assert "s3cret" not in str(runtimes.calls(machine, "docker"))


@pytest.mark.parametrize(("runtime", "image"), [("docker", "no/such"), ("apptainer", "docker://no/such")])
def test_an_image_that_cannot_be_had_is_no_fault_of_the_work(bench, machine, runtime, image):
    runtimes.put(machine, runtime)
    bench.push("true")
    assert bench.run(container=Container(image), max_tasks=1).retried == 1
    last = bench.token().history[-1]
    assert last["failure"] == "infrastructure"
    assert last["message"].startswith(f"{runtime} failed: ")


@pytest.mark.parametrize(("runtime", "code"), [("docker", 125), ("apptainer", 255)])
def test_work_that_ends_with_the_runtimes_code_fails_by_itself(bench, machine, runtime, code):
    runtimes.put(machine, runtime)
    bench.push(f"echo my own >&2; exit {code}")
    assert bench.run(container=Container("image")).error == 1
    assert (bench.token()["exit_code"], bench.token().run["failure"]) == (code, "application")


@pytest.mark.parametrize("runtime", ["docker", "apptainer"])
def test_a_container_ends_with_its_token(bench, machine, runtime):
    runtimes.put(machine, runtime)
    bench.push("trap '' TERM; while :; do sleep 0.05; done")
    summary = bench.run(container=Container("image"), task_timeout=2.0, grace=0.3)
    assert summary.error == 1
    assert bench.token()["exit_code"] == 124
    claim = bench.token().run["claim"]
    removed = ["rm", "--force", f"picas-{claim}"] in runtimes.calls(machine, runtime)
    assert removed == (runtime == "docker")
    assert not bench.alive(pilots=True)


def test_a_warning_reaches_the_work_in_the_container(bench, machine, eventually):
    runtimes.put(machine, "docker")
    ready = bench.path / "ready"
    bench.push(f"trap 'echo warned; exit 0' USR1; touch {ready}; while :; do sleep 0.05; done")
    command = [sys.executable, "-m", "picas", "--pool", bench.url, "run", "--signal", "USR1@120"]
    with subprocess.Popen([*command, "--container", "image"], stderr=subprocess.DEVNULL) as pilot:
        eventually(ready.exists)
        pilot.send_signal(signal.SIGUSR1)
        assert pilot.wait(PATIENCE) == 0
    assert bench.out() == "warned\n"


def test_files_are_staged_outside_for_what_runs_inside(bench, machine):
    runtimes.put(machine, "docker")
    (bench.path / "a.txt").write_text("abc")
    (bench.path / "site").mkdir()
    bench.push(
        {
            "input": "cat a.txt > b.txt",
            "stage_in": str(bench.path / "a.txt"),
            "stage_out": {"url": f"{bench.path}/site/", "path": "b.txt"},
        },
    )
    # In a container tokens do not say what is run on the machine, so they may not name its files either.
    assert bench.run(container=Container("image"), max_tasks=1).retried == 1
    assert "at no site" in bench.token().history[-1]["message"]
    assert bench.run(container=Container("image"), staging=Staging(sites=[str(bench.path)])).done == 1
    assert (bench.path / "site/b.txt").read_text() == "abc"


def test_the_command_line_takes_the_options(picas_run, machine):
    runtimes.put(machine, "docker")
    answer = picas_run("--container", "image", "--container-option=--network=none", "--", "echo", "{input}")
    assert answer.returncode == 0, answer.stderr
    argv = runtimes.calls(machine, "docker")[0]
    assert argv[argv.index("--network=none") :] == ["--network=none", "image", "echo", "a"]
    answer = picas_run("--container", "none.sif")
    assert (answer.returncode, answer.stderr) == (
        2,
        "picas: there is no image none.sif\nCheck its path. No token was touched.\n",
    )


@pytest.fixture
def picas_run(bench):
    bench.push("a")
    command = [sys.executable, "-m", "picas", "--pool", bench.url, "run", "--scratch", str(bench.scratch)]
    return lambda *args: subprocess.run(
        [*command, *args], capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def tiny_image(place: Path) -> None:
    """A file system with a shell and little else in it, of programs and libraries of this machine."""
    for name in "bash sh cat id sleep touch".split():
        program = Path(str(shutil.which(name)))
        told = subprocess.run(["ldd", str(program)], stdout=subprocess.PIPE, text=True, check=True).stdout
        for path in (program, *(Path(word) for word in told.split() if word.startswith("/"))):
            target = place / (f"bin/{name}" if path is program else str(path).lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    for name in ("tmp", "proc", "dev", "sys", "etc"):
        (place / name).mkdir()


def docker(*args: str) -> str:
    return subprocess.run(["docker", *args], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def docker_image(tmp_path_factory):
    """An image for the real Docker."""
    if (
        not shutil.which("docker")
        or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no server of Docker answers on this machine")
    place = tmp_path_factory.mktemp("image")
    tiny_image(place / "root")
    archive = shutil.make_archive(str(place / "root"), "tar", place / "root")
    name = f"picas-test-{os.getpid()}"
    docker("import", archive, name)
    yield name
    docker("rmi", "--force", name)


@pytest.mark.slow
def test_the_real_docker_runs_tokens_and_leaves_nothing_behind(bench, docker_image, eventually):
    (bench.path / "work.sh").write_text("#!/bin/sh\necho mine $PICAS_INPUT; echo 1 > kept\n")
    (bench.path / "work.sh").chmod(0o755)
    bench.push(
        {"input": 'id -u; echo "$PICAS_X"; echo 1 > "$PICAS_OUTPUT"; touch new', "x": "1\n2"},
        "exit 7",
        "kill -SEGV $$",
        "trap '' TERM; while :; do sleep 0.1; done",
        "no-such-program",
    )
    container = Container(docker_image, ["--network=none"], "docker")
    summary = bench.run(container=container, collect=["new"], task_timeout=15.0, grace=0.5, workers=2)
    assert (summary.done, summary.error) == (1, 4)
    assert bench.out() == f"{os.getuid()}\n1\n2\n"
    assert bench.token()["output"] == {"result": 1}
    assert "new" in bench.token().attachments
    codes = [bench.token(f"token_{number}")["exit_code"] for number in range(1, 5)]
    assert codes == [7, 139, 124, 127]
    bench.push("again")
    assert bench.run(["./work.sh"], container=container).done == 1
    assert bench.out("token_5") == "mine again\n"
    eventually(lambda: docker("ps", "--all", "--quiet", "--filter", "name=picas-") == "")


@pytest.mark.slow
def test_the_real_docker_without_such_an_image_is_no_fault_of_the_work(bench, docker_image):
    bench.push("true")
    container = Container("picas-test-no-such-image", ["--pull=never"], "docker")
    assert bench.run(container=container, max_tasks=1).retried == 1
    last = bench.token().history[-1]
    assert last["failure"] == "infrastructure"
    assert "no-such-image" in last["message"]


@pytest.mark.slow
def test_a_signal_ends_the_real_dockers_container_and_the_token_goes_back(bench, docker_image, eventually):
    ready = "ready"
    bench.push(f"trap 'echo bye; exit 0' TERM; touch {ready}; while :; do sleep 0.1; done")
    command = [sys.executable, "-m", "picas", "--pool", bench.url, "run", "--scratch", str(bench.scratch)]
    options = [
        "--container",
        docker_image,
        "--container-runtime",
        "docker",
        "--container-option=--network=none",
    ]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as pilot:
        eventually(lambda: list(bench.scratch.rglob(ready)))
        pilot.send_signal(signal.SIGTERM)
        assert pilot.wait(PATIENCE) == 143
    assert bench.states() == {"token_0": "todo"}
    eventually(lambda: docker("ps", "--all", "--quiet", "--filter", "name=picas-") == "")


@pytest.mark.skipif(not shutil.which("docker"), reason="there is no docker on this machine")
def test_the_real_docker_without_its_server_is_no_fault_of_the_work(bench, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{bench.path}/none.sock")
    bench.push("true")
    assert bench.run(container=Container("image"), max_tasks=1).retried == 1
    last = bench.token().history[-1]
    assert last["failure"] == "infrastructure"
    assert last["message"].startswith("docker failed: docker: ")
