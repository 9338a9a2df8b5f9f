"""Changing the configuration file leaves everything else in it, and is never seen half-done or by others."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picas.errors import ConfigError
from picas.settings.config import load, parse
from picas.settings.configfile import change, stage

if TYPE_CHECKING:
    from pathlib import Path

WRITTEN = """\
# mine
pool = "sqlite:///a.db"  # the old one

[run]
workers = 4   # as many as there are

[couchdb]
"username" = 'you'
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "picas" / "config.toml"
    path.parent.mkdir()
    path.write_text(WRITTEN)
    return path


def test_settings_are_changed_added_and_taken_out_and_the_rest_stays(file: Path) -> None:
    change(file, {"pool": "https://h/db", "couchdb.username": None, "couchdb.insecure": True})
    assert file.read_text() == (
        '# mine\npool = "https://h/db"\n\n[run]\nworkers = 4   # as many as there are\n\n[couchdb]\ninsecure = true\n'
    )


def test_a_table_that_is_not_there_is_made(file: Path) -> None:
    file.write_text("[run]\nworkers = 4\n")
    change(file, {"pool": "https://h/db", "couchdb.password": "x"})
    assert file.read_text() == 'pool = "https://h/db"\n[run]\nworkers = 4\n\n[couchdb]\npassword = "x"\n'


def test_a_file_that_is_not_there_is_made_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "config.toml"
    change(path, {"couchdb.username": "me"})
    assert path.read_text() == '[couchdb]\nusername = "me"\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_is_closed_to_them(file: Path) -> None:
    file.chmod(0o644)
    change(file, {"couchdb.password": "secret"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load(environ={}, path=file).access.sources[0].password == "secret"


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    change(link, {"couchdb.username": "me"})
    assert link.is_symlink()
    assert parse(file, file.read_text())["couchdb"] == {"username": "me"}


def test_what_is_staged_changes_nothing_yet(file: Path) -> None:
    new = stage(file, {"couchdb.username": "me"})
    assert file.read_text() == WRITTEN
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    new.replace(file)
    assert parse(file, file.read_text())["couchdb"] == {"username": "me"}
    assert os.listdir(file.parent) == ["config.toml"]


@pytest.mark.parametrize(
    "text",
    [
        'couchdb = { username = "you" }\n',
        'couchdb.username = "you"\n',
        '[couchdb]\nusername = """\nyou"""\n',
    ],
)
def test_a_form_that_is_not_understood_is_left_alone_and_told(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match="only its author can change") as caught:
        change(file, {"couchdb.username": "me", "couchdb.password": "secret"})
    assert caught.value.advice == "Set by hand: couchdb.username."
    assert file.read_text() == text


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "picas").write_text("no folder")
    with pytest.raises(ConfigError, match="cannot be written"):
        change(tmp_path / "picas" / "config.toml", {"pool": "https://h/db"})


@settings(max_examples=40)
@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_password_is_read_back_as_it_was(tmp_path_factory: Any, name: str, password: str) -> None:
    file = tmp_path_factory.mktemp("any") / "config.toml"
    file.write_text(WRITTEN)
    change(file, {"couchdb.username": name, "couchdb.password": password})
    assert parse(file, file.read_text())["couchdb"] == {"username": name, "password": password}
