"""Documents, tasks, jobs and users, as programs of 1.x use them."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

import pytest

from picas.documents import Document, Job, Task, User
from picas.tokens import State, state_of


def now() -> int:
    return int(time.time())


# --- Documents ---------------------------------------------------------------------------------------


def test_a_document_is_used_like_a_dictionary() -> None:
    doc = Document({"_id": "a", "cores": 4})
    doc["site"] = "spider"
    doc.update({"cores": 8})
    del doc["site"]
    assert doc["cores"] == 8
    assert "site" not in doc
    assert doc.get("site", "none") == "none"
    assert dict(doc) == doc.value == doc.doc == {"_id": "a", "cores": 8}
    assert list(doc) == ["_id", "cores"]
    assert len(doc) == 2


def test_a_document_is_made_of_nothing_of_a_dictionary_or_of_another() -> None:
    fields = {"_id": "a"}
    doc = Document(fields)
    doc["new"] = 1
    assert fields == {"_id": "a"}
    assert Document().value == Document(None).value == {}
    assert Document(doc).value == {"_id": "a", "new": 1}
    assert Document({"a": 1}, {"a": 2, "b": 3}).value == {"a": 1, "b": 3}


def test_documents_are_told_apart_by_identity_and_may_be_in_sets() -> None:
    one, other = Document({"a": 1}), Document({"a": 1})
    assert one != other
    assert len({one, other, one}) == 2


def test_a_document_knows_its_id_and_revision_or_says_that_it_has_none() -> None:
    doc = Document({"_id": "a", "_rev": "1-x"})
    assert (doc.id, doc.rev) == ("a", "1-x")
    doc.id = "b"
    assert doc["_id"] == "b"
    with pytest.raises(AttributeError, match="_id for document is not set"):
        _ = Document().id
    with pytest.raises(AttributeError, match="not retrieved from database"):
        _ = Document().rev


@pytest.mark.parametrize("data", [b"hello", "hello", io.BytesIO(b"hello")])
def test_what_is_attached_is_read_back(data: Any) -> None:
    doc = Document({"_id": "a"})
    doc.put_attachment("logs/a.txt", data)
    assert doc.get_attachment("logs/a.txt") == {"content_type": "text/plain", "data": b"hello"}
    assert doc["_attachments"] == {"logs/a.txt": {"content_type": "text/plain", "data": "aGVsbG8="}}


@pytest.mark.parametrize(
    ("name", "mimetype", "kind"),
    [
        ("a.png", None, "image/png"),
        ("noname", None, "text/plain"),
        ("a.png", "x/y", "x/y"),
    ],
)
def test_the_type_of_an_attachment_is_given_or_guessed(name: str, mimetype: str | None, kind: str) -> None:
    doc = Document()
    doc.put_attachment(name, b"", mimetype)
    assert doc.get_attachment(name)["content_type"] == kind


def test_an_attachment_that_is_not_there_is_a_key_error() -> None:
    doc = Document({"_attachments": {"a": {"stub": True}}})
    assert doc.remove_attachment("a") is doc
    for act in (doc.get_attachment, doc.remove_attachment, Document().get_attachment):
        with pytest.raises(KeyError):
            act("a")


class _Files:
    """A database that has one file."""

    db: Any = None

    def __init__(self, data: bytes | None) -> None:
        self.data = data
        self.asked: list[tuple[str, str]] = []

    def get_attachment(self, doc_id: str, name: str) -> io.BytesIO | None:
        self.asked.append((doc_id, name))
        return None if self.data is None else io.BytesIO(self.data)


class _Client:
    def __init__(self, db: _Files) -> None:
        self.db = db


def test_an_attachment_that_is_only_in_the_database_is_fetched_from_there_once() -> None:
    doc = Document({"_id": "a", "_attachments": {"f": {"stub": True, "length": 2}}})
    files = _Files(b"xx")
    assert doc.get_attachment("f") == {"stub": True, "length": 2}
    assert doc.get_attachment("f", _Client(files))["data"] == b"xx"
    assert doc.get_attachment("f")["data"] == b"xx"
    assert files.asked == [("a", "f")]


def test_an_attachment_that_is_gone_from_the_database_is_a_key_error() -> None:
    doc = Document({"_id": "a", "_attachments": {"f": {"stub": True}}})
    with pytest.raises(KeyError):
        doc.get_attachment("f", _Client(_Files(None)))


# --- Tasks -------------------------------------------------------------------------------------------


def test_a_new_task_has_all_fields_and_an_id() -> None:
    one, other = Task(), Task()
    assert one.id.startswith("task_")
    assert len(one.id) == len("task_") + 32
    assert one.id != other.id
    assert {name: one[name] for name in one if name != "_id"} == {
        "type": "task",
        "lock": 0,
        "done": 0,
        "hostname": "",
        "scrub_count": 0,
        "input": {},
        "exit_code": "",
        "output": {},
        "uploads": {},
        "error": [],
    }


def test_what_a_task_is_made_of_stays() -> None:
    task = Task({"_id": "a", "type": "token", "input": "echo", "cores": 4})
    assert (task.id, task["type"], task.input, task["cores"]) == ("a", "token", "echo", 4)


def test_a_task_of_a_database_gets_no_fields_that_it_does_not_have() -> None:
    assert Task({"_id": "a", "_rev": "1-x"}).value == {"_id": "a", "_rev": "1-x"}


def test_a_task_goes_from_free_to_locked_to_done_and_back() -> None:
    task = Task({"_id": "a", "type": "token"})
    assert not task.is_done()
    begun = now()
    assert task.lock() is task
    assert state_of(task.value) is State.LOCKED
    assert begun <= task["lock"] <= now()
    assert task["hostname"] == socket.gethostname()
    task["exit_code"] = 0
    assert task.done() is task
    assert task.is_done()
    assert state_of(task.value) is State.DONE
    assert task.scrub() is task
    assert (task["lock"], task["done"], task["scrub_count"]) == (0, 0, 1)
    assert not task.is_done()


def test_a_locked_task_names_its_batch_job_until_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    task = Task({"_id": "a"})
    task.lock()
    assert task["slurm_job_id"] == "77"
    task.scrub()
    assert "slurm_job_id" not in task


@pytest.mark.parametrize("fields", [{}, {"scrub_count": None}])
def test_a_task_without_a_count_is_scrubbed_all_the_same(fields: dict[str, Any]) -> None:
    task = Task({"_id": "a", "_rev": "1-x", **fields})
    task.scrub()
    assert task["scrub_count"] == 1


def test_an_error_is_noted_with_its_traceback_and_marks_the_task() -> None:
    task = Task({"_id": "a", "type": "token"})
    assert not task.has_error()
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 / 0
    assert task.error("it broke", raised.value) is task
    assert (task["lock"], task["done"]) == (99, 99)
    assert task.has_error()
    assert task.is_done()
    assert state_of(task.value) is State.ERROR
    (entry,) = task.get_errors()
    assert entry["message"] == "it broke"
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ZeroDivisionError: division by zero\n")
    assert entry["time"] <= now()


def test_an_exception_is_noted_outside_of_its_handler_too() -> None:
    task = Task().error(exception=ValueError("late"))
    assert task.get_errors()[0]["exception"] == "ValueError: late\n"


def test_errors_add_up_and_a_text_may_stand_for_an_exception() -> None:
    task = Task().error("one").error("two", "as text").error()
    assert [entry.get("message") for entry in task.get_errors()] == ["one", "two", None]
    assert task.get_errors()[1]["exception"] == "as text"
    assert set(task.get_errors()[2]) == {"time"}


@pytest.mark.parametrize("fields", [{}, {"error": None}])
def test_a_task_without_a_list_of_errors_has_none_and_takes_one(fields: dict[str, Any]) -> None:
    task = Task({"_id": "a", "_rev": "1-x", **fields})
    assert task.get_errors() == []
    assert not task.has_error()
    assert [entry["message"] for entry in task.error("x").get_errors()] == ["x"]


@pytest.mark.parametrize("mark", [99, -1])
def test_the_error_marks_of_both_generations_count(mark: int) -> None:
    assert Task({"_id": "a", "lock": mark, "done": mark}).has_error()


def test_input_output_and_uploads_are_fields_with_names_of_their_own() -> None:
    task = Task({"_id": "a", "_rev": "1-x"})
    assert (task.input, task.output, task.uploads) == ({}, {}, {})
    task.input, task.output, task.uploads = "in", {"n": 1}, {"f": "url"}
    assert (task["input"], task["output"], task["uploads"]) == ("in", {"n": 1}, {"f": "url"})


# --- Jobs and users ----------------------------------------------------------------------------------


def test_a_job_is_queued_started_finished_and_archived() -> None:
    job = Job({"_id": "j", "_rev": "1-x", "archive": 3, "done": 5})
    assert job.queue("slurm", "spider") is job
    assert (job["method"], job["hostname"]) == ("slurm", "spider")
    assert job["queue"] <= now()
    assert job.start() is job
    assert (job["done"], job["archive"], job["hostname"]) == (0, 0, socket.gethostname())
    assert not job.is_done()
    assert job.finish() is job
    assert job.is_done()
    assert job.archive() is job
    assert job.id == f"archived-j-{job['archive']}"
    assert "_rev" not in job


def test_a_new_job_has_all_fields_and_can_be_archived_before_it_was_saved() -> None:
    job = Job({"_id": "j"})
    assert {name: job[name] for name in job if name != "_id"} == {
        "type": "job",
        "hostname": "",
        "start": 0,
        "done": 0,
        "queue": 0,
        "method": "",
        "archive": 0,
    }
    assert job.archive()["done"] > 0


def test_a_job_without_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match="Job ID must be set"):
        Job({})


def test_a_user_has_the_id_that_couchdb_wants() -> None:
    assert User("u", "p", ["r"], {"x": 1}).value == {
        "_id": "org.couchdb.user:u",
        "name": "u",
        "type": "user",
        "password": "p",
        "roles": ["r"],
        "x": 1,
    }
    assert User("u", "p")["roles"] == []
