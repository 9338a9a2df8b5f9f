"""`picas submit dirac` and the plain commands of DIRAC, with a fake of it: see `tests.grid.fake_dirac`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import tarfile
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from tests.couchdb.proxy import FaultProxy
from tests.grid.conftest import EXAMPLE, User
from tests.grid.fake_dirac import values

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "grid.md"

FETCH = (
    "dirac-wms-job-get-output 11",
    "tar xf 11/unsent.tar --transform 's,.*unsent/,unsent/,'",
    "PICAS_SPOOL=$PWD/unsent picas flush",
)
"""How results are fetched that a pilot could not send; it stands in the how-to."""

WORK = ("--", "--", "./process_task.sh", "{input}", "{id}")


@pytest.fixture
def example(user: User) -> User:
    """A user with the files of examples/grid, a file that stands for a bundle, and five tokens in the pool."""
    shutil.copytree(EXAMPLE, user.folder, dirs_exist_ok=True)
    (user.folder / "pilot.pyz").write_bytes(b"a bundle")
    user.pool.push((EXAMPLE / "tokens.txt").read_text().splitlines())
    return user


@pytest.fixture
def ready(example: User, bundle: Path) -> User:
    """The same with a bundle that runs."""
    shutil.copy(bundle, example.folder)
    return example


def _submit(user: User, *words: str, code: int = 0) -> str:
    given = ("--bundle", "pilot.pyz", "--file", "process_task.sh")
    return user("picas", "submit", "dirac", *given, *words, code=code)


def test_pilots_are_submitted_run_and_followed(ready: User) -> None:
    said = _submit(ready, "--pilots", "2", *WORK)
    assert "submitted 2 pilots to dirac: 11 12" in said
    assert list(ready.grid.jobs) == [11, 12]
    status = json.loads(ready("picas", "submit", "status", "--json"))["jobs"]
    assert (status[0]["ids"], status[0]["pilots_in"]["queued"]) == (["11", "12"], 2)

    assert ready.grid.run(11, {"PATH": os.environ["PATH"]}) == 0
    assert ready.counts() == {"done": 5}
    assert {token["dirac_job_id"] for token in ready.tokens().values()} == {"11"}
    log = b"".join(ready.pool.read_attachment("token_0", "logs_token_0.out")).decode()
    assert "in job 11\nHello from the Grid\n" in log

    status = json.loads(ready("picas", "submit", "status", "--json"))["jobs"]
    assert (status[0]["pilots_in"]["ended"], status[0]["pilots_in"]["queued"]) == (1, 1)
    ready("picas", "submit", "cancel")
    assert ready.grid.jobs[12]["status"] == "Killed"


def test_the_plain_way_of_1x(ready: User) -> None:
    shutil.copy(ready.configuration, ready.folder)
    said = ready("dirac-wms-job-submit", "grid-example.jdl")
    assert f"JobID = {list(range(11, 21))}\n" in said
    assert ready.grid.run(13, {"PATH": os.environ["PATH"]}) == 0
    assert ready.counts() == {"done": 5}
    assert {token["dirac_job_id"] for token in ready.tokens().values()} == {"13"}
    ready("dirac-wms-job-get-output", "13")
    assert (ready.folder / "13" / "pilot.out").read_text().startswith("5 done in ")
    assert (ready.folder / "13" / "pilot.err").read_text() == ""
    assert ready("dirac-wms-job-status", "13").endswith("JobID=13 Status=Done; MinorStatus=; Site=ANY; \n")


def test_the_plain_files_are_what_would_be_submitted(example: User) -> None:
    said = _submit(example, "--pilots", "10", "--dry-run", "--json", "--", "--max-scrub", "2", *WORK[1:])
    (script,) = json.loads(said)["scripts"]
    assert script["text"] == (EXAMPLE / "grid-example.jdl").read_text()
    # what is not asked for leaves an empty line
    assert (
        script["companions"]["startpilot.sh"].replace("\n\n\n", "\n\n")
        == (EXAMPLE / "startpilot.sh").read_text()
    )
    assert example.grid.jobs == {}


def test_the_login_travels_in_a_file_for_its_owner_alone_and_in_nothing_else(example: User) -> None:
    said = _submit(example, "--option", 'JobGroup = "paper"', *WORK)
    assert example.password not in said
    with tarfile.open(example.grid.jobs[11]["sandbox"]) as archive:
        texts = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        modes = {member.name: stat.S_IMODE(member.mode) for member in archive}
    assert set(texts) == {"startpilot.sh", "config.toml", "process_task.sh", "pilot.pyz"}
    assert [name for name, text in texts.items() if example.password.encode() in text] == ["config.toml"]
    assert modes["config.toml"] == 0o600
    kept = [path for path in example.configuration.parents[2].rglob("*") if path.is_file()]
    assert [path for path in kept if example.password.encode() in path.read_bytes()] == [
        example.configuration
    ]
    assert values((next(path for path in kept if path.suffix == ".jdl")).read_text())["JobGroup"] == "paper"


def test_more_pilots_than_a_jdl_may_make_are_several(example: User) -> None:
    said = json.loads(_submit(example, "--pilots", "45", "--json", *WORK))
    assert [job["pilots"] for job in said["jobs"]] == [20, 20, 5]
    assert len(example.grid.jobs) == 45
    assert len({job["jdl"]["ParameterStart"] for job in example.grid.jobs.values()}) == 3


def test_autopilot_starts_pilots_on_the_grid(example: User) -> None:
    (example.folder / "autopilot.toml").write_text(
        'work-per-pilot = "10s"\ntoken-time = "5s"\n'
        '[profiles.SingleCore]\nlauncher = "dirac"\ntime = "8h"\n'
        'bundle = "pilot.pyz"\nfile = ["process_task.sh"]\noption = ["JobGroup = \\"auto\\""]\n'
        'command = ["./process_task.sh", "{input}", "{id}"]\n'
    )
    said = example("picas", "autopilot", "--once")
    assert "started 3 pilots of SingleCore: dirac 11 … 13" in said
    jobs = example.grid.jobs
    assert {job["jdl"]["JobGroup"] for job in jobs.values()} == {"auto"}
    with tarfile.open(jobs[11]["sandbox"]) as archive:
        assert "config.toml" in archive.getnames()
    # they wait, so there are enough
    assert "started" not in example("picas", "autopilot", "--once")
    assert example.grid.jobs == jobs


def test_a_program_of_1x_runs_with_the_picas_of_the_bundle(ready: User) -> None:
    classic = EXAMPLE.with_name("classic")
    for name in ("local_example.py", "process_task.sh"):
        shutil.copy(classic / name, ready.folder)
    address, _, database = ready.pool.url.rpartition("/")
    login = {"HOST_URL": address, "DATABASE": database, "USERNAME": "admin", "PASSWORD": ready.password}
    lines = [f"PICAS_{name} = {value!r}\n" for name, value in login.items()]
    (ready.folder / "picasconfig.py").write_text("".join(lines))
    (own,) = re.findall(r"```sh\n(.*?)\n```", HOW_TO.read_text(), re.DOTALL)
    start = (ready.folder / "startpilot.sh").read_text()
    (ready.folder / "startpilot.sh").write_text(start[: start.rindex("exec ")] + own + "\n")
    jdl = (ready.folder / "grid-example.jdl").read_text()
    assert '"process_task.sh",' in jdl
    files = '"process_task.sh", "local_example.py", "picasconfig.py",'
    (ready.folder / "grid-example.jdl").write_text(jdl.replace('"process_task.sh",', files))
    shutil.copy(ready.configuration, ready.folder)
    ready("dirac-wms-job-submit", "grid-example.jdl")
    assert ready.grid.run(11, {"PATH": os.environ["PATH"]}) == 0
    assert ready.counts() == {"done": 5}
    assert {token["dirac_job_id"] for token in ready.tokens().values()} == {"11"}
    ready("dirac-wms-job-get-output", "11")
    assert "Working on token: token_0" in (ready.folder / "11" / "pilot.out").read_text()


@pytest.mark.slow  # a pilot that is told to go tries for some time to send what it has
def test_a_result_that_the_pool_cannot_take_comes_back_with_the_output(
    tmp_path: Path, couchdb: Any, database: str, bundle: Path
) -> None:
    go, begun = tmp_path / "go", tmp_path / "begun"
    work = f"seq 100000; touch {begun}; until [ -e {go} ]; do sleep 0.05; done; echo at last"
    with FaultProxy(couchdb.origin) as proxy:
        user = User(tmp_path, proxy.through(database))
        user.pool.push([work])
        user("picas", "submit", "dirac", "--bundle", str(bundle), "--", "--lease", "0s")
        job = user.grid.start(11, {"PATH": os.environ["PATH"]})
        _until(begun.exists)
        proxy.refuse()
        proxy.cut()
        go.touch()
        place = user.grid.home / "11" / "place"
        _until(lambda: b"at last" in b"".join(path.read_bytes() for path in _files(place / "unsent")))
        job.terminate()
        assert user.grid.wait(11, job) == 128 + signal.SIGTERM
        proxy.listen()
        assert user.counts() == {"locked": 1}

        shutil.move(place, tmp_path / "away")
        assert user("sh", "-ec", "\n".join(FETCH)).endswith("sent 1 result\n")
        assert user.counts() == {"done": 1}
        log = b"".join(user.pool.read_attachment("token_0", "logs_token_0.out"))
        assert log.endswith(b"100000\nat last\n")
        user.pool.close()


@pytest.mark.slow  # a bundle is made
@pytest.mark.parametrize("page", [HOW_TO, EXAMPLE / "README.md"], ids=lambda page: page.name)
def test_every_command_of_the_pages_does_what_they_say(example: User, page: Path) -> None:
    example.pool.delete(example.pool.tokens())
    lines = re.findall(
        r"^(?:\$ |    )((?:picas|dirac|cp|rm|cat|tar|PICAS_).*)$", page.read_text(), re.MULTILINE
    )
    assert len(lines) >= 8
    last = max(number for number, line in enumerate(lines) if line in FETCH[1:]) if page == HOW_TO else None
    if last is not None:  # these are run where there is something to fetch
        assert tuple(lines[last - 2 : last + 1]) == FETCH
        del lines[last - 2 : last + 1]
    for line in lines:
        if "get-output" in line:
            assert example.grid.run(11, {"PATH": os.environ["PATH"]}) == 0
        example("sh", "-ec", line.replace("{input} {id}", "'{input}' '{id}'"))
    assert example.counts() == {"done": 5}
    assert {token["dirac_job_id"] for token in example.tokens().values()} == {"11"}
    assert not (example.folder / "config.toml").exists()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- What goes wrong ---------------------------------------------------------------------------------


def test_what_dirac_says_is_shown_with_the_path_of_the_jdl(example: User) -> None:
    said = _submit(example, "--pilots", "50", "--max-array", "50", *WORK, code=1)
    assert "Number of parametric jobs exceeds the limit of 20" in said
    assert "picas.jdl" in said.rpartition("The script is ")[2]
    assert example.counts() == {"todo": 5}
    assert example("picas", "submit", "status").startswith("no jobs for ")


def test_a_machine_without_dirac(example: User) -> None:
    shutil.rmtree(example.grid.bin)
    said = _submit(example, *WORK, code=1)
    assert "there is no command 'dirac-wms-job-submit' on this machine" in said
    assert example.counts() == {"todo": 5}


def test_a_sandbox_that_is_too_large_names_what_fills_it(example: User) -> None:
    (example.folder / "table").mkdir()
    (example.folder / "table" / "part.bin").write_bytes(os.urandom(600_000))
    (example.folder / "zeros.txt").write_bytes(bytes(600_000))
    said = _submit(example, "--file", "table", "--file", "zeros.txt", "--max-sandbox", "500kB", *WORK, code=2)
    assert "what travels with each job is 0.6 MB" in said
    assert "no more than 0.5 MB may" in said
    assert f"{example.folder}/table (0.6 MB)" in said
    # zeros are hardly anything when they are compressed
    _submit(example, "--file", "zeros.txt", "--max-sandbox", "500kB", *WORK)
    assert len(example.grid.jobs) == 1


def test_a_mistake_is_told_before_anything_is_submitted(example: User) -> None:
    (example.folder / "more").mkdir()
    for name in ("process_task.sh", "startpilot.sh"):
        shutil.copy(EXAMPLE / name, example.folder / "more")
    for words, said in (
        (("--file", "none.dat"), "there is no "),
        (("--file", "process_task.sh", "--file", "more/process_task.sh"), "two files called process_task.sh"),
        (("--file", "more/startpilot.sh"), "two files called startpilot.sh"),
        (("--option", "Site"), "is no attribute of a JDL"),
        (("--bundle", "none.pyz"), "there is no file "),
        (("--pool", "sqlite:///mine.db"), "which the machines of a grid cannot reach"),
        (("--time", "10s"), "DIRAC takes 100 to 500000 seconds"),
    ):
        assert said in _submit(example, *words, *WORK, code=2)
    assert example.grid.jobs == {}


def test_picas_has_to_come_from_somewhere(example: User) -> None:
    said = example("picas", "submit", "dirac", *WORK, code=2)
    assert "machines of the Grid have no picas" in said
    assert "picas bundle" in said


def test_a_dirac_that_does_not_answer(example: User) -> None:
    (example.grid.bin / "dirac-wms-job-submit").write_text("#!/bin/sh\nexec sleep 100\n")
    said = _submit(example, "--patience", "1s", *WORK, code=1)
    assert "did not answer within 1 s" in said
    assert "no answer has come to its submission" in example("picas", "submit", "status")
