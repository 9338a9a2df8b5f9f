"""The user's files in a bundle: where a pilot finds them, and where they are unpacked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bundle.node import (
    PATIENCE_SECONDS,
    Node,
    content,
    unpacked,
)

from picas._version import __version__
from picas.bundling import archive, cache, compiling, contents, userfiles
from picas.bundling.loader import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Shell


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


def test_another_mode_of_a_program_is_another_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "pythons", lambda oldest: [])
    package = contents.Package("small", "1", (3, 9), {"small.py": b""})
    digests = set()
    for mode in (0o644, 0o755):
        archive.write(tmp_path / "a.pyz", [package], [userfiles.UserFile("a.sh", b"", mode)])
        digests.add(json.loads(content(tmp_path / "a.pyz")[MANIFEST])["digest"])
    assert len(digests) == 2


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
                os.path.realpath(node.python[0]),  # an environment may itself be below /tmp
                *node.python[1:],
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
