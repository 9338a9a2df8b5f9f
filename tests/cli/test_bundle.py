"""`picas bundle`: a pilot in one file, on machines that have nothing but Python."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb import certificates
from tests.couchdb.proxy import FaultProxy

from picas._version import __version__
from picas.bundling import archive, cache, compiling, contents, start, userfiles
from picas.bundling.loader import MANIFEST
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Shell

    Run = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE_SECONDS = 120
VERSION = sys.version_info[:2]

FIT = """
from pathlib import Path

def main(token):
    numbers = (Path(__file__).parent / "tables" / "numbers.txt").read_text().split()
    return {"sum": sum(map(int, numbers)) * int(token.input)}
"""
MEASURE = '#!/bin/sh\necho "$1 $(cat "$PICAS_BUNDLE_FILES/tables/numbers.txt")"\n'
ACTOR = """
import sys
from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute
from picas.iterators import TaskViewIterator
from picas.modifiers import BasicTokenModifier

class Actor(RunActor):
    def __init__(self, db):
        super().__init__(db, view="todo")

    def process_task(self, token):
        proc, code, out, err = execute(["bash", "-c", token["input"]])
        token["exit_code"] = code
        token.put_attachment("logs_" + token["_id"] + ".out", out)
        BasicTokenModifier().close(token)
        print(sys.argv[0], token["_id"], out.decode().strip(), token.__class__.__name__)

server, name = sys.argv[1:3]
user, password = sys.argv[3:] or (None, "")
Actor(CouchDB(server, name, user, password)).run()
"""
STATE = """
import json, sys
from picas.cli.main import run
code = run(sys.argv[1:])
loader = sys.meta_path[0]
print(json.dumps({"code": code, "prepared": loader.prepared, "compiled": loader.compiled}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Node:
    """A machine on which there is nothing but Python: no environment, no site-packages, an empty home.

    Attributes:
        bundle: the pilot's file.
        directory: where it is started.
        environment: all the variables that there are.
        python: the Python, with its options.
    """

    bundle: Path
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = (sys.executable, "-I", "-S")

    @property
    def home(self) -> Path:
        return Path(self.environment["HOME"])

    def start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.python, str(self.bundle), *args],
            cwd=self.directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*args, **environment) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, shell_in: Callable[[Path], Shell]) -> Path:
    """A bundle with files of the user's."""
    shell = shell_in(tmp_path_factory.mktemp("bundle"))
    shell.write("fit.py", FIT)
    shell.write("actor.py", ACTOR)
    shell.write("state.py", STATE)
    Path(shell.path(shell.write("measure.sh", MEASURE))).chmod(0o750)
    shell.path("tables").mkdir()
    shell.write("tables/numbers.txt", "40 2\n")
    made = shell("bundle", "fit.py", "actor.py", "state.py", "measure.sh", "tables", PATH="/usr/bin:/bin")
    assert (made.code, made.err) == (0, "")
    assert made.out.endswith("python3 pilot.pyz run\n")
    return Path(shell.path("pilot.pyz"))


@pytest.fixture(scope="module")
def plain(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One without files, and without code that is compiled for this Python."""
    target = tmp_path_factory.mktemp("plain") / "pilot.pyz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "pythons", lambda oldest: [])
        made = archive.write(target, contents.assemble((), None))
    assert (made.pythons, made.files) == ([], [])
    return target


@pytest.fixture
def node(bundle: Path, tmp_path: Path) -> Node:
    for name in ("home", "tmp", "work"):
        (tmp_path / name).mkdir()
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PATH": "/usr/bin:/bin"}
    return Node(bundle, tmp_path / "work", environment)


def unpacked(node: Node) -> list[Path]:
    """What is in the cache of a node."""
    return sorted((node.home / ".cache" / "picas" / "bundles").iterdir())


def told(text: str) -> Any:
    """What the program `STATE` says."""
    return json.loads(text.splitlines()[-1])


# --- Where there is only Python ----------------------------------------------------------------------


def test_a_bundle_is_picas(node: Node) -> None:
    assert node("--version").stdout == f"picas {__version__}\n"


@pytest.mark.any_pool
def test_a_bundled_pilot_runs_tokens_and_all_its_code_is_compiled(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "echo one\necho two\n")
    picas("push", "tokens.txt")
    login = {name: value for name, value in picas.own.items() if name in ("PICAS_USERNAME", "PICAS_PASSWORD")}
    ended = node("state.py", "run", "--pool", picas.pool, **login)
    assert told(ended.stderr) == {"code": 0, "prepared": True, "compiled": []}
    assert picas("status", "--json").json["done"] == 2
    assert picas("logs", "token_1").out == "two\n"


def test_nothing_is_written_by_a_bundle_without_files(node: Node, picas: Shell, plain: Path) -> None:
    code = {
        place: content for place, content in _content(node.bundle).items() if place.startswith("bundle/code/")
    }
    bundle = node.directory / "pilot.pyz"
    shutil.copy(plain, bundle)
    with zipfile.ZipFile(bundle, "a") as opened:
        for place, content in code.items():
            opened.writestr(place, content)
    picas.write("tokens.txt", "true\n")
    picas("push", "tokens.txt")
    ended = replace(node, bundle=bundle)("run", "--pool", picas.pool)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.listdir(node.home) == os.listdir(node.environment["TMPDIR"]) == []
    assert os.listdir(node.directory) == ["pilot.pyz"]


def _content(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can be another user")
def test_a_user_whom_the_system_does_not_know_without_a_home_in_a_directory_that_cannot_be_written(
    node: Node, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Path("/tmp") / f"picas-test-{os.getpid()}"  # open to others, unlike pytest's own
    place.mkdir(mode=0o755)
    try:
        shutil.copy(node.bundle, place / "pilot.pyz")
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o777)
        other = replace(
            node,
            bundle=place / "pilot.pyz",
            directory=place,
            environment={"PATH": "/usr/bin:/bin", "TMPDIR": f"{place}/tmp"},
            python=("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *node.python),
        )
        pool = f"sqlite:///{place}/tmp/picas.db"
        (place / "tokens.txt").write_text("id -u\n", "utf-8")
        pushed = other("push", "--pool", pool, "tokens.txt")
        assert (pushed.returncode, pushed.stderr) == (0, "")
        ended = other("run", "--pool", pool, "--", "measure.sh", "{input}")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert other("logs", "--pool", pool, "token_0").stdout == "id -u 40 2\n"
        assert sorted(os.listdir(place)) == ["pilot.pyz", "tmp", "tokens.txt"]
    finally:
        shutil.rmtree(place)


@pytest.mark.couchdb
def test_a_pool_behind_https_with_a_ca_of_ones_own(
    database: str, tmp_path: Path, picas: Shell, node: Node, bundle: Path
) -> None:
    if not certificates.has_openssl():
        pytest.skip("certificates are made with openssl")
    certificate = certificates.make_certificate(tmp_path / "own")
    login, _, address = database.partition("//")[2].rpartition("@")
    origin, _, name = f"http://{address}".rpartition("/")
    user, _, password = login.partition(":")
    with FaultProxy(origin, tls=certificate.context()) as proxy:
        pool = f"{proxy.origin}/{name}"
        made = picas("bundle", "--pool", pool, "--ca", str(certificate.trust), PATH="/usr/bin:/bin")
        assert (made.code, made.err) == (0, "")
        pilot = replace(node, bundle=picas.path("pilot.pyz"))
        settings = {"PICAS_USERNAME": user, "PICAS_PASSWORD": password}
        (node.directory / "tokens.txt").write_text("echo one\n", "utf-8")
        pushed = pilot("push", "tokens.txt", **settings)
        assert (pushed.returncode, pushed.stderr) == (0, "")
        ended = pilot("run", **settings)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert json.loads(pilot("status", "--json", **settings).stdout)["done"] == 1
        other = replace(pilot, bundle=bundle)
        refused = other("status", "--pool", pool, **settings)
    assert refused.returncode == 1
    assert "certificate" in refused.stderr


LACKING = """
import runpy, sys
sys.modules[sys.argv[1]] = None
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "pool", "message"),
    [
        (
            "_sqlite3",
            "sqlite:///{}/picas.db",
            "this Python has no module sqlite3, which a pool in a file needs",
        ),
        ("_ssl", "https://127.0.0.1:9/x", "this Python has no module ssl, which a pool on a server needs"),
    ],
)
def test_a_python_that_was_built_without_a_library_says_so(
    module: str, pool: str, message: str, node: Node
) -> None:
    (node.directory / "lacking.py").write_text(LACKING, "utf-8")
    (node.directory / "picas.db").touch()
    other = replace(node, python=(*node.python, "lacking.py", module))
    ended = other("run", "--pool", pool.format(node.directory))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"picas: {message}: {sys.executable}\n")


@pytest.mark.parametrize(
    "module",
    [
        "_ctypes",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("_ssl", "_lzma", "_bz2", "_hashlib", "_uuid")
        ),
    ],
)
def test_what_a_pilot_can_do_without_may_be_missing(module: str, node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "true\n")
    picas("push", "tokens.txt")
    (node.directory / "lacking.py").write_text(LACKING, "utf-8")
    other = replace(node, python=(*node.python, "lacking.py", module))
    ended = other("run", "--pool", picas.pool)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("1 done in ")


def test_a_bundle_may_be_removed_while_its_pilot_works(node: Node, picas: Shell) -> None:
    bundle = node.directory / "pilot.pyz"
    shutil.copy(node.bundle, bundle)
    picas.write(
        "tokens.txt",
        "until [ -e go ]; do sleep 0.05; done; false\necho second\n".replace("go", f"{node.directory}/go"),
    )
    picas("push", "tokens.txt")
    with replace(node, bundle=bundle).start("run", "--pool", picas.pool, "-v") as process:
        while not picas("status", "--json").json["locked"]:
            time.sleep(0.05)
        bundle.write_bytes(b"not what it was")
        (node.directory / "go").touch()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    assert "1 done, 1 failed" in out


# --- The user's files --------------------------------------------------------------------------------


def test_modules_programs_and_tables_of_the_user_are_found(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "2\n3\n")
    picas("push", "tokens.txt")
    ended = node("run", "--pool", picas.pool, "--max-tasks", "1", "--call", "fit:main")
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = node("run", "--pool", picas.pool, "--", "measure.sh", "{input}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert picas("show", "token_0", "--json").json["output"] == {"sum": 84}
    assert picas("logs", "token_1").out == "3 40 2\n"


@pytest.mark.any_pool
def test_an_actor_of_1x_runs_from_a_bundle(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "echo one\n")
    picas("push", "tokens.txt")
    if picas.pool.startswith("http"):
        server, _, name = picas.pool.rpartition("/")
        given = [server, name, picas.own["PICAS_USERNAME"], picas.own["PICAS_PASSWORD"]]
    else:
        given = [picas.pool, "any"]
    ended = node("actor.py", *given)
    assert (ended.returncode, ended.stderr) == (0, "")
    (folder,) = unpacked(node)
    assert ended.stdout == f"{folder}/actor.py token_0 one Task\n"
    assert picas("logs", "token_0").out == "one\n"


def test_a_program_that_is_not_there_is_told(node: Node) -> None:
    ended = node("nothing.py")
    assert ended.returncode == 2
    assert ended.stderr == "picas: there is no program nothing.py, here or among the files of the bundle\n"


def test_files_are_unpacked_once_by_many_pilots_at_a_time(node: Node) -> None:
    starts = [node.start("state.py", "--version") for _ in range(8)]
    ends = [process.communicate(timeout=PATIENCE_SECONDS) for process in starts]
    assert [out for out, _ in ends] == [f"picas {__version__}\n"] * 8, ends
    (folder,) = unpacked(node)
    before = (folder / "fit.py").stat()
    node("--version")
    assert (folder / "fit.py").stat().st_ino == before.st_ino
    assert (folder / "measure.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "fit.py").stat().st_mode & 0o777 == 0o644
    assert (folder.parent.stat().st_mode & 0o777) == 0o700


def test_what_something_else_has_removed_of_them_is_unpacked_again(node: Node) -> None:
    node("--version")
    (folder,) = unpacked(node)
    (folder / "tables" / "numbers.txt").unlink()
    assert node("--version").stderr == ""
    assert (folder / "tables" / "numbers.txt").read_text("utf-8") == "40 2\n"
    assert unpacked(node) == [folder]


def test_what_was_not_used_for_long_is_removed(node: Node) -> None:
    old = node.home / ".cache" / "picas" / "bundles" / ("f" * 32)
    old.mkdir(parents=True, mode=0o700)
    old.parent.chmod(0o700)
    young = old.with_name("e" * 32)
    young.mkdir()
    then = time.time() - cache.UNUSED_SECONDS - 10
    os.utime(old, (then, then))
    node("--version")
    assert old not in unpacked(node)
    assert young in unpacked(node)


@pytest.mark.parametrize("trouble", ["missing", "a file", "open to others", "full"])
def test_where_the_home_is_of_no_use_the_temporary_directory_is(
    node: Node, trouble: str, request: pytest.FixtureRequest
) -> None:
    home = node.home
    if trouble == "missing":
        home.rmdir()
    elif trouble == "a file":
        home.rmdir()
        home.write_text("", "utf-8")
    elif trouble == "open to others":
        (home / ".cache" / "picas" / "bundles").mkdir(parents=True)
        (home / ".cache" / "picas" / "bundles").chmod(0o777)
    else:
        request.getfixturevalue("tiny")(home)
    assert node("--version").stderr == ""
    (place,) = Path(node.environment["TMPDIR"]).iterdir()
    assert place.name == f"picas-bundles-{os.getuid()}"
    assert len(list(place.iterdir())) == 1


@pytest.fixture
def tiny() -> Iterator[Callable[[Path], None]]:
    """Makes a directory a file system that is full."""
    mounted = []

    def cover(place: Path) -> None:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root on Linux may mount a file system")
        command = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=6,mode=700", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        mounted.append(place)

    yield cover
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_where_no_place_takes_them_each_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[[Path], None]
) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    tiny(full)
    file.write_text("", "utf-8")
    monkeypatch.setattr(cache, "places", lambda: [full, file])
    listed = [(f"file{number}", 4000, 0o644) for number in range(10)]
    with pytest.raises(cache.NoPlace) as caught:
        cache.unpacked("x", listed, lambda name: b"x" * 4000)
    assert str(caught.value) == f"{full}: No space left on device\n{file}: File exists"
    assert list(full.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can cover /tmp")
def test_without_room_in_any_temporary_directory_no_token_is_touched(node: Node, bundle: Path) -> None:
    place = Path("/var") / f"picas-test-{os.getpid()}"  # not below what is covered
    full = " && ".join(
        f"mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs {each}" for each in ("/tmp", "/var/tmp", place / "work")
    )
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /var/tmp"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    (place / "work").mkdir(parents=True)
    try:
        shutil.copy(bundle, place / "pilot.pyz")
        (place / "tokens.txt").write_text("true\n", "utf-8")
        other = replace(
            node,
            bundle=place / "pilot.pyz",
            directory=place,
            environment={"PATH": "/usr/bin:/bin", "HOME": str(place)},
        )
        pool = f"sqlite:///{place}/picas.db"
        assert other("push", "--pool", pool, "tokens.txt").returncode == 0
        covered = replace(
            other,
            python=(
                "unshare",
                "--mount",
                "sh",
                "-c",
                f'{full} && cd {place}/work && exec "$@"',
                "sh",
                *node.python,
            ),
        )
        ended = covered("run", "--pool", pool)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("picas: this machine has no room for temporary files: ")
        assert "--scratch DIR" in ended.stderr
        ended = covered("push", "--pool", pool, "-")
        assert ended.stderr.startswith("picas: <stdin>: it cannot be copied to a temporary file: No usable")
        ended = covered("run", "--pool", pool, HOME="/tmp")
        assert ended.returncode == 1
        assert (
            f"the files in {place}/pilot.pyz cannot be unpacked anywhere\n/tmp/.cache/picas/bundles: No space"
            in ended.stderr
        )
        assert json.loads(other("status", "--json", "--pool", pool).stdout)["todo"] == 1
    finally:
        shutil.rmtree(place)


def test_programs_on_a_file_system_that_runs_none_are_put_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noexec, good = tmp_path / "noexec", tmp_path / "good"
    access = os.access
    monkeypatch.setattr(cache, "places", lambda: [noexec, good])
    monkeypatch.setattr(os, "access", lambda path, mode: "noexec" not in str(path) and access(path, mode))
    assert cache.unpacked("x", [("a.sh", 1, 0o755)], lambda name: b"x") == good / "x"


# --- Pythons -----------------------------------------------------------------------------------------


def test_a_python_that_the_bundle_has_no_code_for_keeps_what_it_compiled(
    node: Node, plain: Path, picas: Shell
) -> None:
    picas.write("tokens.txt", "true\ntrue\n")
    picas("push", "tokens.txt")
    shutil.copy(plain, node.directory / "pilot.pyz")
    (node.directory / "state.py").write_text(STATE, "utf-8")
    other = replace(node, bundle=node.directory / "pilot.pyz")
    run = ("state.py", "run", "--max-tasks", "1", "--pool", picas.pool)
    first = told(other(*run).stderr)
    assert first["code"] == 0
    assert len(first["compiled"]) > 50
    assert not first["prepared"]
    second = told(other(*run).stderr)
    assert (second["code"], second["compiled"]) == (0, [])
    assert [path.stat().st_mode & 0o777 for path in unpacked(node)] == [0o600]


def test_an_older_python_is_told_which_one_is_needed(tmp_path: Path, node: Node) -> None:
    bundle = future_bundle(tmp_path)
    ended = replace(node, bundle=bundle)("run", PATH=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr == (
        f"picas: this bundle needs Python 3.99 or newer; {sys.executable} is Python {VERSION[0]}.{VERSION[1]}\n"
        f"Run it with a newer one, or make a bundle for this one: picas bundle --python {VERSION[0]}.{VERSION[1]}\n"
    )


def test_an_older_python_goes_on_with_a_newer_one_that_works(tmp_path: Path, node: Node) -> None:
    bundle = future_bundle(tmp_path)
    for name, check in (("one", 1), ("two", 0)):
        program = tmp_path / name / "python3.99"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {check}\necho {name} "$@"\n', "utf-8")
        program.chmod(0o755)
    ended = replace(node, bundle=bundle)("run", "a b", PATH=f"{tmp_path}/one:{tmp_path}/two:/usr/bin:/bin")
    assert ended.stdout == f"two -I -S {bundle} run a b\n"


def future_bundle(folder: Path) -> Path:
    """A bundle that no Python of today can run."""
    package = contents.Package("future", "1.0", (3, 99), {"future_package.py": b""})
    target = folder / "future.pyz"
    assert archive.write(target, [package]).oldest == (3, 99)
    return target


def test_the_first_lines_are_understood_by_pythons_of_long_ago() -> None:
    text = Path(start.__file__).read_text("utf-8")
    ast.parse(text, feature_version=(3, 4))
    assert not re.search(r"""\bf["']|:=|->(?! \w+( \| None)?$)""", text, re.MULTILINE)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8"])
def test_an_ancient_python_says_what_it_is(version: str, tmp_path: Path, node: Node) -> None:
    found = ancient(version)
    if found is None:
        pytest.skip(f"there is no Python {version}")
    ended = replace(node, python=(found,))("run", PATH=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (4, "")
    assert f"{found} is Python {version}\n" in ended.stderr
    assert f"needs Python 3.{max(9, oldest_of(node.bundle))} or newer" in ended.stderr


def ancient(version: str) -> str | None:
    """A Python that is really of this version, where there is one."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [
        *map(str, root.glob(f"versions/{version}.*/bin/python")),
        shutil.which(f"python{version}") or "",
    ]
    check = f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, version.split('.')))})"
    for each in filter(None, candidates):
        if subprocess.run([each, "-c", check], check=False, capture_output=True).returncode == 0:
            return each
    return None


def oldest_of(bundle: Path) -> int:
    """The oldest Python 3 that a bundle says it runs on."""
    with zipfile.ZipFile(bundle) as opened:
        minor: int = json.loads(opened.read(MANIFEST))["oldest"][1]
    return minor


@pytest.mark.parametrize(
    "version",
    [
        "3.9",
        "3.13",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("3.10", "3.11", "3.12", "3.14")),
    ],
)
def test_other_pythons_run_it_or_say_that_they_are_too_old(version: str, node: Node, picas: Shell) -> None:
    found = ancient(version)
    if found is None:
        pytest.skip(f"there is no Python {version}")
    picas.write("tokens.txt", "7\n")
    picas("push", "tokens.txt")
    ended = replace(node, python=(found, "-I", "-S"))(
        "run", "--pool", picas.pool, "--call", "fit:main", PATH="/bin"
    )
    if int(version.partition(".")[2]) < oldest_of(node.bundle) and ended.returncode == 4:
        assert f"is Python {version}\n" in ended.stderr
    else:
        assert (ended.returncode, ended.stderr) == (0, "")
        assert picas("show", "token_0", "--json").json["output"] == {"sum": 294}


# --- What goes in ------------------------------------------------------------------------------------


def test_the_same_content_makes_the_same_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    made = []
    for name in ("one.pyz", "two.pyz"):
        target = tmp_path / name
        archive.write(target, [contents.Package("small", "1", (3, 9), {"small.py": b"x = 1\n"})])
        made.append(target.read_bytes())
    assert made[0] == made[1]


def test_licences_go_where_the_packages_go(bundle: Path) -> None:
    names = "\n".join(_content(bundle))
    for package in ("click", "platformdirs", "urllib3", "picas"):
        assert re.search(rf"^{package}-[^/]*\.dist-info/(licenses/)?LICENSE", names, re.MULTILINE), package


SECRETS = {
    "config.toml": 'pool = "https://example.org/pool"\n[couchdb]\nusername = "me"\npassword = "hunter2"\n',
    "other.toml": 'pool = "https://me:hunter2@example.org/pool"\n',
    "conf.yml": "host_url: https://example.org\nencrypted_password: gAAAAABl\n",
    "key.dat": "6hLwPzXnQ3N7b0qIuYx9nRUJx0lGEr2JkQq0nq4m9kY=\n",
    "me.pem": "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("name", SECRETS)
def test_files_with_secrets_are_refused(name: str, picas: Shell) -> None:
    picas.path("folder").mkdir()
    picas.write(f"folder/{name}", SECRETS[name])
    answer = picas.here("bundle", "folder")
    assert answer.code == 2
    assert f"{picas.path('folder') / name} holds a " in answer.err
    assert "hunter2" not in answer.err
    assert not picas.path("pilot.pyz").exists()


def test_files_that_only_speak_of_secrets_are_taken(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text("password = input()\n", "utf-8")
    (tmp_path / "public.pem").write_text("-----BEGIN CERTIFICATE-----\n", "utf-8")
    (tmp_path / "settings.toml").write_text('pool = "https://example.org/pool"\n# password = none\n', "utf-8")
    assert [file.name for file in userfiles.read(sorted(tmp_path.iterdir()))] == [
        "prog.py",
        "public.pem",
        "settings.toml",
    ]


def test_a_login_in_the_url_is_refused(picas: Shell) -> None:
    answer = picas.here("bundle", "--pool", "https://me:pass@example.org/pool")
    assert answer.code == 2
    assert "a bundle holds no login" in answer.err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read: No such file or directory"),
        (os.mkfifo, "is no file"),
        (lambda path: path.symlink_to(path.parent), "is no file"),
    ],
)
def test_what_is_no_file_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / "it")
    given = folder if (folder / "it").is_symlink() or (folder / "it").exists() else folder / "it"
    with pytest.raises(InvalidInput, match=message):
        userfiles.read([given])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fit.py").write_text("", "utf-8")
    with pytest.raises(InvalidInput, match=r"two files would be fit\.py"):
        userfiles.read([tmp_path / "one" / "fit.py", tmp_path / "two" / "fit.py"])


def test_what_python_made_itself_is_left_out(tmp_path: Path) -> None:
    for name in ("pack/__pycache__", "pack/.git", "pack/sub"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.py").write_text("", "utf-8")
    assert [file.name for file in userfiles.read([tmp_path / "pack"])] == ["pack/sub/a.py"]


def test_a_package_that_is_not_pure_python_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"cryptography is not pure Python: cryptography/.*\.so is made for"
    ):
        contents.gather(["cryptography"], None)


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        contents.gather(["no-such-package-of-ours"], None)
    assert caught.value.message == "the package no-such-package-of-ours is not installed"


def test_other_packages_go_in_with_what_they_need() -> None:
    found = {package.name.lower(): package for package in contents.gather(["pexpect"], None)}
    assert {"pexpect", "ptyprocess", "picas", "click"} <= set(found)
    assert "ptyprocess/ptyprocess.py" in found["ptyprocess"].files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click<9,>=8.1", contents.Requirement("click", "<9,>=8.1")),
        ("click (<9,>=8.1)", contents.Requirement("click", "<9,>=8.1")),
        ("tomli>=2; python_version < '3.11'", contents.Requirement("tomli", ">=2", (3, 11))),
        ('tomli>=2 ; (python_full_version < "3.11")', contents.Requirement("tomli", ">=2", (3, 11))),
        ("x; python_version <= '3.10'", contents.Requirement("x", "", (3, 11))),
        ("colorama; platform_system == 'Windows'", contents.Requirement("colorama", "", certain=False)),
        ("brotli>=1; (platform_python_implementation == 'CPython') and extra == 'brotli'", None),
        ("a-b.c[x,y]~=1.0", contents.Requirement("a-b.c", "~=1.0")),
    ],
)
def test_requirements_are_read(text: str, expected: contents.Requirement | None) -> None:
    assert contents.Requirement.parse(text) == expected


def test_packages_for_an_older_python_are_fetched(picas: Shell) -> None:
    if VERSION == (3, 9):
        pytest.skip("what is installed runs on the oldest Python")
    wheels = picas.path("wheels")
    wheels.mkdir()
    for name, versions in (
        ("click", ("8.1.1", "8.4")),
        ("platformdirs", ("4.1",)),
        ("urllib3", ("2.1",)),
        ("tomli", ("2.0",)),
    ):
        for version in versions:
            wheel(wheels, name, version, ">=3.9" if version != "8.4" else ">=3.10")
    own = {
        "PIP_NO_INDEX": "1",
        "PYTHONWARNINGS": "default",  # pip is not ours
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "PATH": "/usr/bin:/bin",
    }
    answer = picas("bundle", "--python", "3.9", "--json", **own)
    assert (answer.code, answer.err) == (0, "")
    assert answer.json["oldest"] == "3.9"
    versions = {
        "click": "8.1.1",
        "platformdirs": "4.1",
        "urllib3": "2.1",
        "tomli": "2.0",
        "picas": __version__,
    }
    assert answer.json["packages"] == versions
    assert _content(picas.path("pilot.pyz"))["click/__init__.py"] == b"version = '8.1.1'\n"
    shutil.rmtree(wheels)
    answer = picas("bundle", "--python", "3.9", **own)
    assert answer.code == 2
    assert "packages that run on Python 3.9 cannot be got" in answer.err
    assert "No matching distribution found" in answer.err


def wheel(folder: Path, name: str, version: str, python: str) -> None:
    """A wheel as an index has it."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as opened:
        opened.writestr(f"{name}/__init__.py", f"version = '{version}'\n")
        opened.writestr(f"{info}/METADATA", metadata)
        opened.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr(
            f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


@pytest.mark.parametrize("written", ["2.7", "3.8", "3", "new"])
def test_versions_of_python_that_cannot_be_are_refused(written: str, picas: Shell) -> None:
    answer = picas.here("bundle", "--python", written)
    assert answer.code == 2
    assert "is no version of Python that picas runs on" in answer.err


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(picas: Shell) -> None:
    answer = picas.here("bundle", "-o", str(picas.path("no") / "pilot.pyz"))
    assert answer.code == 1
    assert "No such file or directory" in answer.err


def test_what_is_not_pure_python_is_told_to_be_installed(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "true\n")
    picas("push", "tokens.txt")
    (node.directory / "trusted").write_text(f"picas-ed25519 {'A' * 43}= me\n", "utf-8")
    ended = node("run", "--pool", picas.pool, "--require-signed", "--trusted-keys", "trusted")
    assert ended.returncode == 1
    assert "the package for signatures is not installed" in ended.stderr
    assert "A bundle holds pure Python alone" in ended.stderr
    assert picas("status", "--json").json["todo"] == 1


def test_a_bundle_makes_no_bundles(node: Node) -> None:
    ended = node("bundle")
    assert ended.returncode == 2
    assert ended.stderr.startswith("picas: this picas is a bundle itself\n")


# --- The documentation -------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bundle.md"

NOT_RUN = {
    "picas bundle --python 3.9 -o pilot.pyz": "it may ask a package index; a test above does it with wheels in a folder",
}
"""Commands of the page that are not run here, and why."""


@pytest.mark.couchdb
def test_the_commands_of_the_page_do_what_it_says(
    picas: Shell, node: Node, database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("page")
    for name, text in (
        ("fit.py", FIT),
        ("actor.py", ACTOR.replace("sys.argv[1:3]", f"({picas.pool!r}, 'x')")),
    ):
        (folder / name).write_text(text.replace("sys.argv[3:]", "[]"), "utf-8")
    (folder / "measure.sh").write_text(MEASURE, "utf-8")
    (folder / "measure.sh").chmod(0o755)
    (folder / "tables").mkdir()
    (folder / "tables" / "numbers.txt").write_text("40 2\n", "utf-8")
    login, _, address = database.partition("//")[2].rpartition("@")
    user, _, password = login.partition(":")
    settings = f'pool = "http://{address}"\n[couchdb]\nusername = "{user}"\npassword = "{password}"\n'
    (folder / "ca.pem").write_text("", "utf-8")
    (folder / "config.toml").write_text(settings, "utf-8")
    (folder / "config.toml").chmod(0o600)
    commands = re.findall(r"^\$ (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert set(NOT_RUN) <= set(commands)
    own = {
        **node.environment,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PICAS_POOL": picas.pool,
    }
    picas.write("tokens.txt", "2\n3\n")
    picas("push", "tokens.txt")
    for command in commands:
        if command in NOT_RUN:
            continue
        if "actor.py" in command:
            picas("reset", "--yes")
        if "couch.example.org" in command:
            own.pop("PICAS_POOL")
            command = command.replace("https://couch.example.org:6984/pool", f"http://{address}")  # noqa: PLW2901
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=own,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    assert picas("show", "token_0", "--json").json["done"] > 0
