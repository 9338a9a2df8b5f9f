"""The configuration of 1.x: its file and key, `picas-cli`, and `picas config import`."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.couchdb import classic

from picas import crypto, picas_config
from picas.errors import ConfigError, MissingExtra, PicasError
from picas.picas_config import PicasConfig, PicasConfigSchemaError
from picas.settings import classicfile
from picas.settings.config import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.couchdb.servers import CouchServer

GIVEN = Namespace(
    host_url="http://localhost:5984", database="my/db", username="ana", password="pässword", new_password=None
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without any configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setattr(crypto, "CRYPTO_KEY_PATH", str(classicfile.key_path()))
    return tmp_path


@pytest.fixture
def file(home: Path) -> Path:
    """The user's file of 1.x, whose password is ``secret``."""
    ended = _picas_cli(
        "init", "--host-url", "http://localhost:5984", "--username", "ana", "--password", "secret"
    )
    assert ended.returncode == 0, ended.stderr
    return classicfile.config_path()


def _run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _picas_cli(*words: str) -> subprocess.CompletedProcess[str]:
    return _run("picas.cli.classic", *words)


def _picas(*words: str) -> subprocess.CompletedProcess[str]:
    return _run("picas.cli.main", *words)


def _closed(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


# --- crypto ------------------------------------------------------------------------------------------


def test_a_password_is_encrypted_with_the_users_key(home: Path) -> None:
    crypto.generate_and_save_key()
    key = crypto.read_key()
    assert _closed(home / ".config" / "picas" / "key.dat")
    for password in (b"secret", "secret"):
        encrypted = crypto.encrypt_password(password)
        assert b"secret" not in encrypted
        assert (
            crypto.decrypt_password(encrypted)
            == crypto.decrypt_password(encrypted.decode(), key)
            == b"secret"
        )
    crypto.generate_and_save_key()
    assert crypto.read_key() == key


def test_a_key_is_replaced_only_if_its_owner_says_yes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(tmp_path / "new" / "key.dat")
    crypto.generate_and_save_key(place)
    first = Path(place).read_bytes()
    monkeypatch.setattr("builtins.input", lambda question: "")
    crypto.generate_and_save_key(place, skip_if_exists=False)
    assert Path(place).read_bytes() == first
    monkeypatch.setattr("builtins.input", lambda question: "y")
    crypto.generate_and_save_key(place, skip_if_exists=False)
    assert Path(place).read_bytes() != first


def test_what_cannot_be_decrypted_says_why(home: Path) -> None:
    with pytest.raises(FileNotFoundError):
        crypto.encrypt_password(b"secret")
    crypto.generate_and_save_key()
    with pytest.raises(ConfigError, match="does not fit its key"):
        crypto.decrypt_password(b"nonsense")
    with pytest.raises(ConfigError, match="key of the encrypted password is none"):
        crypto.decrypt_password(b"nonsense", b"short")


def test_without_the_packages_the_message_names_the_pip_command(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, call in (
        ("cryptography.fernet", crypto.generate_and_save_key),
        ("yaml", lambda: PicasConfig(load=False).write_config(_config())),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtra) as caught:
            call()
        assert caught.value.advice == "pip install 'picas[classic]'"


# --- PicasConfig -------------------------------------------------------------------------------------


def _config(**changes: object) -> dict[str, object]:
    config = {"host_url": "http://h:5984", "database": "db", "username": "ana", "encrypted_password": "x"}
    return {**config, **changes}


def test_a_configuration_is_saved_and_loaded(home: Path) -> None:
    saved = PicasConfig(load=False)
    assert (saved.config_path, saved.config) == ("~/.config/picas/conf.yml", {})
    saved.save_config(GIVEN)
    loaded = PicasConfig()
    assert loaded.config == saved.config
    assert {name: loaded.config[name] for name in ("host_url", "database", "username")} == {
        "host_url": "http://localhost:5984",
        "database": "my/db",
        "username": "ana",
    }
    assert crypto.decrypt_password(loaded.config["encrypted_password"]).decode() == "pässword"
    loaded.validate_config()
    loaded.validate_config(_config())


def test_a_password_that_is_not_given_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picas_config.getpass, "getpass", lambda question: "typed")
    config = PicasConfig(str(home / "other.yml"), load=False)
    config.save_config(Namespace(**{**vars(GIVEN), "password": None}))
    assert (
        crypto.decrypt_password(PicasConfig(str(home / "other.yml")).config["encrypted_password"]) == b"typed"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"host_url": "http://h"}, "'database' must be a text"),
        (_config(username=None), "'username' must be a text"),
        (_config(colour="red"), "there is no setting 'colour'"),
    ],
)
def test_a_wrong_configuration_is_refused(home: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(PicasConfigSchemaError, match=message) as caught:
        PicasConfig(load=False).write_config(config)
    assert caught.value.message.startswith("configuration validation failed")
    assert not classicfile.config_path().exists()


def test_a_file_that_is_missing_or_wrong_is_told(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"configuration file not found: ~/\.config/picas/conf\.yml"):
        PicasConfig()
    path = home / "conf.yml"
    for text in ("- a list", "host_url: [", "host_url: 1"):
        path.write_text(text)
        with pytest.raises(PicasConfigSchemaError):
            PicasConfig(str(path))


# --- picas-cli ---------------------------------------------------------------------------------------


def test_picas_cli_writes_a_file_that_only_its_owner_can_read(file: Path) -> None:
    assert _closed(file)
    assert "secret" not in file.read_text()
    assert PicasConfig().config["database"] == "mypicasdb"


def test_picas_cli_dumps_a_module_with_the_password(file: Path, home: Path) -> None:
    expected = {
        "PICAS_HOST_URL": "http://localhost:5984",
        "PICAS_DATABASE": "mypicasdb",
        "PICAS_USERNAME": "ana",
        "PICAS_PASSWORD": "secret",
    }
    target = home / "picasconfig.py"
    target.write_text("old")
    assert _picas_cli("dump-config", "-o", str(target)).returncode == 0
    assert _closed(target)
    for module in (target.read_text(), _picas_cli("--config", str(file), "dump-config").stdout):
        names: dict[str, str] = {}
        exec(module, names)
        assert {name: value for name, value in names.items() if name.startswith("PICAS")} == expected


def test_picas_cli_says_what_is_missing(home: Path) -> None:
    missing = _picas_cli("dump-config")
    assert missing.returncode == 2
    assert "picas-cli init makes one" in missing.stderr
    assert "Give it by --username" in _picas_cli("init").stderr
    assert "Give it by --password" in _picas_cli("init", "--username", "ana").stderr
    assert "picas-cli --help" in _picas_cli("wipe").stderr
    assert "dump-config" in _picas_cli().stdout


def test_ours_and_1x_read_each_others_files(file: Path, home: Path) -> None:
    python = classic.python()
    if python is None:
        pytest.skip("picasclient 1.x is not installed: run scripts/classic.sh")
    theirs = [str(python.with_name("picas-cli"))]
    dumped = subprocess.run([*theirs, "dump-config"], capture_output=True, text=True, check=True, timeout=60)
    assert "PICAS_PASSWORD = 'secret'" in dumped.stdout
    words = [
        "init",
        "--host-url",
        "http://h:1",
        "--database",
        "d",
        "--username",
        "bob",
        "--password",
        "pass: #1",
    ]
    subprocess.run([*theirs, *words], capture_output=True, check=True, timeout=60)
    assert "PICAS_PASSWORD = 'pass: #1'" in _picas_cli("dump-config").stdout
    assert PicasConfig().config["username"] == "bob"


@pytest.fixture
def account(real_couchdb: CouchServer) -> Iterator[tuple[str, ...]]:
    """The words for `picas-cli init` of somebody with an account; an administrator, who may always change it."""
    path = "/_node/_local/_config/admins/classic-user"
    assert real_couchdb.ask("PUT", path, "old-one")[0] == 200
    yield "--host-url", real_couchdb.origin, "--username", "classic-user", "--password", "old-one"
    real_couchdb.ask("DELETE", path)


def test_picas_cli_changes_the_password_on_the_server_and_in_the_file(
    home: Path, account: tuple[str, ...]
) -> None:
    assert _picas_cli("init", *account).returncode == 0
    changed = _picas_cli("passwd", "--new-password", "new-one")
    assert changed.returncode == 0, changed.stderr
    assert "PICAS_PASSWORD = 'new-one'" in _picas_cli("dump-config").stdout
    again = PicasConfig()
    again.change_password(Namespace(new_password="newest"))
    assert PicasConfig().config == again.config
    assert crypto.decrypt_password(again.config["encrypted_password"]) == b"newest"


def test_a_password_that_the_server_does_not_take_changes_no_file(file: Path) -> None:
    before = file.read_text()
    config = PicasConfig()
    config.config["host_url"] = "http://localhost:1"
    config.write_config(config.config)
    written = file.read_text()
    assert written != before
    with pytest.raises(PicasError):
        config.change_password(Namespace(new_password="new"))
    assert file.read_text() == written


# --- picas config import -----------------------------------------------------------------------------


def test_a_configuration_of_1x_is_taken_over(file: Path, home: Path) -> None:
    done = _picas("config", "import")
    assert done.returncode == 0, done.stderr
    ours = home / ".config" / "picas" / "config.toml"
    assert _closed(ours)
    assert parse(ours, ours.read_text()) == {
        "pool": "http://localhost:5984/mypicasdb",
        "couchdb": {"username": "ana", "password": "secret"},
    }
    assert file.exists()
    assert _picas("config", "import", "--json").returncode == 0


def test_another_configuration_is_not_replaced_unasked(file: Path, home: Path) -> None:
    ours = home / ".config" / "picas" / "config.toml"
    ours.write_text('pool = "https://other.example.org/mine"\n\n[run]\nworkers = 4\n')
    ours.chmod(0o600)
    refused = _picas("config", "import", str(file))
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert _picas("config", "import", "--force").returncode == 0
    assert parse(ours, ours.read_text())["run"] == {"workers": 4}
    assert "localhost:5984/mypicasdb" in ours.read_text()


def test_a_configuration_without_its_key_is_not_taken_over(file: Path, home: Path) -> None:
    key = classicfile.key_path()
    elsewhere = home / "key"
    os.rename(key, elsewhere)
    refused = _picas("config", "import")
    assert refused.returncode == 2
    assert "the key of the encrypted password cannot be read" in refused.stderr
    assert _picas("config", "import", "--key", str(elsewhere)).returncode == 0
    assert "there is no file" in _picas("config", "import", str(home / "none.yml")).stderr
