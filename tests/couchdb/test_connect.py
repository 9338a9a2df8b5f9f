"""The way to a server: sessions, tokens, refused logins, certificates, proxies, IPv6, a path before the database."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.couchdb import certificates
from tests.couchdb.faults import Answer
from tests.couchdb.proxy import FaultProxy
from tests.couchdb.relay import relay

from picas.errors import ConfigError, InvalidInput, PoolRefused, PoolUnavailable
from picas.pool import open_pool
from picas.settings.config import Access
from picas.settings.credentials import Login
from picas.stores.couch.http import Server, split_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.couchdb.conftest import Proxied
    from tests.couchdb.fixtures import AnyServer
    from tests.couchdb.servers import CouchServer


@contextlib.contextmanager
def opened(url: str, login: Login | None = None, **access: Any) -> Iterator[tuple[Server, str]]:
    """The server and the path of the database."""
    server_url, database, of_url = split_url(url)
    with contextlib.closing(Server(server_url, login or of_url, Access(**access))) as server:
        yield server, database


def user_of(server: Server) -> str | None:
    name: str | None = server.request("GET", "_session").value["userCtx"]["name"]
    return name


# --- Who asks ----------------------------------------------------------------------------------------


@pytest.fixture
def guarded(strict_couchdb: CouchServer) -> Iterator[tuple[FaultProxy, Login]]:
    """A proxy to a server that locks people out, and a user of the database `strict` on it."""
    login = Login("user-" + secrets.token_hex(4), "päss wörd:€")
    path = f"/_users/org.couchdb.user:{login.username}"
    user = {"name": login.username, "password": login.password, "roles": ["picas"], "type": "user"}
    assert strict_couchdb.ask("PUT", path, user)[0] == 201
    with FaultProxy(strict_couchdb.origin) as proxy:
        yield proxy, login


def test_name_and_password_of_any_letters(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    for auth in ("basic", "session"):
        with opened(f"{proxy.origin}/strict", login, auth=auth) as (server, _):
            assert user_of(server) == login.username


def test_a_session_asks_for_the_password_once(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    with_password = proxy.fault(
        Answer(500), where=lambda request: "authorization" in request.headers, count=None
    )
    with opened(f"{proxy.origin}/strict", login, auth="session") as (server, path):
        for _ in range(5):
            server.request("GET", path)
    assert proxy.count("POST", "/_session") == 1
    assert with_password.hits == 0


def test_a_session_takes_the_cookie_that_the_server_renews(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    with opened(f"{proxy.origin}/strict", login, auth="session") as (server, path):
        server.request("GET", path)
        proxy.fault(Answer(200, {}, {"Set-Cookie": "AuthSession=renewed; Version=1; Path=/; HttpOnly"}))
        server.request("GET", path)
        renewed = proxy.fault(Answer(200, {}), where=lambda r: r.headers["cookie"] == "AuthSession=renewed")
        server.request("GET", path)
    assert renewed.hits == 1


def test_a_session_that_has_run_out_is_renewed_once(
    guarded: tuple[FaultProxy, Login], strict_couchdb: CouchServer
) -> None:
    proxy, login = guarded
    with opened(f"{proxy.origin}/strict", login, auth="session") as (server, path):
        server.request("GET", path)
        # every cookie so far is worth nothing now
        strict_couchdb.ask("PUT", "/_node/_local/_config/chttpd_auth/secret", secrets.token_hex(16))
        server.request("GET", path)
        assert proxy.count("POST", "/_session") == 2
        always = proxy.fault(Answer(401), "GET", "/strict", count=None)
        for _ in range(3):
            with pytest.raises(PoolRefused):
                server.request("GET", path)
        assert proxy.count("POST", "/_session") == 3
        assert always.hits == 2


@pytest.mark.parametrize("auth", ["basic", "session"])
def test_a_refused_login_is_sent_once(guarded: tuple[FaultProxy, Login], auth: str) -> None:
    proxy, login = guarded
    wrong = Login(login.username, "not-the-password")
    with opened(f"{proxy.origin}/strict", wrong, auth=auth) as (server, path):
        for _ in range(7):
            with pytest.raises(PoolRefused, match="401") as caught:
                server.request("GET", path)
            assert "not-the-password" not in str(caught.value)
            assert login.username in caught.value.advice
    assert proxy.count() == 1
    with opened(f"{proxy.origin}/strict", login) as (server, path):  # and so nobody is locked out
        assert server.request("GET", path).status == 200


def test_a_lock_out_is_explained(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    for _ in range(6):
        with (
            opened(f"{proxy.origin}/strict", Login(login.username, "no")) as (server, path),
            pytest.raises(PoolRefused) as caught,
        ):
            server.request("GET", path)
    assert "403" in caught.value.message
    assert "locked out for five minutes" in caught.value.advice


def test_a_bearer_token(guarded: tuple[FaultProxy, Login], jwt_secret: bytes) -> None:
    token = bearer_token(jwt_secret, time.time() + 600)
    with opened(f"{guarded[0].origin}/strict", Login("", token), auth="jwt") as (server, _):
        assert user_of(server) == "robot"
        with pytest.raises(InvalidInput):  # 400, and not the token's fault
            server.request("PUT", "strict/_bad", {})


def test_a_bearer_token_that_has_run_out_is_told_and_not_sent_again(
    guarded: tuple[FaultProxy, Login], jwt_secret: bytes
) -> None:
    proxy, _ = guarded
    token = bearer_token(jwt_secret, time.time() - 600)
    with opened(f"{proxy.origin}/strict", Login("", token), auth="jwt") as (server, path):
        for _ in range(3):
            with pytest.raises(PoolRefused, match="401") as caught:
                server.request("GET", path)
            assert "it may have run out" in caught.value.advice
            assert token not in str(caught.value)
    assert proxy.count() == 1


def test_a_bearer_token_that_is_none(guarded: tuple[FaultProxy, Login]) -> None:
    with (
        opened(f"{guarded[0].origin}/strict", Login("", "nonsense"), auth="jwt") as (server, path),
        pytest.raises(PoolRefused, match="400"),
    ):
        server.request("GET", path)


def bearer_token(secret: bytes, expires: float) -> str:
    """A JSON Web Token (RFC 7519) of a user called robot."""

    def part(value: object) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    claims = {"sub": "robot", "exp": int(expires), "_couchdb.roles": ["picas"]}
    signed = part({"alg": "HS256", "typ": "JWT"}) + "." + part(claims)
    return signed + "." + part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def test_a_login_page_in_front_of_the_server(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    proxy.fault(Answer(401, "<html>Who are you?</html>"), count=None)
    with opened(f"{proxy.origin}/strict", login) as (server, path):
        for _ in range(3):
            with pytest.raises(PoolRefused, match="401"):
                server.request("GET", path)
    assert proxy.count() == 1


def test_the_pool_is_opened_as_the_arguments_say(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    with open_pool(f"{proxy.origin}/strict", username=login.username, password=login.password) as pool:
        assert pool.url == f"{proxy.origin}/strict"
    with pytest.raises(PoolRefused, match="401"):
        open_pool(f"{proxy.origin}/strict")


def test_a_password_in_the_url_stays_out_of_sight(guarded: tuple[FaultProxy, Login]) -> None:
    proxy, login = guarded
    url = f"http://{login.username}:p%C3%A4ss%20w%C3%B6rd%3A%E2%82%AC@{proxy.origin[7:]}/strict"
    with open_pool(url) as pool:
        assert pool.url == f"{proxy.origin}/strict"
        shown = repr(vars(pool.store)) + repr(vars(pool.store._server))  # type: ignore[attr-defined]
    assert login.password not in shown


# --- Certificates ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificate:
    if not certificates.has_openssl():
        pytest.skip("openssl is not installed")
    return certificates.make_certificate(tmp_path_factory.mktemp("certificate") / "good")


@pytest.fixture
def secure(couchdb: AnyServer, database: str, certificate: certificates.Certificate) -> Iterator[str]:
    """The URL of a database by https."""
    with FaultProxy(couchdb.origin, certificate.context()) as proxy:
        yield proxy.through(database)


def test_an_authority_of_ones_own(secure: str, certificate: certificates.Certificate, tmp_path: Path) -> None:
    with opened(secure, ca=str(certificate.trust)) as (server, path):
        assert server.request("GET", path).status == 200
    # a folder, with the names that OpenSSL looks for
    hashed = certificates.subject_hash(certificate)
    (tmp_path / f"{hashed}.0").write_bytes(certificate.trust.read_bytes())
    with opened(secure, ca=str(tmp_path)) as (server, path):
        assert server.request("GET", path).status == 200


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_that_is_said(secure: str) -> None:
    with opened(secure) as (server, path), pytest.raises(PoolRefused, match="not to be trusted"):
        server.request("GET", path)
    with opened(secure, insecure=True) as (server, path):
        assert server.request("GET", path).status == 200


def test_a_certificate_to_show(
    couchdb: AnyServer, database: str, certificate: certificates.Certificate, tmp_path: Path
) -> None:
    mine = certificates.make_certificate(tmp_path / "mine")
    context = certificate.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(mine.trust)
    files = {"client_cert": str(mine.trust), "client_key": str(mine.folder / "key.pem")}
    with FaultProxy(couchdb.origin, context) as proxy:
        with opened(proxy.through(database), ca=str(certificate.trust), **files) as (server, path):
            assert server.request("GET", path).status == 200
        with (
            opened(proxy.through(database), ca=str(certificate.trust)) as (server, path),
            pytest.raises((PoolRefused, PoolUnavailable)),
        ):
            server.request("GET", path)


def test_files_that_are_no_certificates_are_named(
    tmp_path: Path, certificate: certificates.Certificate
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    encrypted = certificates.encrypted_key(certificate, tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"certificates in .*wrong\.pem cannot be read"):
        Server("https://h", None, Access(ca=str(wrong)))
    with pytest.raises(ConfigError, match=r"client certificate .*wrong\.pem cannot be used"):
        Server("https://h", None, Access(client_cert=str(wrong)))
    with pytest.raises(ConfigError, match="cannot be used"):  # and nobody is asked for its pass phrase
        Server("https://h", None, Access(client_cert=str(certificate.trust), client_key=str(encrypted)))


# --- Proxies -----------------------------------------------------------------------------------------


def test_http_by_way_of_a_proxy(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(login="me:wörd") as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:w%C3%B6rd@{proxy.netloc}")
        with opened(database) as (server, path):
            assert server.request("GET", path).status == 200
        assert proxy.seen == [f"GET {server.url}/{path}"]


def test_https_by_way_of_a_proxy(
    secure: str, certificate: certificates.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relay(login="me:word") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"me:word@{proxy.netloc}")
        with opened(secure, ca=str(certificate.trust)) as (server, path):
            assert server.request("GET", path).status == 200
            assert server.request("PUT", f"{path}/a", {}).status == 201
        assert proxy.seen == [f"CONNECT {server.url[8:]}"]


def test_a_server_that_needs_no_proxy(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.netloc}")
        monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.1")
        with opened(database) as (server, path):
            assert server.request("GET", path).status == 200
        assert proxy.seen == []


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_proxy_that_wants_a_password_is_told_apart_from_the_server(
    database: str, secure: str, monkeypatch: pytest.MonkeyPatch, is_tls: bool
) -> None:
    with relay(login="me:word") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://me:wrong-one@{proxy.netloc}")
        with (
            opened(secure if is_tls else database, insecure=True) as (server, path),
            pytest.raises(PoolRefused) as caught,
        ):
            server.request("GET", path)
        assert f"the proxy http://{proxy.netloc} before {server.url} wants" in caught.value.message
        assert "wrong-one" not in str(caught.value)
        assert proxy.refused == 1


def test_a_proxy_that_is_not_there_may_come_back(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay() as proxy:
        netloc = proxy.netloc
    monkeypatch.setenv("HTTP_PROXY", f"http://{netloc}")
    with opened(database) as (server, path), pytest.raises(PoolUnavailable) as caught:
        server.request("GET", path)
    assert f"by way of the proxy http://{netloc}" in caught.value.message
    assert "NO_PROXY" in caught.value.advice


def test_a_proxy_that_cannot_be_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@h:1")
    with pytest.raises(ConfigError) as caught:
        Server("http://example.org")
    assert "socks5://h:1" in caught.value.message


# --- Addresses ---------------------------------------------------------------------------------------


def test_a_path_before_the_database(couchdb: AnyServer, database: str) -> None:
    with relay(origin=couchdb.origin, prefix="/couch/one") as web:
        login = database.rpartition("@")[0].partition("://")[2]
        name = database.rpartition("/")[2]
        url = (
            f"http://{login}@{web.netloc}/couch/one/{name}"
            if login
            else f"http://{web.netloc}/couch/one/{name}"
        )
        with open_pool(url) as pool:
            assert pool.url == f"http://{web.netloc}/couch/one/{name}"
            assert pool.push(["echo one"]).pushed == 1
            assert pool.claim() is not None
        for auth in ("basic", "session"):
            with opened(url, auth=auth) as (server, path):
                assert server.request("GET", path).status == 200
        assert all(line.split()[1].startswith("/couch/one/") for line in web.seen)


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address(couchdb: AnyServer, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = database.rpartition("/")[2]
    with relay(origin=couchdb.origin, host="::1") as web:
        login = database.rpartition("@")[0].partition("://")[2]
        url = f"http://{login}@{web.netloc}/{name}" if login else f"http://{web.netloc}/{name}"
        with open_pool(url) as pool:
            assert pool.url == f"http://[::1]:{web.server_port}/{name}"
        with relay() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.netloc}")
            for names in ("::1", "[::1]", f"[::1]:{web.server_port}"):
                monkeypatch.setenv("NO_PROXY", names)
                with opened(url) as (server, path):
                    assert server.request("GET", path).status == 200
            assert proxy.seen == []


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://h/a%2Fb", ("http://h", "a/b")),
        ("https://h:6984/p/q/db/", ("https://h:6984/p/q", "db")),
        ("http://me:x@[fe80::1]:1/db", ("http://[fe80::1]:1", "db")),
    ],
)
def test_server_and_database_of_a_url(url: str, parts: tuple[str, str]) -> None:
    assert split_url(url)[:2] == parts


@pytest.mark.parametrize(
    "url", ["http://h", "http:///db", "http://h:x/db", "http://[::1/db", "http://h/db?a=1", "ftp://h/db"]
)
def test_what_is_no_url_of_a_pool(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a pool"):
        split_url(url.replace("://", "://me:secret@"))


def test_a_server_that_sends_us_on_is_told_with_the_place(proxied: Proxied) -> None:
    proxied.proxy.fault(Answer(301, "", {"Location": "https://me:secret@elsewhere.example.org/db"}))
    with opened(proxied.url) as (server, path), pytest.raises(PoolRefused) as caught:
        server.request("GET", path)
    assert "https://elsewhere.example.org/db" in caught.value.message
