"""Where user name and password come from, and where they must never be seen."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from picas.errors import ConfigError, MissingExtra
from picas.settings import credentials
from picas.settings.config import Access, load
from picas.settings.credentials import (
    KEYRING_SERVICE,
    Login,
    Source,
    find,
    from_keyring,
    from_netrc,
    split_login,
    to_keyring,
    without_login,
)

if TYPE_CHECKING:
    from pathlib import Path

SERVER = "https://db.example.org:6984"


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "find_spec", lambda name: None)


@pytest.fixture
def netrc(tmp_path: Path) -> Path:
    path = tmp_path / "netrc"
    path.write_text(
        "machine db.example.org login me password from-netrc\n"
        "machine ::1 login six password of-six\n"
        "default login anonymous password me@example.org\n"
    )
    path.chmod(0o600)
    return path


def _environ(path: Path) -> dict[str, str]:
    return {"NETRC": str(path)}


# --- The order ---------------------------------------------------------------------------------------


def _found(tmp_path: Path, *sources: Source) -> tuple[str, str, str] | None:
    login = find(SERVER, sources, environ=_environ(tmp_path / "netrc"))
    return login and (login.username, login.password, login.source)


URL = Source("the URL", "me", "1")
ENVIRONMENT = Source("the environment", "me", "2")
FILE = Source("the file", "me", "3")


def test_the_first_place_that_has_a_password_is_taken(tmp_path: Path, netrc: Path) -> None:
    assert _found(tmp_path, URL, ENVIRONMENT, FILE) == ("me", "1", "the URL")
    assert _found(tmp_path, ENVIRONMENT, FILE) == ("me", "2", "the environment")
    assert _found(tmp_path, FILE) == ("me", "3", "the file")
    assert _found(tmp_path) == ("me", "from-netrc", "netrc")
    netrc.unlink()
    assert _found(tmp_path) is None


def test_a_name_of_one_place_goes_with_the_password_of_another(tmp_path: Path) -> None:
    assert _found(tmp_path, Source("a", "me"), Source("b", None, "secret")) == ("me", "secret", "b")
    assert _found(tmp_path, Source("a", None, "secret"), Source("b", "me")) == ("me", "secret", "a")


def test_nobody_gets_the_password_of_somebody_else(tmp_path: Path, netrc: Path) -> None:
    assert _found(tmp_path, Source("a", "you"), FILE, Source("b", "you", "4")) == ("you", "4", "b")
    with pytest.raises(ConfigError, match="no password of user you"):
        _found(tmp_path, Source("a", "you"), FILE)


def test_a_password_without_a_name_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from the environment, but no user name"):
        _found(tmp_path, Source("the environment", None, "secret"))


def test_a_bearer_token_needs_no_name(tmp_path: Path) -> None:
    assert find(SERVER, [Source("a", None, "token")], environ={}, named=False) == Login("", "token")


# --- netrc -------------------------------------------------------------------------------------------


def test_netrc_is_read_for_the_host_alone(netrc: Path) -> None:
    environ = _environ(netrc)
    assert from_netrc("http://db.example.org/prefix", None, environ) == Login("me", "from-netrc")
    assert from_netrc("http://[::1]:5984", None, environ) == Login("six", "of-six")
    assert from_netrc("https://other.example.org", None, environ) is None
    assert from_netrc(SERVER, "you", environ) is None


def test_netrc_in_the_home_directory(netrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc.rename(netrc.parent / ".netrc")
    monkeypatch.setenv("HOME", str(netrc.parent))
    assert from_netrc(SERVER, None, {}) == Login("me", "from-netrc")


def test_netrc_that_others_can_read_is_refused_with_the_command_to_run(netrc: Path) -> None:
    netrc.chmod(0o640)
    with pytest.raises(ConfigError) as caught:
        from_netrc(SERVER, None, _environ(netrc))
    assert caught.value.advice == f"Close it: chmod 600 {netrc}"
    assert from_netrc("https://other.example.org", None, _environ(netrc)) is None


def test_netrc_that_cannot_be_understood_is_told(netrc: Path) -> None:
    netrc.write_text("machine a logon b\n")
    with pytest.raises(ConfigError, match="netrc cannot be read"):
        from_netrc(SERVER, None, _environ(netrc))


# --- The keyring -------------------------------------------------------------------------------------


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring that is a dictionary."""
    kept: dict[tuple[str, str], str] = {}
    module: Any = ModuleType("keyring")
    module.get_password = lambda service, name: kept.get((service, name))
    module.set_password = lambda service, name, password: kept.update({(service, name): password})
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setattr(credentials, "find_spec", lambda name: module)
    return kept


def test_the_keyring_is_asked_last_and_only_for_a_name(
    tmp_path: Path, keyring: dict[tuple[str, str], str]
) -> None:
    keyring[KEYRING_SERVICE + SERVER, "me"] = "from-keyring"
    assert _found(tmp_path, Source("a", "me")) == ("me", "from-keyring", "keyring")
    assert _found(tmp_path, FILE) == ("me", "3", "the file")
    assert _found(tmp_path) is None


def test_what_is_kept_in_the_keyring_is_found_again(keyring: dict[tuple[str, str], str]) -> None:
    to_keyring(SERVER, Login("me", "secret"))
    assert from_keyring(SERVER, "me") == Login("me", "secret")
    assert from_keyring(SERVER, "you") is None
    assert from_keyring("http://elsewhere", "me") is None


def test_a_keyring_without_a_desktop_has_no_password(
    keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: str) -> None:
        raise RuntimeError("no recommended backend was available")

    monkeypatch.setattr(sys.modules["keyring"], "get_password", fail)
    monkeypatch.setattr(sys.modules["keyring"], "set_password", fail)
    assert from_keyring(SERVER, "me") is None
    with pytest.raises(ConfigError, match="no recommended backend"):
        to_keyring(SERVER, Login("me", "secret"))


def test_a_keyring_that_hangs_is_given_up(
    keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(sys.modules["keyring"], "get_password", lambda *_: never.wait())
    with pytest.raises(ConfigError, match=r"did not answer within 0\.05 seconds"):
        from_keyring(SERVER, "me", seconds=0.05)
    never.set()


def test_a_keyring_that_is_not_installed_is_named_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert from_keyring(SERVER, "me") is None
    with pytest.raises(MissingExtra) as caught:
        to_keyring(SERVER, Login("me", "secret"))
    assert caught.value.advice == "pip install 'picas[keyring]'"


# --- Secrets -----------------------------------------------------------------------------------------


def test_passwords_are_in_no_repr() -> None:
    access = Access((Source("a", "me", "secret"),))
    for thing in (Login("me", "secret"), Source("a", "me", "secret"), access):
        assert "me" in repr(thing)
        assert "secret" not in repr(thing)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://me:s%2Fp%40@host/db", ("http://host/db", "me", "s/p@")),
        ("https://me@[::1]:6984/a/db", ("https://[::1]:6984/a/db", "me", None)),
        ("http://host/a@b", ("http://host/a@b", None, None)),
        ("sqlite:////data/me:x@y.db", ("sqlite:////data/me:x@y.db", None, None)),
    ],
)
def test_the_login_in_a_url(url: str, parts: tuple[str, str | None, str | None]) -> None:
    assert split_login(url) == parts


@pytest.mark.parametrize(
    "url",
    ["http://me:se/cret@host/db", "me:secret@host/db", "http://me:secret@host:port:port", "x://me:secret@"],
)
def test_a_url_that_is_wrong_is_shown_without_its_password(url: str) -> None:
    assert "cret" not in without_login(url)


# --- Settings ----------------------------------------------------------------------------------------


def _file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


WITH_PASSWORD = 'pool = "https://a:6984/db"\n[couchdb]\nusername = "me"\npassword = "secret"\n'


def test_a_configuration_file_with_a_password_must_be_closed_to_others(tmp_path: Path) -> None:
    path = _file(tmp_path, WITH_PASSWORD, 0o604)
    with pytest.raises(ConfigError, match="others than you may read it") as caught:
        load(environ={}, path=path)
    assert caught.value.advice == f"Close it: chmod 600 {path}"
    path.chmod(0o600)
    assert load(environ={}, path=path).access.sources == (Source(str(path), "me", "secret"),)


def test_a_configuration_file_with_a_password_in_its_url_too(tmp_path: Path) -> None:
    path = _file(tmp_path, 'pool = "https://me:secret@a/db"\n', 0o644)
    with pytest.raises(ConfigError, match="others than you may read it"):
        load(environ={}, path=path)
    path.chmod(0o600)
    settings = load(environ={}, path=path)
    assert settings.pool == "https://a/db"
    assert settings.access.sources == (Source("the URL", "me", "secret"),)


def test_a_configuration_file_without_a_password_may_be_open(tmp_path: Path) -> None:
    path = _file(tmp_path, 'pool = "https://a/db"\n[couchdb]\nusername = "me"\n', 0o644)
    assert load(environ={}, path=path).access.sources == (Source(str(path), "me"),)


def test_the_password_is_sent_to_its_own_server_only(tmp_path: Path) -> None:
    path = _file(tmp_path, WITH_PASSWORD)
    assert load("https://a:6984/other", environ={}, path=path).access.sources
    for other in ("https://a/db", "http://a:6984/db", "https://b:6984/db"):
        assert load(other, environ={}, path=path).access.sources == ()


def test_call_environment_and_file_add_up_in_this_order(tmp_path: Path) -> None:
    text = '[couchdb]\nusername = "c"\nauth = "session"\nca = "ca.pem"\ninsecure = true\n'
    path = _file(tmp_path, text)
    environ = {"PICAS_USERNAME": "b", "PICAS_PASSWORD": "2", "PICAS_CA": "/env.pem", "PICAS_INSECURE": "no"}
    found = load("https://a:1@h/db", environ, path, {"auth": "jwt", "ca": None, "username": None}).access
    assert found.sources == (
        Source("the URL", "a", "1"),
        Source("the environment", "b", "2"),
        Source(str(path), "c"),
    )
    assert (found.auth, found.ca, found.insecure) == ("jwt", "/env.pem", False)
    assert load("https://h/db", {}, path).access.ca == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"PICAS_AUTH": "digest"}, "PICAS_AUTH must be one of basic, session, jwt, not 'digest'"),
        ({"PICAS_INSECURE": "perhaps"}, "PICAS_INSECURE must be true or false, not 'perhaps'"),
    ],
)
def test_a_variable_that_means_nothing_is_named(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ=environ, path=tmp_path / "none.toml")
    assert caught.value.message == message


def test_a_wrong_password_in_the_file_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={}, path=_file(tmp_path, "[couchdb]\npassword = 123456\n"))
    assert "'couchdb.password' must be a password" in caught.value.message
    assert "123456" not in str(caught.value)
