"""What goes wrong between us and the server: what people are told, and what passes by itself."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import Answer as Said
from tests.cli.conftest import Shell
from tests.couchdb.certificates import has_openssl, make_certificate
from tests.couchdb.faults import Answer, Drop, Garbage, Hang, LoseAnswer, Reset, Truncate, error_page
from tests.couchdb.proxy import FaultProxy
from tests.couchdb.servers import GivenServer

from picas.cli import pools
from picas.errors import PicasError, PoolRefused, PoolUnavailable, TokenTooLarge
from picas.pool import open_pool
from picas.stores import connect
from picas.stores.couch import http
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.couchdb.conftest import Proxied
    from tests.couchdb.faults import Fault
    from tests.couchdb.servers import CouchServer, DatabaseServer

LOGIN_PAGE = Answer(302, "<html>moved</html>", {"Location": "https://login.example.org/start?session=s3cr3t"})
UPGRADE = Answer(301, "<html>moved</html>", {"Location": "https://127.0.0.1/"})
BUSY = Answer(429, {"error": "too_many_requests", "reason": "slow down"}, {"Retry-After": "1"})


def answer_of_an_app(status: int = 200) -> Answer:
    return Answer(status, {"message": "hello", "version": 3})


def told(url: str) -> PicasError:
    """What a person is told who wants to know how many tokens there are."""
    with pytest.raises(PicasError) as caught:
        open_pool(url, patience=0.0).counts()
    return caught.value


# --- The first answer ---------------------------------------------------------------------------------

FIRST_ANSWERS: list[tuple[Fault, type[PicasError], str, str]] = [
    (Drop(), PoolUnavailable, "gave no whole answer to GET", "does it speak http there"),
    (Reset(), PoolUnavailable, "gave no whole answer to GET", "does it speak http there"),
    (Truncate(10), PoolUnavailable, "ended the connection in the middle of its answer", ""),
    (Garbage(), PoolRefused, "answers with what is no HTTP: ", "something else than CouchDB"),
    (Garbage(b"\x15\x03\x03\x00\x02\x02\x46"), PoolRefused, "expects TLS", "Write https://"),
    (error_page(200), PoolRefused, "answered 200 to GET /", "A proxy or a login page"),
    (error_page(403), PoolRefused, "with a web page: '403'", "A proxy or a login page"),
    (error_page(404), PoolRefused, "with a web page: '404'", "A proxy or a login page"),
    (error_page(502), PoolUnavailable, "with a web page: '502'", "A proxy or a login page"),
    (
        Answer(400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"),
        PoolRefused,
        "expects TLS",
        "Write https://",
    ),
    (LOGIN_PAGE, PoolRefused, "on to https://login.example.org/start", "address at which CouchDB itself"),
    (UPGRADE, PoolRefused, "on to https://127.0.0.1/", "Write https://"),
    (answer_of_an_app(), PoolRefused, "is no CouchDB", "Check the address"),
    (Answer(200, [1, 2]), PoolRefused, "is no CouchDB", "Check the address"),
    (Answer(200, "plain words\n"), PoolRefused, "no JSON: 'plain words'", "Is it a CouchDB?"),
    (
        Answer(401, {"error": "unauthorized", "reason": "no"}),
        PoolRefused,
        "answered 401",
        "Check name and password",
    ),
    (Answer(403, {"error": "forbidden", "reason": "no"}), PoolRefused, "answered 403", "lack the right"),
    (
        Answer(404, {"error": "not_found", "reason": "no"}),
        PoolRefused,
        "there is no database",
        "Check the name",
    ),
    (
        Answer(413, {"error": "too_large", "reason": "no"}),
        TokenTooLarge,
        "no request as large",
        "raise its limit",
    ),
    (error_page(413), TokenTooLarge, "with a web page: '413'", "A proxy before the server"),
    (BUSY, PoolUnavailable, "asks to be left alone for 1 s", "too much to do"),
    (Answer(500, {"error": "badmatch", "reason": "boom"}), PoolUnavailable, "answered 500", "its log"),
    (
        Answer(503, {"error": "nodedown", "reason": "progress not possible"}),
        PoolUnavailable,
        "503",
        "its log",
    ),
]


@pytest.mark.parametrize(
    ("fault", "kind", "what", "advice"), FIRST_ANSWERS, ids=[f"{n}" for n in range(len(FIRST_ANSWERS))]
)
def test_a_first_answer_that_is_none_is_told_with_the_server_and_what_to_do(
    proxied: Proxied, fault: Fault, kind: type[PicasError], what: str, advice: str
) -> None:
    proxied.proxy.fault(fault, count=None)
    error = told(proxied.url)
    assert type(error) is kind or (kind is PoolUnavailable and isinstance(error, kind))
    assert what in error.message
    assert proxied.proxy.origin in error.message
    assert advice in error.advice
    secret = urlsplit(proxied.url).password
    assert "s3cr3t" not in str(error)
    assert secret is None or secret not in str(error)


def test_a_server_that_is_not_there_is_told_with_its_address(proxied: Proxied) -> None:
    proxied.proxy.refuse()
    error = told(proxied.url)
    assert isinstance(error, PoolUnavailable)
    assert f"{proxied.proxy.origin} cannot be reached" in error.message
    assert "Is the server running" in error.advice


def test_a_name_that_nobody_has_is_told() -> None:
    error = told("http://no-such-host.invalid:5984/tokens")
    assert "there is no server called no-such-host.invalid" in error.message


def test_a_server_that_says_nothing_is_given_up(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        http.Server.request, "__kwdefaults__", {**(http.Server.request.__kwdefaults__ or {}), "seconds": 0.5}
    )
    proxied.proxy.fault(Hang(), count=None)
    error = told(proxied.url)
    assert isinstance(error, PoolUnavailable)
    assert f"{proxied.proxy.origin} takes too long to answer GET" in error.message


def test_a_connection_that_is_lost_is_noticed_by_the_system(proxied: Proxied) -> None:
    """Where a firewall has forgotten it, nothing comes and nothing is refused: only the kernel can tell."""
    server, _ = connect(proxied.url)
    server.request("GET", "")
    connection = server._http.connection_from_url(proxied.proxy.origin)._get_conn()
    found = connection.sock.getsockopt
    assert found(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert found(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert found(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == http.LOST_SECONDS * 1000
    connection.close()


# --- Later answers ------------------------------------------------------------------------------------

PASSING = [
    Drop(),
    Reset(),
    LoseAnswer(),
    Truncate(10),
    Garbage(),
    error_page(200),
    error_page(403),
    error_page(502),
    LOGIN_PAGE,
    BUSY,
    Answer(500, {"error": "badmatch", "reason": "boom"}),
    Answer(503, {"error": "nodedown", "reason": "progress not possible"}),
]


@pytest.mark.parametrize("fault", PASSING, ids=[f"{n}" for n in range(len(PASSING))])
def test_what_has_worked_before_is_asked_again_when_it_fails(proxied: Proxied, fault: Fault) -> None:
    pool = open_pool(proxied.url)
    pool.push(["one", "two"])
    rule = proxied.proxy.fault(fault, count=2)
    assert pool.counts()["todo"] == 2  # type: ignore[index]
    assert rule.hits == 2


def test_a_server_that_asks_for_a_pause_gets_it(proxied: Proxied) -> None:
    pool = open_pool(proxied.url)
    pool.counts()
    proxied.proxy.fault(BUSY, count=1)
    begun = time.monotonic()
    pool.counts()
    assert time.monotonic() - begun >= 1.0


def test_a_server_that_asks_for_a_long_pause_is_not_waited_for_by_people(proxied: Proxied) -> None:
    pool = open_pool(proxied.url)
    pool.counts()
    rule = proxied.proxy.fault(Answer(503, {}, {"Retry-After": "120"}), count=None)
    with pytest.raises(PoolUnavailable, match="asks to be left alone for 120 s") as caught:
        pool.counts()
    assert caught.value.after == 120.0
    assert rule.hits == 1


def test_patience_ends_and_says_how_often_it_was_tried(proxied: Proxied) -> None:
    pool = open_pool(proxied.url, patience=1.0)
    pool.counts()
    rule = proxied.proxy.fault(Drop(), count=None)
    with pytest.raises(PoolUnavailable, match=r"tried \d+ times in") as caught:
        pool.counts()
    assert f"tried {rule.hits} times" in caught.value.message


def test_a_push_whose_answers_are_lost_adds_each_token_once(proxied: Proxied) -> None:
    pool = open_pool(proxied.url)
    numbers = proxied.proxy.fault(LoseAnswer(), method="POST", path="/_bulk_docs")
    lost = proxied.proxy.fault(
        LoseAnswer(), path="/_bulk_docs", where=lambda request: b"echo 7" in (request.body or b""), count=None
    )
    pushed = pool.push([f"echo {n}" for n in range(50)])
    assert (numbers.hits, lost.hits) == (1, 1)
    assert (pushed.pushed, pushed.skipped) == (50, 0)
    assert sorted(token.input for token in open_pool(proxied.direct).tokens()) == sorted(
        f"echo {n}" for n in range(50)
    )


def test_a_reset_and_a_delete_whose_answers_are_lost_count_what_they_did(proxied: Proxied) -> None:
    pool = open_pool(proxied.url)
    pool.push([f"echo {n}" for n in range(9)])
    pool.claim_many(5)
    proxied.proxy.fault(LoseAnswer(), method="POST", path="/_bulk_docs", count=1)
    assert pool.reset(pool.tokens("locked")) == pool.counts()["todo"] - 4  # type: ignore[index]
    proxied.proxy.fault(LoseAnswer(), method="POST", path="/_bulk_docs", count=1)
    assert pool.delete(pool.tokens()) == 9


# --- TLS ----------------------------------------------------------------------------------------------

needs_openssl = pytest.mark.skipif(not has_openssl(), reason="makes certificates with the openssl command")


@needs_openssl
@pytest.mark.parametrize(
    ("made", "trusted", "what", "advice"),
    [
        ({"end": "20210101000000Z"}, True, "certificate has expired", "must renew it"),
        ({"start": "20980101000000Z"}, True, "not yet valid", "machine's clock"),
        ({}, False, "self", "--ca FILE"),
        ({"host": "DNS:example.org"}, True, "mismatch", "It is for another server than 127.0.0.1"),
    ],
    ids=["expired", "not yet", "unknown authority", "another name"],
)
def test_a_certificate_that_is_not_good_is_told(
    couchdb: DatabaseServer,
    tmp_path: Path,
    made: dict[str, str],
    trusted: bool,
    what: str,
    advice: str,
) -> None:
    certificate = make_certificate(tmp_path / "tls", **made)
    with FaultProxy(couchdb.origin, tls=certificate.context()) as proxy:
        with pytest.raises(PoolRefused) as caught:
            open_pool(
                f"{proxy.origin}/tokens",
                ca=str(certificate.trust) if trusted else None,
                username="",
                password="",
            )
        error = caught.value
    assert what in error.message
    assert f"the certificate of {proxy.origin} is not to be trusted" in error.message
    assert advice in error.advice


@needs_openssl
def test_http_at_a_port_that_speaks_tls_is_told(couchdb: DatabaseServer, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    with FaultProxy(couchdb.origin, tls=certificate.context()) as proxy:
        error = told(f"http://127.0.0.1:{proxy.port}/tokens")
    assert "expects TLS" in error.message or "https" in error.advice


def test_https_at_a_port_that_does_not_speak_tls_is_told(
    database: str, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.5)
    error = told(database.replace("http:", "https:", 1))
    assert "no secure connection" in error.message or "does not speak TLS" in error.message
    assert "rite http:// for it" in error.advice
    proxied.proxy.fault_on_connect(Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"), count=None)
    error = told(proxied.url.replace("http:", "https:", 1))
    assert isinstance(error, PoolRefused)
    assert f"{proxied.proxy.origin.replace('http:', 'https:')} does not speak TLS" in error.message
    assert "Write http:// for it" in error.advice


# --- At the command line ------------------------------------------------------------------------------


@pytest.fixture
def shell(proxied: Proxied, tmp_path: Path) -> Shell:
    return Shell(tmp_path, proxied.url)


READING = (
    ["status"],
    ["list"],
    ["errors"],
    ["show", "token_0"],
    ["logs", "token_0"],
    ["reset", "done", "--yes"],
)


@pytest.mark.parametrize("verb", READING, ids=[verb[0] for verb in READING])
def test_no_verb_shows_a_traceback_when_the_server_breaks_off(
    shell: Shell, proxied: Proxied, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setattr(pools.made, "__kwdefaults__", {"patience": 0.3})
    monkeypatch.setattr(pools.existing, "__kwdefaults__", {"patience": 0.3})
    open_pool(proxied.direct).push(["echo one"])
    proxied.proxy.fault(Drop(), count=None, skip=1)
    said = shell.here(*verb)
    assert said.code == 1
    assert_plain(said, proxied)


def assert_plain(said: Said, proxied: Proxied) -> None:
    """What is said is for people: the server, one message, no secret, nothing of Python's."""
    assert proxied.proxy.origin in said.err
    assert said.err.startswith("picas: ")
    assert "Traceback" not in said.err
    assert "Error(" not in said.err
    secret = urlsplit(proxied.url).password
    assert secret is None or secret not in said.out + said.err


def test_a_page_of_a_proxy_is_told_in_two_lines(shell: Shell, proxied: Proxied) -> None:
    proxied.proxy.fault(error_page(200), count=None)
    said = shell("status")
    assert said.code == 1
    assert said.err.splitlines() == [
        f"picas: {proxied.proxy.origin} answered 200 to GET {urlsplit(proxied.url).path} with a web page: '200'",
        "A proxy or a login page answers in place of CouchDB: check the address, its port and path, and "
        "this machine's proxy settings.",
    ]


def test_a_refused_login_is_sent_once(shell: Shell, proxied: Proxied) -> None:
    """Five wrong tries lock the user and the address out."""
    proxied.proxy.fault(
        Answer(401, {"error": "unauthorized", "reason": "Name or password is incorrect."}), count=None
    )
    said = shell.here("run")
    assert said.code == 1
    assert "answered 401" in said.err
    assert len(proxied.proxy.requests) == 1


def test_a_pilot_that_begins_waits_for_its_server(shell: Shell, proxied: Proxied) -> None:
    open_pool(proxied.direct).push(["echo one", "echo two"])
    proxied.proxy.refuse()
    with shell.start("run") as pilot:
        assert pilot.stderr is not None
        assert b"cannot be reached" in pilot.stderr.readline()
        assert b"It is tried again" in pilot.stderr.readline()
        proxied.proxy.listen()
        out, _ = pilot.communicate(timeout=120)
    assert b"2 done" in out
    assert pilot.returncode == 0


@pytest.mark.slow
@pytest.mark.couchdb
def test_a_push_goes_on_after_a_restart_of_the_server(real_couchdb: CouchServer, database: str) -> None:
    if isinstance(real_couchdb, GivenServer):
        pytest.skip("this server is not ours to stop")

    def lines() -> Iterator[str]:
        for n in range(6_000):
            if n == 3_000:
                real_couchdb.kill()
                starting.start()
            yield f"echo {n}"

    starting = threading.Thread(target=real_couchdb.start)
    with open_pool(database, patience=120.0) as pool:
        pushed = pool.push(lines())
        starting.join()
        assert (pushed.pushed, pushed.skipped) == (6_000, 0)
        assert pool.counts()[State.TODO] == 6_000
