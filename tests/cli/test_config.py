"""Settings: the file, the environment, and the forms of times and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from picas.errors import ConfigError, InvalidInput
from picas.settings.config import Settings, load, parse_duration, parse_size

if TYPE_CHECKING:
    from pathlib import Path


def _load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load(environ={}, path=path)


def test_without_anything_the_pool_is_in_the_working_directory(tmp_path: Path) -> None:
    assert load(environ={}, path=tmp_path / "none.toml") == Settings("sqlite:///picas.db", {})


def test_a_file_sets_the_pool_and_defaults_of_run(tmp_path: Path) -> None:
    settings = _load(
        tmp_path, 'pool = "sqlite:////data/p.db"\n[run]\nworkers = 4\ntask-timeout = "2h"\nkeep = true\n'
    )
    assert settings.pool == "sqlite:////data/p.db"
    assert settings.run == {"workers": 4, "task_timeout": "2h", "keep": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poool = 'x'", "there is no setting 'poool'"),
        ("[run]\nworker = 4", "there is no setting 'run.worker'"),
        ("run = 4", "'run' must be a table"),
        ("pool = 4", "'pool' must be a string"),
        ("pool = 'my.db'", "'my.db' is not the address of a pool"),
        ("[run]\nworkers = 0", "'run.workers' must be a whole number of at least 1, not 0"),
        ("[run]\nworkers = true", "'run.workers' must be a whole number of at least 1, not True"),
        ("[run]\nmax-scrub = -1", "'run.max-scrub' must be a whole number of at least 0, not -1"),
        ("[run]\ntask-timeout = 'soon'", "'run.task-timeout' must be a time such as '2h', not 'soon'"),
        ("[run]\nlog-cap = 'big'", "'run.log-cap' must be a size such as '10MB', not 'big'"),
        ("[run]\norder = 'any'", "'run.order' must be one of priority, oldest, newest, not 'any'"),
        ("[run]\nkeep = 'yes'", "'run.keep' must be true or false, not 'yes'"),
        ("[run]\nscratch = ''", "'run.scratch' must be a directory's path, not ''"),
        ("pool = ", "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_name_and_the_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert caught.value.message.startswith(str(tmp_path / "config.toml"))
    assert message in caught.value.message


def test_a_job_brings_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICAS_CONFIG", str(tmp_path / "mine.toml"))
    with pytest.raises(ConfigError, match="PICAS_CONFIG names a file that is not there"):
        load()
    (tmp_path / "mine.toml").write_text('pool = "sqlite:///mine.db"\n')
    assert load().pool == "sqlite:///mine.db"


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"pool = '\xff'")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(environ={}, path=path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("1.5s", 1.5), (".5", 0.5), ("15m", 900), ("2h", 7200), ("2 H", 7200),
        ("1d", 86400), ("1w", 604800), ("01:30:00", 5400), ("100:00:00", 360000), ("1-12:00:00", 129600), ("0", 0),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-5", "1x", "1:30", "1:99:00", "nan", "inf", "1e3", "5 minutes", "٣"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("5000", 5000), ("500kB", 500_000), ("10MB", 10_000_000), ("10 m", 10_000_000), ("16MiB", 16 << 20),
     ("1.5GB", 1_500_000_000), ("2Ti", 2 << 40), ("12B", 12)],
)  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MB", "-1", "10X", "1iB", "ten", "1e6"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a size"):
        parse_size(text)
