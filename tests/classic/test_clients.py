"""The database, as programs of 1.x use it: on an embedded pool and on CouchDB."""

from __future__ import annotations

import io
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from picas.clients import CouchClient, CouchDB
from picas.couch_errors import (
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    Unauthorized,
    is_conflict,
    is_not_found,
)
from picas.documents import Document, Task, User
from picas.errors import PoolRefused, PoolUnavailable
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALL = "function(doc) { if (doc.type == 'token') emit([doc.site, doc._id], {cores: doc.cores}); }"

TODO = """
    function(doc) {
       if(doc.type == "token") {
        if(doc.lock == 0 && doc.done == 0) {
          emit(doc._id, doc._id);
        }
      }
    }
"""
"""As programs of 1.x write it."""


def arguments(url: str) -> dict[str, Any]:
    """How `CouchDB` opens the pool of this URL."""
    if url.startswith("sqlite:"):
        return {"url": url}
    parts = urlsplit(url)
    login = {"username": parts.username, "password": parts.password}
    return {"url": f"http://{parts.hostname}:{parts.port}", "db": parts.path.strip("/"), **login}


@pytest.fixture
def db(pool_url: str) -> CouchDB:
    db = CouchDB(**arguments(pool_url))
    if not pool_url.startswith("sqlite:"):
        db.add_view("todo", TODO)
    return db


def token(token_id: str, **fields: Any) -> Task:
    return Task({"_id": token_id, "type": "token", **fields})


def ids(docs: Any) -> list[str]:
    return [doc.id for doc in docs]


# --- Documents ---------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_a_document_is_saved_read_changed_and_deleted(db: CouchDB) -> None:
    doc = Document({"_id": "a", "n": 1})
    assert db.save(doc) is doc
    first = doc.rev
    found = db.get("a")
    assert isinstance(found, Document)
    assert found.value == {"_id": "a", "_rev": first, "n": 1}
    found["n"] = 2
    db.save(found)
    assert found.rev != first
    assert db["a"]["n"] == 2
    assert db["a"].rev == found.rev
    db.delete(found)
    with pytest.raises(ValueError, match="a is not a document ID in the database"):
        db.get("a")
    with pytest.raises(ResourceNotFound):
        _ = db["a"]


@pytest.mark.any_pool
def test_a_document_without_an_id_gets_one(db: CouchDB) -> None:
    doc = db.save(Document({"n": 1}))
    assert db.get(doc.id)["n"] == 1


@pytest.mark.any_pool
def test_a_write_that_comes_too_late_is_a_conflict(db: CouchDB) -> None:
    db.save(Document({"_id": "a"}))
    old = db.get("a")
    db.save(db.get("a"))
    for late in (old, Document({"_id": "a"})):
        with pytest.raises(ResourceConflict) as raised:
            db.save(late)
        assert is_conflict(raised.value)
    with pytest.raises(ResourceConflict):
        db.delete(old)
    db.delete(db.get("a"))
    with pytest.raises(ResourceNotFound) as raised_later:
        db.delete(old)
    assert is_not_found(raised_later.value)
    assert not is_conflict(raised_later.value)


@pytest.mark.any_pool
def test_documents_are_saved_together_and_told_which_were_not(db: CouchDB) -> None:
    db.save(Document({"_id": "there"}))
    docs = [token("a"), Document({"_id": "there", "n": 1}), Document({"n": 2}), Document({"f": float("nan")})]
    assert db.save_documents(docs) == [True, False, True, False]
    assert db.get("a").rev == docs[0].rev
    assert db.get(docs[2].id)["n"] == 2
    assert "n" not in db.get("there")
    docs[0]["n"] = 3
    assert db.save_documents(iter(docs[:1])) == [True]
    assert db.save_documents([]) == []


@pytest.mark.any_pool
def test_documents_are_deleted_together_and_told_which_were_not(db: CouchDB) -> None:
    db.save_documents([token(name) for name in "abcd"])
    old, gone = db.get("b"), db.get("d")
    db.save(db.get("b"))
    db.delete(db.get("d"))
    assert db.delete_documents([db.get("a"), old, gone]) == [True, False, False]
    assert db.delete_documents([]) == []
    assert [name in db.db for name in "abc"] == [False, True, True]


@pytest.mark.any_pool
def test_documents_are_counted(db: CouchDB) -> None:
    before = db.doc_count()
    db.save_documents([token("a"), Document({"_id": "b"})])
    assert db.doc_count() == before + 2


@pytest.mark.any_pool
def test_what_is_no_token_stays_out_of_the_pool(db: CouchDB) -> None:
    db.save_documents([token("a"), Task({"_id": "task"}), Document({"_id": "b", "type": "job"})])
    assert ids(db.pool.tokens()) == ["a"]
    assert sum(db.pool.counts().values()) == 1
    assert db.pool.store.other_documents() == 2


# --- Attachments -------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_attachments_go_with_the_document(db: CouchDB) -> None:
    doc = token("a")
    doc.put_attachment("logs/a.txt", b"hello")
    doc.put_attachment("big", bytes(200_000))
    db.save(doc)
    found = db.get("a")
    assert found["_attachments"]["logs/a.txt"]["stub"] is True
    assert found.get_attachment("logs/a.txt", retrieve_from_database=db)["data"] == b"hello"
    assert found.get_attachment("big", db.db)["data"] == bytes(200_000)
    # what was fetched is not sent again, and not lost either
    found["n"] = 1
    db.save(found)
    found.remove_attachment("big")
    found.put_attachment("logs/a.txt", b"changed")
    db.save(found)
    assert list(db.get("a")["_attachments"]) == ["logs/a.txt"]
    assert db.db.get_attachment("a", "logs/a.txt").read() == b"changed"
    assert db.db.get_attachment("a", "big") is None


@pytest.mark.any_pool
def test_an_attachment_that_is_no_base64_has_its_document_refused(db: CouchDB) -> None:
    bad = Document({"_id": "a", "_attachments": {"f": {"data": "x"}}})
    assert db.save_documents([bad, Document({"_id": "b"})]) == [False, True]
    assert "a" not in db.db


# --- The database behind it --------------------------------------------------------------------------


@pytest.mark.any_pool
def test_the_generation_before_saves_tokens_by_itself(pool_url: str) -> None:
    client = CouchClient(**arguments(pool_url))
    client.db["a"] = {"type": "token", "lock": 0, "done": 0}
    found = client.db["a"]
    found["lock"] = 5
    client.db["a"] = found
    client.db.put_attachment(found, io.BytesIO(b"out"), "logs/a.out")
    found["done"] = 6
    client.db["a"] = found
    assert client.db["a"]["done"] == 6
    assert client.db.get_attachment("a", "logs/a.out").read() == b"out"
    assert client.db.get_attachment(found, "none", "default") == "default"
    client.db.delete_attachment(found, "logs/a.out")
    assert "_attachments" not in client.db["a"]
    assert found.rev == client.db["a"].rev


@pytest.mark.any_pool
def test_the_database_is_used_as_with_couchdb_python(db: CouchDB, tmp_path: Path) -> None:
    doc_id, rev = db.db.save({"n": 1})
    assert db.db[doc_id].rev == rev
    assert db.db.get("none") is None
    assert db.db.get("none", 5) == 5
    assert doc_id in db.db
    assert doc_id in list(db.db)
    assert len(db.db) == db.doc_count()
    told = db.db.update([{"_id": doc_id}, {"_id": "b"}])
    assert [(written, name) for written, name, _ in told] == [(False, doc_id), (True, "b")]
    assert isinstance(told[0][2], ResourceConflict)
    file = tmp_path / "notes.txt"
    file.write_text("some")
    doc = db.db["b"]
    with file.open() as opened:
        db.db.put_attachment(doc, opened)
    assert db.db["b"]["_attachments"]["notes.txt"]["content_type"] == "text/plain"
    with pytest.raises(ValueError, match="no filename"):
        db.db.put_attachment(doc, b"data")
    with pytest.raises(ResourceConflict):
        db.db.put_attachment({**doc, "_rev": "1-967a00dff5e02add41819138abb3284d"}, b"", "x")
    with pytest.raises(ResourceNotFound):
        db.db.put_attachment({"_id": "none", "_rev": rev}, b"", "x")
    with pytest.raises(ValueError, match="document ID"):
        db.db.delete({})
    db.db.delete(doc)
    del db.db[doc_id]
    assert doc_id not in db.db
    assert bool(db.db)
    assert db.db.name in repr(db.db)


# --- Views -------------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_a_view_is_read_by_rows_by_documents_and_one_at_a_time(db: CouchDB) -> None:
    db.save_documents([token(f"t{i}") for i in range(5)])
    rows = db.view("todo")
    assert [(row.id, row.key, row.value) for row in rows] == [(f"t{i}",) * 3 for i in range(5)]
    assert (len(rows), rows.total_rows, rows.offset) == (5, 5, 0)
    assert ids(rows["t2":"t3"]) == ["t2", "t3"]  # type: ignore[misc]
    assert ids(rows["t2"]) == ["t2"]
    docs = db.get_from_view("todo", limit=2)
    assert ids(docs) == ["t0", "t1"]
    assert docs[0]["type"] == "token"
    assert db.view("todo", limit=1, include_docs=True).rows[0].doc["lock"] == 0
    assert db.get_single_from_view("todo").id == "t0"
    window = {db.get_single_from_view("todo", window_size=3).id for _ in range(40)}
    assert window == {"t0", "t1", "t2"}


@pytest.mark.any_pool
def test_an_empty_view_and_one_that_is_not_there(db: CouchDB) -> None:
    assert db.get_from_view("todo") == []
    assert not db.is_view_nonempty("todo")
    with pytest.raises(IndexError):
        db.get_single_from_view("todo")
    missing = db.view("none")  # nothing is asked before somebody looks
    for act in (
        lambda: list(missing),
        lambda: db.get_from_view("none"),
        lambda: db.get_single_from_view("none"),
        lambda: db.delete_from_view("none"),
        lambda: list(db.view("todo", design_doc="None")),
    ):
        with pytest.raises(ResourceNotFound):
            act()
    assert not db.is_view_nonempty("none")
    assert not db.is_view_nonempty("todo", design_doc="None")
    db.save(token("a"))
    assert db.is_view_nonempty("todo")
    assert not db.is_view_nonempty("todo", key="b")


@pytest.mark.any_pool
def test_options_of_a_view(db: CouchDB) -> None:
    db.save_documents([token(f"t{i}") for i in range(6)])

    def read(**options: Any) -> list[str]:
        return ids(db.view("todo", **options))

    assert read(skip=1, limit=2) == ["t1", "t2"]
    assert read(descending=True, limit=2) == ["t5", "t4"]
    assert read(startkey="t1", endkey="t3") == ["t1", "t2", "t3"]
    assert read(startkey="t1", endkey="t3", inclusive_end=False) == ["t1", "t2"]
    assert read(startkey="t3", endkey="t1", descending=True) == ["t3", "t2", "t1"]
    assert read(keys=["t4", "none", "t0"]) == ["t4", "t0"]
    assert read(startkey=None, endkey={}, limit=1) == ["t0"]
    assert read(key=["t1"]) == []
    assert list(db.db.iterview("Monitor/todo", 4, lambda row: row.key)) == [f"t{i}" for i in range(6)]
    assert ids(db.db.iterview("Monitor/todo", 2, limit=3, skip=1)) == ["t1", "t2", "t3"]
    with pytest.raises(ValueError, match="batch"):
        next(db.db.iterview("Monitor/todo", 0))


@pytest.mark.any_pool
def test_all_documents_are_a_view_too(db: CouchDB) -> None:
    doc = db.save(token("a"))
    rows = db.db.view("_all_docs", keys=["a", "none"]).rows
    assert (rows[0].id, rows[0].value) == ("a", {"rev": doc.rev})
    assert (rows[1].id, rows[1].error) == (None, "not_found")
    assert "a" in ids(db.db.view("_all_docs", startkey="a"))


@pytest.mark.any_pool
def test_added_views_emit_lists_and_objects_and_are_reduced(db: CouchDB) -> None:
    db.add_view("all", ALL, reduce_fun="_count", design_doc="Step1")
    db.add_view(
        "sites", "function(doc) { if (doc.site) emit(doc.site, doc.cores); }", "_sum", design_doc="Step1"
    )
    sites = "here", "there", "here"
    db.save_documents([token(f"t{i}", site=site, cores=i) for i, site in enumerate(sites)])
    rows = db.view("all", design_doc="Step1", reduce=False).rows
    assert [row.key for row in rows] == [["here", "t0"], ["here", "t2"], ["there", "t1"]]
    assert rows[1].value == {"cores": 2}
    between = {"startkey": ["here"], "endkey": ["here", {}]}
    assert ids(db.get_from_view("all", design_doc="Step1", **between)) == ["t0", "t2"]
    assert [row.value for row in db.view("all", "Step1")] == [3]
    counted = db.view("all", "Step1", group_level=1)
    assert [(row.key, row.value, row.id) for row in counted] == [(["here"], 2, None), (["there"], 1, None)]
    assert [row.value for row in db.view("sites", "Step1", group=True)] == [2, 1]
    assert db.get_single_from_view("sites", design_doc="Step1")["site"] == "here"
    assert db.is_view_nonempty("all", design_doc="Step1")
    # a token that changes, and one that goes
    changed = db.get("t0")
    changed["site"] = "there"
    db.save(changed)
    db.delete(db.get("t2"))
    assert [row.key for row in db.view("sites", "Step1", group=True)] == ["there"]


@pytest.mark.any_pool
def test_a_view_is_replaced_and_others_of_its_document_stay(db: CouchDB) -> None:
    db.add_view("one", "function(doc) { emit(1, null); }", design_doc="Mine")
    db.add_view("two", "function(doc) { emit(2, null); }", design_doc="Mine")
    db.add_view("one", "function(doc) { emit(3, null); }", design_doc="Mine")
    rev = db["_design/Mine"].rev
    db.add_view("one", "function(doc) { emit(3, null); }", design_doc="Mine")
    assert db["_design/Mine"].rev == rev  # no index is built anew for nothing
    db.save(token("a"))
    assert [db.view(name, "Mine").rows[0].key for name in ("one", "two")] == [3, 2]


@pytest.mark.any_pool
def test_a_view_may_list_documents_for_others(db: CouchDB) -> None:
    db.add_view("input", "function(doc) { if (doc.of) emit(doc._id, {_id: doc.of}); }")
    db.save_documents([token("a", of="b"), token("b"), token("c", of="none")])
    assert [row.doc and row.doc.id for row in db.view("input", include_docs=True)] == ["b", None]
    assert ids(db.get_from_view("input")) == ["b"]


@pytest.mark.any_pool
def test_what_a_view_lists_is_deleted(db: CouchDB) -> None:
    db.save_documents([token("a"), token("b"), token("c", lock=5)])
    assert db.delete_from_view("todo") == [True, True]
    assert db.delete_from_view("todo") == []
    assert "c" in db.db


# --- Claims ------------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_claims_go_through_the_core_where_they_can(db: CouchDB) -> None:
    db.save_documents([token("a", cores=1), token("b", cores=4), token("c", lock=5)])
    assert db.claim_pool("todo") is db.pool
    assert db.claim_pool("error") is None
    assert db.claim_pool("todo", limit=5) is None
    with pytest.raises(ResourceNotFound):
        db.claim_pool("none")
    claimed = db.pool.claim()
    assert claimed is not None
    assert db.get(claimed.id)["lock"] > 0


@pytest.mark.couchdb
def test_claims_keep_to_a_view_that_is_somebodys(database: str) -> None:
    db = CouchDB(**arguments(database))
    db.add_view("todo", "function(doc) { if (doc.cores == 4 && doc.lock == 0) emit(doc._id, doc._id); }")
    db.save_documents([token("a", cores=1), token("b", cores=4)])
    pool = db.claim_pool("todo")
    assert pool is not None
    assert ids(pool.claim_many(5)) == ["b"]


# --- Opening -----------------------------------------------------------------------------------------


@pytest.mark.any_pool
def test_a_copy_is_of_the_same_database(db: CouchDB, monkeypatch: pytest.MonkeyPatch) -> None:
    db.save(token("a"))
    monkeypatch.chdir("/")
    copy = db.copy()
    assert copy is not db
    assert copy.get("a").id == "a"
    assert copy.pool.counts()[State.TODO] == 1


def test_a_relative_file_stays_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    db = CouchDB("sqlite:///x.db", create=True)
    db.save(token("a"))
    monkeypatch.chdir("/")
    assert db.copy().get("a").id == "a"
    assert db.pool.get("a").id == "a"
    with pytest.raises(PreconditionFailed):
        CouchDB(f"sqlite:///{tmp_path}/x.db", create=True)


@pytest.mark.couchdb
def test_a_database_is_made_or_has_to_be_there(database: str, new_database: Callable[[], str]) -> None:
    given = arguments(database)
    missing = {**given, "db": given["db"] + "_x"}
    with pytest.raises(ResourceNotFound, match="there is no database"):
        CouchDB(**missing)
    with pytest.raises(PreconditionFailed, match="already"):
        CouchDB(**given, create=True)
    made = CouchDB(**missing, create=True)
    try:
        assert made.doc_count() == 0
        assert made.db.name == missing["db"]
    finally:
        made.db._backend._server.request("DELETE", quote(missing["db"], safe=""))  # type: ignore[attr-defined]


@pytest.mark.couchdb
def test_a_wrong_password_is_told(database: str) -> None:
    given = {**arguments(database), "username": "somebody-new", "password": "wrong"}
    with pytest.raises(Unauthorized):
        CouchDB(**given)


def test_a_server_that_is_not_there_is_told(refused_port: int) -> None:
    with pytest.raises(PoolUnavailable, match="cannot be reached"):
        CouchDB(f"http://127.0.0.1:{refused_port}", "x")


@pytest.fixture
def refused_port() -> Iterator[int]:
    import socket

    with socket.socket() as bound:  # bound and not listening: nobody else gets it
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# --- Users -------------------------------------------------------------------------------------------


@pytest.mark.couchdb
def test_users_of_a_database_are_set_and_what_is_not_given_stays(database: str) -> None:
    db = CouchDB(**arguments(database))
    db.set_users(["a1"], ["m1"], ["ar"], ["mr"])
    db.set_users(members=["m2"])
    db.set_users()
    assert db.db.security["admins"] == {"names": ["a1"], "roles": ["ar"]}
    assert db.db.security["members"] == {"names": ["m2"], "roles": ["mr"]}


def test_a_file_has_no_users(tmp_path: Path) -> None:
    db = CouchDB(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(PoolRefused, match="has no users"):
        db.set_users(["a"])


@pytest.mark.any_pool
def test_a_user_is_a_document_like_others(db: CouchDB) -> None:
    db.save(User("u", "p"))
    assert db.get("org.couchdb.user:u")["name"] == "u"


# --- Beside couchdb-python ---------------------------------------------------------------------------


@pytest.fixture
def couchdb_python(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What stands for couchdb-python in a program that uses it: its errors."""
    http = ModuleType("couchdb.http")
    for name in ("ResourceConflict", "ResourceNotFound", "PreconditionFailed", "Unauthorized"):
        setattr(http, name, type(name, (Exception,), {}))
    monkeypatch.setitem(sys.modules, "couchdb.http", http)
    return http


@pytest.mark.any_pool
def test_who_waits_for_errors_of_couchdb_python_gets_them(db: CouchDB, couchdb_python: Any) -> None:
    db.save(Document({"_id": "a"}))
    for _ in range(2):
        with pytest.raises(couchdb_python.ResourceConflict) as raised:
            db.save(Document({"_id": "a"}))
        assert isinstance(raised.value, ResourceConflict)
        assert "is not the version any more" in str(raised.value)
    with pytest.raises(couchdb_python.ResourceNotFound):
        _ = db["none"]
    assert not db.is_view_nonempty("none")


def test_errors_of_couchdb_python_count_as_ours(couchdb_python: Any) -> None:
    assert is_conflict(couchdb_python.ResourceConflict())
    assert is_not_found(couchdb_python.ResourceNotFound())
    assert not is_conflict(couchdb_python.ResourceNotFound())
    assert not is_not_found(ValueError())


# --- Many --------------------------------------------------------------------------------------------


def test_many_documents_are_a_few_transactions_in_a_file(tmp_path: Path) -> None:
    db = CouchDB(f"sqlite:///{tmp_path}/x.db")
    docs = [token(f"t{i}") for i in range(3000)]
    assert all(db.save_documents(docs))
    for doc in docs:
        doc["cores"] = 4
    assert all(db.save_documents(docs))
    too_large = Document({"_id": "large", "text": "x" * 9_000_000})
    assert db.save_documents([docs[0], too_large, docs[1]]) == [True, False, True]
    assert sum(db.delete_from_view("todo")) == 3000
    assert db.doc_count() == 0
