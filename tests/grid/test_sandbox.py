"""What travels with a job: the way to the pool, and files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from picas.errors import ConfigError, InvalidInput
from picas.launchers.base import Script
from picas.launchers.sandbox import check, travelling_config, write_config
from picas.settings import config
from picas.settings.credentials import find

POOL = "https://pool.example.org:6984/ana"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's configuration, in a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "picas"
    folder.mkdir(parents=True)
    return folder


def _configure(home: Path, text: str) -> config.Settings:
    (home / "config.toml").write_text(text)
    (home / "config.toml").chmod(0o600)
    return config.load()


def _arrived(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """What holds where these files are the only ones."""
    monkeypatch.setenv("PICAS_CONFIG", str(files[0]))
    for name in ("PICAS_POOL", "PICAS_USERNAME", "PICAS_PASSWORD", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    return config.load()


def test_what_arrives_means_what_it_meant_here(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-ca.pem").write_text("authorities")
    (home / "mine.pem").write_text("certificate and key")
    (home / "trusted-keys").write_text("keys\n")
    settings = _configure(
        home,
        f'pool = "{POOL}"\n[couchdb]\nusername = "ana"\npassword = "a\\"\\u007fß"\nauth = "session"\n'
        f'ca = "~/site-ca.pem"\nclient-cert = "mine.pem"\n'
        '[run]\nworkers = 4\ntask-timeout = "2h"\nkeep = false\nsecrets = ["AWS_*"]\nscratch = "/data/ana"\n',
    )
    (tmp_path / "there").mkdir()
    files = write_config(tmp_path / "there", settings)
    assert {file.name for file in files} == {"config.toml", "ca.pem", "client-cert.pem", "trusted-keys"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    (tmp_path / "site-ca.pem").unlink()
    there = _arrived(files, monkeypatch)
    assert there.pool == POOL
    login = find("https://pool.example.org:6984", there.access.sources)
    assert login is not None
    assert (login.username, login.password) == ("ana", 'a"\x7fß')
    assert there.access.auth == "session"
    assert Path(str(there.access.ca)).read_text() == "authorities"
    assert Path(str(there.access.client_cert)).read_text() == "certificate and key"
    assert dict(there.run) == {"workers": 4, "task_timeout": "2h", "keep": False, "secrets": ["AWS_*"]}


def test_a_login_from_the_environment_or_netrc_travels_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _configure(home, f'pool = "{POOL}"\n')
    (tmp_path / ".netrc").write_text("machine pool.example.org login ana password of-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    with travelling_config(settings) as files:
        assert 'password = "of-netrc"' in files[0].read_text()
    assert not files[0].parent.exists()
    monkeypatch.setenv("PICAS_USERNAME", "bob")
    monkeypatch.setenv("PICAS_PASSWORD", "of-environment")
    with travelling_config(config.load()) as files:
        text = files[0].read_text()
    assert 'username = "bob"' in text
    assert 'password = "of-environment"' in text


def test_a_bearer_token_needs_no_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICAS_PASSWORD", "ey.J.x")
    settings = _configure(home, f'pool = "{POOL}"\n[couchdb]\nauth = "jwt"\n')
    with travelling_config(settings) as files:
        lines = files[0].read_text().splitlines()
    assert 'password = "ey.J.x"' in lines
    assert not [line for line in lines if line.startswith("username")]


def test_a_pool_in_a_file_stays_here(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a file, which the machines of a grid cannot reach"):
        write_config(tmp_path, config.Settings("sqlite:////data/picas.db"))
    assert list(tmp_path.iterdir()) == []


def test_half_a_login_is_told(home: Path) -> None:
    settings = _configure(home, f'pool = "{POOL}"\n[couchdb]\nusername = "ana"\n')
    with pytest.raises(ConfigError, match="there is no password of user ana"), travelling_config(settings):
        pass


def test_files_that_are_small_when_compressed_may_be_large(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "zeros.bin").write_bytes(bytes(3_000_000))
    script = Script("picas.jdl", "", 1, {}, (tmp_path / "data",), most_bytes=100_000)
    check(script)
    with pytest.raises(InvalidInput, match=r"what travels with each job is 0\.0 MB, compressed"):
        check(Script("picas.jdl", "", 1, {}, (tmp_path / "data",), most_bytes=10))
    check(Script("picas.jdl", "", 1, {}, (tmp_path / "data",)))
