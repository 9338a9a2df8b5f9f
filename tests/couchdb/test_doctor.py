"""`picas doctor` on CouchDB: conflicts, design documents, and room that is wasted."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest
from tests.couchdb.processes import ask

from picas.cli.main import run
from picas.pool import open_pool
from picas.stores import design
from picas.stores.couch import designs
from picas.stores.couch import doctor as couch_doctor
from picas.stores.couch.store import CouchStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.couchdb.servers import CouchServer

    Doctor = Callable[..., tuple[int, str]]

pytestmark = pytest.mark.couchdb


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`picas doctor` for the pool at a URL: exit code and what it says."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def call(url: str, *words: str) -> tuple[int, str]:
        code = run(["doctor", *words, "--pool", url])
        return code, capsys.readouterr().out

    return call


def _check(answer: tuple[int, str], name: str) -> dict[str, Any]:
    """What was found, in JSON."""
    return next(each for each in json.loads(answer[1])["checks"] if each["name"] == name)


@pytest.fixture
def healthy(database: str) -> str:
    """A pool with a token in it, and all the design documents that there are."""
    with open_pool(database) as pool:
        pool.push(["echo 1"])
        assert isinstance(pool.store, CouchStore)
        pool.store.designs.create_own()
        pool.store.designs.create_classic()
        pool.store.designs.create_guard()
    return database


def test_stale_design_documents_are_found_and_renewed(doctor: Doctor, healthy: str) -> None:
    assert doctor(healthy)[0] == 0
    found = ask(healthy, "GET", "/_design/picas-push")[1]
    assert ask(healthy, "DELETE", f"/_design/picas-push?rev={found['_rev']}")[0] == 200
    guard = ask(healthy, "GET", "/_design/picas-guard")[1]
    text = "function () { return 1; }"
    mark = {"version": 1, "digest": design._text_digest(text)}
    assert (
        ask(healthy, "PUT", "/_design/picas-guard", {**guard, "validate_doc_update": text, "picas": mark})[0]
        == 201
    )
    left = {
        name: value for name, value in ask(healthy, "GET", "/_design/Monitor")[1].items() if name[0] != "_"
    }
    assert ask(healthy, "PUT", "/_design/Monitor-next", left)[0] == 201
    answer = doctor(healthy, "views", "--json")
    assert answer[0] == 1
    assert _check(answer, "views")["stale"] == ["picas-push", "picas-guard", "Monitor-next"]
    answer = doctor(healthy, "--fix")
    assert answer[0] == 0, answer[1]
    assert "mended: picas-push created, picas-guard updated" in answer[1]
    assert ask(healthy, "GET", "/_design/Monitor-next")[0] == 404
    assert doctor(healthy)[0] == 0


def test_edited_broken_and_foreign_design_documents_are_told(
    doctor: Doctor, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(designs, "COMMIT_SECONDS", 0.1)
    monitor = ask(healthy, "GET", "/_design/Monitor")[1]
    monitor["views"]["todo"]["map"] = "function (doc) { emit(1, 1); }"
    assert ask(healthy, "PUT", "/_design/Monitor", monitor)[0] == 201
    fine = {"views": {"all": {"map": "function (doc) { emit(doc._id, 1); }"}}}
    assert ask(healthy, "PUT", "/_design/theirs", fine)[0] == 201
    answer = doctor(healthy, "views")
    assert answer[0] == 1
    assert "changed by somebody: Monitor" in answer[1]
    with open_pool(healthy) as pool:
        assert isinstance(pool.store, CouchStore)
        pool.store.designs.create_classic(force=True)
    assert "of other programs: theirs" in doctor(healthy, "views")[1]
    broken = {"views": {"all": {"map": "function (doc) { emit("}}}
    if ask(healthy, "PUT", "/_design/broken", broken)[0] == 201:  # some servers look before they take it
        answer = doctor(healthy, "views")
        assert answer[0] == 1
        assert "with views that the server cannot read: broken" in answer[1]


def test_conflicting_versions_are_made_one(doctor: Doctor, healthy: str) -> None:
    doc = ask(healthy, "GET", "/token_0")[1]
    number, _, _ = doc["_rev"].partition("-")
    other = {**doc, "hostname": "there", "_rev": f"{number}-{'0' * 32}"}
    assert ask(healthy, "POST", "/_bulk_docs", {"docs": [other], "new_edits": False})[0] == 201
    answer = doctor(healthy, "conflicts", "--json")
    assert (answer[0], _check(answer, "conflicts")["conflicts"]) == (1, 1)
    answer = doctor(healthy, "--fix")
    assert "made one of 1, freed 0" in answer[1]
    assert doctor(healthy, "conflicts")[0] == 0
    apart = {**ask(healthy, "GET", "/token_0")[1], "input": "echo 2"}
    apart["_rev"] = f"{apart['_rev'].partition('-')[0]}-{'0' * 32}"
    assert ask(healthy, "POST", "/_bulk_docs", {"docs": [apart], "new_edits": False})[0] == 201
    answer = doctor(healthy, "conflicts", "--fix")
    assert answer[0] == 1
    assert "not mended: made one of 0, freed 0; 1 stay: held by claims that may" in answer[1]


def test_files_that_are_too_large_are_compacted(
    doctor: Doctor, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = ask(healthy, "GET", "/token_0")[1]
    for n in range(60):
        doc = {**doc, "note": secrets.token_hex(20_000), "n": n}
        doc["_rev"] = ask(healthy, "PUT", "/token_0", doc)[1]["rev"]
    assert doctor(healthy, "size")[0] == 0
    monkeypatch.setattr(couch_doctor, "WASTEFUL_BYTES", 500_000)
    answer = doctor(healthy, "size", "--json")
    assert answer[0] == 1, answer[1]
    before = _check(answer, "size")["files"]["the database"]["file"]
    assert doctor(healthy, "size", "--fix")[0] == 0
    until = time.monotonic() + 60
    while ask(healthy, "GET", "")[1]["sizes"]["file"] > before / 2:
        assert time.monotonic() < until, "it was not compacted"
        time.sleep(0.1)


def test_tombstones_are_told(doctor: Doctor, healthy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pool(healthy) as pool:
        pool.push(["x"] * 30)
        pool.delete(pool.tokens())
    assert doctor(healthy, "tombstones")[0] == 0
    monkeypatch.setattr(couch_doctor, "MANY_TOMBSTONES", 20)
    answer = doctor(healthy, "tombstones", "--fix")
    assert answer[0] == 1
    assert "picas copy OLD NEW" in answer[1]


def test_a_server_that_does_not_compact_is_told(strict_couchdb: CouchServer, doctor: Doctor) -> None:
    name = "lazy_" + secrets.token_hex(4)
    strict_couchdb.ask("PUT", f"/{name}")
    pool = f"{strict_couchdb.url}/{name}"
    setting = "/_node/_local/_config/smoosh/db_channels"
    try:
        assert "the server does it by itself" in doctor(pool, "compaction")[1]
        assert strict_couchdb.ask("PUT", setting, "")[0] == 200
        answer = doctor(pool, "compaction", "--json")
        assert (answer[0], _check(answer, "compaction")["off"]) == (1, ["db_channels"])
    finally:
        strict_couchdb.ask("DELETE", setting)
        strict_couchdb.ask("DELETE", f"/{name}")


def test_a_member_is_told_what_only_others_may(strict_couchdb: CouchServer, doctor: Doctor) -> None:
    name = "user-" + secrets.token_hex(4)
    user = {"name": name, "password": "pw", "roles": ["picas"], "type": "user"}
    assert strict_couchdb.ask("PUT", f"/_users/org.couchdb.user:{name}", user)[0] == 201
    pool = strict_couchdb.origin.replace("://", f"://{name}:pw@") + "/strict"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(couch_doctor, "WASTEFUL_BYTES", -(10**12))
        patch.setattr(couch_doctor, "WASTEFUL_FACTOR", 0)
        answer = doctor(pool, "size", "--fix")
    assert answer[0] == 1
    assert "not mended: " in answer[1]
    assert "only an administrator of the database may have it compacted" in answer[1]
