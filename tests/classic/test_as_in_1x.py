"""The same program, run by picasclient 1.x and by ours, prints the same."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.couchdb import classic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.couchdb.fixtures import Databases

pytestmark = pytest.mark.couchdb

CONNECT = """
import sys
from urllib.parse import urlsplit
from picas.clients import CouchDB
from picas.documents import Document, Job, Task, User
parts = urlsplit(sys.argv[1])
db = CouchDB(
    url=f"http://{parts.hostname}:{parts.port}", db=parts.path.strip("/"),
    username=parts.username, password=parts.password,
)

def tell(label, act):
    # Revisions and times differ from run to run.
    try:
        found = act()
    except Exception as error:
        print(label, "raised", type(error).__name__)
    else:
        print(label, plain(found))

def plain(value):
    if hasattr(value, "rows") or hasattr(value, "total_rows"):
        return [(row.id, row.key, plain(row.value)) for row in value]
    if isinstance(value, (Document, dict)):
        inner = value.value if isinstance(value, Document) else value
        return {k: plain(v) for k, v in sorted(inner.items()) if k not in ("_rev", "time", "digest", "revpos", "hostname")}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return "a time" if isinstance(value, int) and value > 10**9 else value
"""

CLIENTS = """
tell("missing", lambda: db.get("none"))
tell("missing by index", lambda: db["none"])
tell("saved", lambda: db.save(Document({"_id": "a", "n": 1})))
tell("got", lambda: db.get("a"))
tell("by index", lambda: dict(db["a"]))
tell("late", lambda: db.save(Document({"_id": "a"})))
tell("many", lambda: db.save_documents([Task({"_id": f"t{i}", "type": "token"}) for i in range(4)] + [Document({"_id": "a"})]))
tell("none", lambda: db.save_documents([]))
tell("view added", lambda: db.add_view("todo", 'function(doc) { if (doc.type == "token" && doc.lock == 0) emit(doc._id, doc._id); }'))
tell("other view", lambda: db.add_view("lists", "function(doc) { emit([doc.type || 'none', doc._id], {n: 1}); }", reduce_fun="_count", design_doc="Step"))
tell("rows", lambda: db.view("todo"))
tell("some rows", lambda: db.view("todo", limit=2, skip=1))
tell("backwards", lambda: db.view("todo", descending=True, startkey="t2"))
tell("a range", lambda: db.view("todo")["t1":"t2"])
tell("a key", lambda: db.view("todo", key="t3"))
tell("keys", lambda: db.view("todo", keys=["t3", "t0"]))
tell("reduced", lambda: [(row.key, row.value) for row in db.view("lists", "Step", group_level=1)])
tell("lists", lambda: db.view("lists", "Step", reduce=False, startkey=["token"]))
tell("documents", lambda: db.get_from_view("todo", limit=2))
tell("one", lambda: db.get_single_from_view("todo"))
tell("one of none", lambda: db.get_single_from_view("todo", key="none"))
tell("no view", lambda: db.get_from_view("none"))
tell("no rows", lambda: list(db.view("none")))
tell("any", lambda: [db.is_view_nonempty("todo"), db.is_view_nonempty("todo", key="x"), db.is_view_nonempty("none"), db.is_view_nonempty("todo", design_doc="None")])
tell("attached", lambda: attach())
tell("count", lambda: db.doc_count())
tell("deleted", lambda: db.delete(db.get("t0")))
tell("deleted twice", lambda: db.delete(Document({"_id": "t0", "_rev": "1-967a00dff5e02add41819138abb3284d"})))
tell("deleted late", lambda: db.delete(Document({"_id": "a", "_rev": "1-967a00dff5e02add41819138abb3284d"})))
tell("deleted all", lambda: db.delete_documents([db.get("t1")]))
tell("deleted by view", lambda: db.delete_from_view("todo"))
tell("deleted by no view", lambda: db.delete_from_view("none"))
tell("users", lambda: db.set_users(["a"], ["m"], ["ar"], ["mr"]) or db.db.security["members"])
tell("left", lambda: sorted(db.db))
"""

ATTACH = """
def attach():
    doc = db.get("a")
    doc.put_attachment("logs/x.txt", b"some", "text/x")
    doc.put_attachment("y.txt", b"more")
    db.save(doc)
    found = db.get("a")
    first = found.get_attachment("logs/x.txt")
    second = found.get_attachment("logs/x.txt", retrieve_from_database=db)
    again = db.get("a")
    again.remove_attachment("y.txt")
    db.save(again)
    return [first, second, sorted(db.get("a")["_attachments"])]
"""

DOCUMENTS = """
tell("task", lambda: Task({"_id": "a", "x": 1}))
tell("of a database", lambda: Task({"_id": "a", "_rev": "1-a"}))
tell("no id", lambda: Task()["type"])
task = Task({"_id": "a", "type": "token"})
for name in ("lock", "done", "scrub", "lock", "error", "scrub", "done"):
    tell(name, getattr(task, name))
    tell("so", lambda: [task.is_done(), task.has_error(), len(task.get_errors())])
tell("told", lambda: Task({"_id": "a"}).error("why", ValueError("because"))["error"][0]["message"])
tell("fields", lambda: [task.input, task.output, task.uploads])
job = Job({"_id": "j", "_rev": "1-a"})
for act in ("job.queue('m')", "job.queue('m', 'h')", "job.start()", "job.is_done()", "job.finish()", "job.is_done()"):
    tell(act, lambda: eval(act))
tell("archived", lambda: job.archive()["archive"])
tell("no job", lambda: Job({}))
tell("user", lambda: User("u", "p", ["r"], {"x": 1}))
doc = Document({"_id": "d"})
tell("attached", lambda: doc.put_attachment("a.png", b"x") or doc)
tell("read", lambda: doc.get_attachment("a.png"))
tell("not there", lambda: doc.get_attachment("b"))
tell("not removed", lambda: doc.remove_attachment("b"))
tell("removed", lambda: doc.remove_attachment("a.png"))
tell("no rev", lambda: doc.rev)
tell("no id", lambda: Document().id)
tell("base", lambda: Document({"a": 1}, {"a": 2, "b": 3}))
"""


@pytest.mark.parametrize("program", [ATTACH + CLIENTS, DOCUMENTS], ids=["clients", "documents"])
def test_a_program_prints_what_it_prints_under_1x(program: str, databases: Databases, tmp_path: Path) -> None:
    theirs = classic.python()
    if theirs is None:
        assert "CI" not in os.environ, "picasclient 1.x is not installed"
        pytest.skip("picasclient 1.x is not installed: run scripts/classic.sh")
    file = tmp_path / "program.py"
    file.write_text(CONNECT + program)
    printed = []
    for python in (str(theirs), sys.executable):
        url = databases.make()
        try:
            done = subprocess.run(
                [python, str(file), url], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
            )
        finally:
            databases.drop(url)
        printed.append(done.stdout.splitlines())
    assert printed[1] == printed[0]
    assert len(printed[0]) > 20
