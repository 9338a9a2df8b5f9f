"""Pilots from a bundle where there is only Python: no home, no room, no libraries, another user, another certificate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bundle.node import (
    ACTOR,
    PATIENCE_SECONDS,
    Node,
    content,
    told,
)
from tests.couchdb import certificates
from tests.couchdb.proxy import FaultProxy

from picas._version import __version__

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


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
    code = {place: data for place, data in content(node.bundle).items() if place.startswith("bundle/code/")}
    bundle = node.directory / "pilot.pyz"
    shutil.copy(plain, bundle)
    with zipfile.ZipFile(bundle, "a") as opened:
        for place, data in code.items():
            opened.writestr(place, data)
    picas.write("tokens.txt", "true\n")
    picas("push", "tokens.txt")
    ended = replace(node, bundle=bundle)("run", "--pool", picas.pool)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.listdir(node.home) == os.listdir(node.environment["TMPDIR"]) == []
    assert os.listdir(node.directory) == ["pilot.pyz"]


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
        if subprocess.run(
            [*other.python, "-c", "import sqlite3"], check=False, capture_output=True
        ).returncode:
            pytest.skip("this Python is where others may not go")
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
        picas.write("actor.py", ACTOR)
        made = picas(
            "bundle", "actor.py", "--pool", pool, "--ca", str(certificate.trust), PATH="/usr/bin:/bin"
        )
        assert (made.code, made.err) == (0, "")
        pilot = replace(node, bundle=picas.path("pilot.pyz"))
        settings = {"PICAS_USERNAME": user, "PICAS_PASSWORD": password}
        (node.directory / "tokens.txt").write_text("echo one\necho two\n", "utf-8")
        pushed = pilot("push", "tokens.txt", **settings)
        assert (pushed.returncode, pushed.stderr) == (0, "")
        ended = pilot("run", "--max-tasks", "1", **settings)
        assert (ended.returncode, ended.stderr) == (0, "")
        ended = pilot("actor.py", proxy.origin, name, user, password)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert json.loads(pilot("status", "--json", **settings).stdout)["done"] == 2
        other = replace(pilot, bundle=bundle)
        refused = other("status", "--pool", pool, **settings)
    assert refused.returncode == 1
    assert "certificate" in refused.stderr


@pytest.mark.any_pool
def test_results_are_safe_in_the_temporary_directory_where_there_is_no_home(node: Node, picas: Shell) -> None:
    picas.write("tokens.txt", "echo one\n")
    picas("push", "tokens.txt")
    login = {name: value for name, value in picas.own.items() if name in ("PICAS_USERNAME", "PICAS_PASSWORD")}
    ended = node("run", "--pool", picas.pool, HOME="/dev/null/none", **login)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert picas("logs", "token_0").out == "one\n"


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
