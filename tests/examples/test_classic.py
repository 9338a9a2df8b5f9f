"""The examples that people know from 1.x, each as its README runs it, on an embedded pool and on CouchDB."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.couchdb import classic

from picas.clients import CouchDB
from picas.settings.credentials import split_login

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"


class Folder:
    """A copy of the examples, and the user whose configuration names the pool.

    Args:
        home: where the copy and the configuration are made.
        url: the pool's URL, with a login if there is one.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.path = home / "examples" / "classic"
        for name in ("classic", "fractals"):
            shutil.copytree(
                EXAMPLES / name, home / "examples" / name, ignore=shutil.ignore_patterns("fractals")
            )
        # tokens that take no time
        shutil.copy(EXAMPLES / "fractals" / "sweep-small.txt", home / "examples" / "fractals" / "sweep.txt")
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.configuration = home / ".config" / "picas" / "config.toml"
        self._configure(url)
        if url.startswith("sqlite:"):
            self.database = CouchDB(f"sqlite:///{self.path}/picas.db")
        else:
            self.database = CouchDB(*url.rsplit("/", 1))
        self.pool = self.database.pool

    def _configure(self, url: str) -> None:
        if url.startswith("sqlite:"):
            return  # no configuration is needed
        server, _, database = url.rpartition("/")
        server, username, password = split_login(server)
        login = (
            f'[couchdb]\nusername = "{username}"\npassword = "{password}"\n' if username and password else ""
        )
        names = {
            "HOST_URL": server,
            "DATABASE": database,
            "USERNAME": username or "",
            "PASSWORD": password or "",
        }
        lines = [f"PICAS_{name} = {value!r}\n" for name, value in names.items()]
        (self.path / "picasconfig.py").write_text("".join(lines))
        self.configuration.parent.mkdir(parents=True)
        self.configuration.write_text(f'pool = "{server}/{database}"\n{login}')
        self.configuration.chmod(0o600)

    def __call__(self, *words: str, **environment: str) -> str:
        """Run a command in the folder; what it printed."""
        ended = subprocess.run(
            words,
            cwd=self.path,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @property
    def counts(self) -> dict[str, int]:
        """How many tokens are in which state; states without any are left out."""
        return {state.value: count for state, count in self.pool.counts().items() if state and count}


@pytest.fixture
def folder(tmp_path: Path, pool_url: str) -> Iterator[Folder]:
    """A copy of the examples, with an empty pool."""
    folder = Folder(tmp_path, pool_url)
    yield folder
    folder.pool.close()


def _touch(folder: Folder, token_id: str, **fields: int) -> None:
    """Let a token look as a pilot of long ago has left it."""
    token = folder.database.get(token_id)
    token.update(fields)
    folder.database.save(token)


@pytest.mark.any_pool
def test_the_views_show_each_its_tokens(folder: Folder) -> None:
    folder("./push_tokens.sh", "autopilot")
    folder("./create_views.sh")
    code = (
        "import picasconfig as c\n"
        "from picas.clients import CouchDB\n"
        "db = CouchDB(c.PICAS_HOST_URL, c.PICAS_DATABASE, c.PICAS_USERNAME, c.PICAS_PASSWORD)\n"
        "print([len(db.view('todo', design_doc=name).rows) for name in ('Monitor', 'SingleCore', 'MultiCore')])"
    )
    assert folder("python", "-c", code) == "[4, 2, 2]\n"


@pytest.mark.any_pool
def test_tokens_are_pushed_once(folder: Folder) -> None:
    for kind in ("quick", "fractals", "autopilot", "quick"):
        folder("./push_tokens.sh", kind)
    assert folder.counts == {"todo": 5 + 6 + 4}
    assert sorted(token.body.get("cores", 0) for token in folder.pool.tokens())[-4:] == [1, 1, 4, 4]


@pytest.mark.any_pool
def test_a_pilot_of_ones_own_prints_what_it_works_on(folder: Folder) -> None:
    folder("./push_tokens.sh", "quick")
    printed = folder("python", "local_example.py")
    assert folder.counts == {"done": 5}
    assert re.findall(r"^Working on token: (.*)$", printed, re.MULTILINE) == [f"token_{n}" for n in range(5)]
    first = printed.split("-----------------------\n")[1:3]
    assert first[0].splitlines()[0] == "Working on token: token_0"
    assert {"type token", 'input echo "Hello from a token"'} <= set(first[0].splitlines())
    log = b"".join(folder.pool.read_attachment("token_0", "logs_token_0.out")).decode()
    assert "Hello from a token" in log.splitlines()


def test_a_pilot_of_ones_own_runs_with_1x_too(real_couchdb: object, database: str, tmp_path: Path) -> None:
    python = classic.python()
    if python is None:
        pytest.skip("picasclient 1.x is not installed: run scripts/classic.sh")
    folder = Folder(tmp_path, database)
    folder("./push_tokens.sh", "quick")
    folder("./create_views.sh")
    printed = folder(str(python), "local_example.py")
    assert sorted(re.findall(r"^Working on token: (.*)$", printed, re.MULTILINE)) == [
        f"token_{n}" for n in range(5)
    ]
    assert folder.counts == {"done": 5}
    folder.pool.close()


@pytest.mark.any_pool
def test_a_pilot_of_ones_own_runs_another_script(folder: Folder) -> None:
    if shutil.which("cc") is None and "CI" not in os.environ:
        pytest.skip("needs a C compiler, named cc")
    folder("./push_tokens.sh", "fractals")
    folder("python", "local_example.py", "../fractals/process_task.sh")
    assert folder.counts == {"done": 6}


def test_a_task_runs_the_input_and_fails_as_it_fails() -> None:
    script = EXAMPLES / "classic" / "process_task.sh"
    for command, code, said in (("echo hello", 0, b"hello\n"), ("exit 5", 5, b"token_7")):
        ended = subprocess.run([script, command, "token_7"], capture_output=True, check=False, timeout=60)
        assert (ended.returncode, said in ended.stdout) == (code, True)


@pytest.mark.any_pool
def test_a_slurm_job_runs_tokens_that_name_it(folder: Folder) -> None:
    folder("picas", "push", "--sweep", "n=0:3:1", "--input", "picas show $PICAS_TOKEN_ID --json")
    job = {
        "SLURM_JOB_ID": "70",
        "SLURM_ARRAY_JOB_ID": "42",
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_CPUS_PER_TASK": "2",
    }
    folder("bash", "slurm_example.sh", **job)
    assert folder.counts == {"done": 4}
    lines = folder("picas", "logs", "token_0").splitlines()
    seen = next(json.loads(line) for line in lines if line.startswith("{"))
    assert seen["slurm_job_id"] == "42_7"


@pytest.mark.any_pool
def test_tokens_of_autopilot_fit_into_the_cores_of_a_pilot(folder: Folder) -> None:
    folder("./push_tokens.sh", "autopilot")
    folder("bash", "slurm_example.sh", SLURM_CPUS_PER_TASK="4")
    assert folder.counts == {"done": 4}
    logs = [folder("picas", "logs", f"token_{n}") for n in (0, 2)]
    assert "I have one core, as PICAS_CORES says: 1" in logs[0]
    assert "I have four cores, as PICAS_CORES says: 4" in logs[1]


@pytest.mark.any_pool
def test_reset_and_delete_go_by_state_and_age(folder: Folder) -> None:
    folder("./push_tokens.sh", "quick")
    old = int(time.time()) - 3 * 86400
    for number, when in ((1, old), (2, old), (3, int(time.time()))):
        _touch(folder, f"token_{number}", lock=when)
    folder("./reset_tokens.sh", "locked", "24")
    assert folder.counts == {"todo": 4, "locked": 1}
    folder("./reset_tokens.sh", "locked")
    assert folder.counts == {"todo": 5}
    for number, when in ((1, old), (3, int(time.time()))):
        _touch(folder, f"token_{number}", lock=when, done=when, exit_code=0)
    folder("./delete_tokens.sh", "done", "48")
    assert folder.counts == {"todo": 3, "done": 1}
    folder("./delete_tokens.sh", "todo")
    assert folder.counts == {"done": 1}
