"""Log messages in a database."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from picas.clients import CouchDB
from picas.couch_errors import ResourceNotFound
from picas.couchdblogger import CouchDBLogger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_logger(url: str) -> CouchDBLogger:
    if url.startswith("sqlite:"):
        return CouchDBLogger(url, "logs")
    parts = urlsplit(url)
    return CouchDBLogger(parts._replace(path="").geturl(), parts.path.strip("/"))


@pytest.fixture
def handler(pool_url: str) -> Iterator[CouchDBLogger]:
    handler = open_logger(pool_url)
    log = logging.getLogger("test-of-couchdblogger")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def written(handler: CouchDBLogger) -> list[dict[str, Any]]:
    docs = [dict(handler.db[name]) for name in handler.db]
    return sorted(docs, key=lambda doc: doc["created"])


@pytest.mark.any_pool
def test_records_are_documents(handler: CouchDBLogger) -> None:
    log = logging.getLogger("test-of-couchdblogger")
    log.info("%s tokens", 5)
    log.warning({"tokens": 5})
    try:
        raise ValueError("no tokens")
    except ValueError:
        log.exception("broken")
    docs = written(handler)
    assert [doc["msg"] for doc in docs] == ["5 tokens", {"tokens": 5}, "broken"]
    assert [doc["lvl"] for doc in docs] == [20, 30, 40]
    assert docs[2]["exception"].endswith("ValueError: no tokens")
    assert {doc["type"] for doc in docs} == {"log"}
    assert {doc["func"] for doc in docs} == {"test_records_are_documents"}
    assert {(doc["host"], doc["trance_nr"]) for doc in docs} == {(socket.gethostname(), os.getpid())}
    assert all(doc["_id"].startswith(f"{socket.gethostname()}:") for doc in docs)


@pytest.mark.any_pool
def test_on_the_root_logger_it_does_not_log_its_own_requests(pool_url: str) -> None:
    handler = open_logger(pool_url)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        logging.getLogger("any").debug("once")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert [doc["msg"] for doc in written(handler)] == ["once"]


def test_a_record_that_cannot_be_written_is_no_error(
    handler: CouchDBLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("test-of-couchdblogger").error({"bad": float("nan")})
    assert written(handler) == []
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_program_that_names_no_database_is_told_at_once(database: str) -> None:
    parts = urlsplit(database)
    with pytest.raises(ResourceNotFound):
        CouchDBLogger(parts._replace(path="").geturl(), parts.path.strip("/") + "_none")


def test_logs_are_no_tokens(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    open_logger(url).handle(logging.LogRecord("n", 20, "p", 3, "m", (), None))
    db = CouchDB(url)
    assert db.doc_count() == 1
    assert list(db.pool.tokens()) == []
