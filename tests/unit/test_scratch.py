"""Directories and files that serve one attempt after the other, and those that must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from picas.tokens import Claimer, Token, fresh_body
from picas.transitions import claim
from picas.work.scratch import Attempt, Scratch, remove

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    made = Scratch(tmp_path)
    yield made
    made.close()
    assert list(tmp_path.iterdir()) == [], "nothing stays behind"


def attempt(scratch: Scratch, name: str = "a") -> Attempt:
    token = claim(Token(name, fresh_body({"input": name})), Claimer("p", "h", {}, scratch.path), 1.0)
    made = Attempt(token, scratch)
    with made.prepare():
        pass
    return made


def write(path: str, text: str) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write(text)


def inode(path: str) -> int:
    return Path(path).stat().st_ino


def recycle(scratch: Scratch, used: Attempt) -> bool:
    return scratch.recycle(used.directory, used.names())


@pytest.mark.skipif(
    sys.platform != "linux", reason="whether others have a file open is asked for by a write lease"
)
def test_what_nobody_else_has_is_used_again_and_is_empty(scratch: Scratch) -> None:
    first = attempt(scratch)
    write(first.stdout, "of the first")
    old = [
        inode(path) for path in (first.directory, first.work, first.stdout, first.stderr, first.token_file)
    ]
    assert recycle(scratch, first)

    second = attempt(scratch, "b")

    paths = (second.directory, second.work, second.stdout, second.stderr, second.token_file)
    assert [inode(path) for path in paths] == old
    assert not Path(first.directory).exists()
    assert Path(second.stdout).read_text("ascii") == ""
    assert '"_id":"b"' in Path(second.token_file).read_text("ascii")
    assert recycle(scratch, second)


def test_a_log_that_something_still_writes_to_is_not_the_next_ones(scratch: Scratch) -> None:
    first = attempt(scratch)
    with open(first.stdout, "ab") as held:
        escaped = subprocess.Popen(
            [sys.executable, "-c", "input(); print('late')"], stdin=subprocess.PIPE, stdout=held
        )
    assert recycle(scratch, first)
    second = attempt(scratch, "b")

    escaped.communicate(b"\n")

    assert escaped.returncode == 0
    assert Path(second.stdout).read_bytes() == b""
    assert recycle(scratch, second)


def test_a_file_that_the_user_linked_keeps_what_is_in_it(
    scratch: Scratch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = attempt(scratch)
    write(first.stdout, "precious")
    kept = tmp_path_factory.mktemp("kept") / "log"
    os.link(first.stdout, kept)
    assert recycle(scratch, first)
    second = attempt(scratch, "b")
    write(second.stdout, "other")
    assert kept.read_text("ascii") == "precious"
    assert recycle(scratch, second)


def test_a_log_that_was_made_a_link_leads_nowhere(
    scratch: Scratch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = attempt(scratch)
    victim = tmp_path_factory.mktemp("victim") / "file"
    victim.write_text("precious")
    os.unlink(first.stdout)
    Path(first.stdout).symlink_to(victim)
    assert recycle(scratch, first)
    second = attempt(scratch, "b")
    write(second.stdout, "other")
    assert victim.read_text() == "precious"
    assert recycle(scratch, second)


@pytest.mark.parametrize("left", ["work/result.txt", "output.json", "work/.hidden", "extra"])
def test_a_directory_with_something_in_it_is_not_used_again(scratch: Scratch, left: str) -> None:
    first = attempt(scratch)
    write(f"{first.directory}/{left}", "x")
    assert not recycle(scratch, first)
    remove(first.directory)


def test_a_directory_whose_permissions_changed_is_not_used_again(scratch: Scratch) -> None:
    first = attempt(scratch)
    Path(first.work).chmod(0o500)
    assert not recycle(scratch, first)
    remove(first.directory)


def test_what_was_prepared_and_not_started_leaves_nothing(scratch: Scratch) -> None:
    token = claim(Token("a", fresh_body({})), Claimer("p", "h", {}, scratch.path), 1.0)
    prepared = Attempt(token, scratch)
    prepared.prepare()
    prepared.discard()
    assert not Path(prepared.directory, "stdout").exists() or not Path(prepared.stdout).read_bytes()
