"""Where a user's files are, with a home directory and without."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from picas.settings import config, places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Sets ``$HOME``, and nothing that says more than that; the directory for temporary files."""

    def move(home: str) -> Path:
        monkeypatch.setenv("HOME", home)
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        return tmp_path / "temporary" / f"picas-{os.getuid()}"

    return move


def test_the_home_directory_is_taken_where_it_takes_files(
    tmp_path: Path, at_home: Callable[[str], Path]
) -> None:
    at_home(str(tmp_path))
    assert tmp_path in places.state_dir().parents
    assert tmp_path in places.config_dir().parents


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/none", "/proc/none"])
def test_state_is_among_temporary_files_where_the_home_directory_takes_none(
    home: str, at_home: Callable[[str], Path]
) -> None:
    if home.startswith("/proc") and os.geteuid() == 0:
        pytest.skip("root may write to anything, says the system")
    temporary = at_home(home)
    assert places.state_dir() == temporary


def test_a_place_that_was_named_is_taken_without_a_home(
    tmp_path: Path, at_home: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home("/dev/null")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert places.state_dir() == tmp_path / "state" / "picas"


def test_a_user_whom_the_system_does_not_know_has_no_configuration(
    at_home: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    state = at_home("")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert places.home() == places.NOWHERE
    assert places.config_dir() == places.NOWHERE / "picas"
    assert places.state_dir() == state
    assert config.load().pool == config.DEFAULT_POOL
