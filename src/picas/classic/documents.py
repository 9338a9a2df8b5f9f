"""Documents of a database: any, tasks, jobs and users, as programs of 1.x know them: ``picas.documents``."""

from __future__ import annotations

import base64
import mimetypes
import socket
import time
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from picas import jobid
from picas.tokens import OLD_ERROR_MARK, PILOT_FAILURE_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_CONTENT_TYPE = "text/plain"
"""Of an attachment whose name tells nothing."""

_MARKS = (PILOT_FAILURE_MARK, OLD_ERROR_MARK)


class Document(MutableMapping[str, Any]):
    """A document, used like the dictionary that it is.

    Two documents are equal only if they are the same object, and they may be in sets, as in 1.x.

    Args:
        data: the fields; copied.
        base: fields that a document has which is not in a database yet, where ``data`` does not say.

    Attributes:
        doc: the fields, as they go to the database.
    """

    def __init__(
        self, data: Mapping[str, Any] | Document | None = None, base: Mapping[str, Any] | None = None
    ) -> None:
        fields = dict(data or {})
        if base is not None and "_rev" not in fields:
            fields = {**base, **fields}
        self.doc: dict[str, Any] = fields

    @property
    def id(self) -> str:
        """The document's id.

        Raises:
            AttributeError: it has none yet.
        """
        try:
            found: str = self.doc["_id"]
        except KeyError:
            raise AttributeError("_id for document is not set") from None
        return found

    @id.setter  # noqa: A003 - the property of this class is meant
    def id(self, new_id: str) -> None:
        self.doc["_id"] = new_id

    @property
    def rev(self) -> str:
        """The revision that was read or written last.

        Raises:
            AttributeError: it was neither read from a database nor saved.
        """
        try:
            found: str = self.doc["_rev"]
        except KeyError:
            raise AttributeError("_rev is not available: document is not retrieved from database") from None
        return found

    @property
    def value(self) -> dict[str, Any]:
        """The same as `doc`."""
        return self.doc

    def __getitem__(self, name: str) -> Any:
        return self.doc[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.doc[name] = value

    def __delitem__(self, name: str) -> None:
        del self.doc[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.doc)

    def __len__(self) -> int:
        return len(self.doc)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    # --- Attachments ---

    def put_attachment(self, name: str, data: bytes | str | Any, mimetype: str | None = None) -> None:
        """Attach a file; it goes to the database when the document is saved.

        Args:
            name: what it is called; ``/`` may be in it.
            data: bytes, text, or a file that is open for reading.
            mimetype: its type; guessed from the name if not given.
        """
        content = data.read() if hasattr(data, "read") else data
        if isinstance(content, str):
            content = content.encode()
        self.doc.setdefault("_attachments", {})[name] = {
            "content_type": mimetype or mimetypes.guess_type(name)[0] or DEFAULT_CONTENT_TYPE,
            "data": base64.b64encode(content).decode("ascii"),
        }

    def get_attachment(self, name: str, retrieve_from_database: Any = None) -> dict[str, Any]:
        """What is known of an attachment, under ``data`` its bytes if the document has them.

        Args:
            retrieve_from_database: where to get the bytes that the document does not have.

        Raises:
            KeyError: there is no such attachment.
        """
        found = self.doc["_attachments"][name]
        answer = dict(found)
        if "data" in found:
            answer["data"] = base64.b64decode(found["data"])
        elif retrieve_from_database is not None:
            database = getattr(retrieve_from_database, "db", retrieve_from_database)
            file = database.get_attachment(self.id, name)
            if file is None:  # removed since the document was read
                raise KeyError(name)
            answer["data"] = file.read()
            found["data"] = base64.b64encode(answer["data"]).decode("ascii")
        return answer

    def remove_attachment(self, name: str) -> Document:
        """Remove an attachment; in the database when the document is saved.

        Raises:
            KeyError: there is no such attachment.
        """
        del self.doc["_attachments"][name]
        return self

    def _update_hostname(self) -> Document:
        self.doc["hostname"] = socket.gethostname()
        return self


class Task(Document):
    """A token: what is to be done, and how far that is.

    Args:
        task: its fields; what a task needs is added to a new one, an id and ``type: "task"`` included.
    """

    def __init__(self, task: Mapping[str, Any] | Document | None = None) -> None:
        super().__init__(
            task,
            {
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
            },
        )
        if "_id" not in self.doc:
            self.doc["_id"] = f"task_{uuid4().hex}"

    @property
    def input(self) -> Any:
        """What is to be done."""
        return self.doc.get("input", {})

    @input.setter  # noqa: A003
    def input(self, value: Any) -> None:
        self.doc["input"] = value

    @property
    def output(self) -> Any:
        """What the work reported."""
        return self.doc.get("output", {})

    @output.setter
    def output(self, value: Any) -> None:
        self.doc["output"] = value

    @property
    def uploads(self) -> Any:
        """Where the work put its files."""
        return self.doc.get("uploads", {})

    @uploads.setter
    def uploads(self, value: Any) -> None:
        self.doc["uploads"] = value

    def lock(self) -> Task:
        """Mark it as being worked on here and now, by this batch job."""
        self.doc["lock"] = _seconds()
        self._update_hostname()
        jobid.add_job_id(self.doc)
        return self

    def done(self) -> Task:
        """Mark it as finished."""
        self.doc["done"] = _seconds()
        self._update_hostname()
        return self

    def scrub(self) -> Task:
        """Make it free again, and count that."""
        count = self.doc.get("scrub_count")
        self.doc["scrub_count"] = (count if isinstance(count, int) else 0) + 1
        self.doc["lock"] = 0
        self.doc["done"] = 0
        self._update_hostname()
        jobid.remove_job_id(self.doc)
        return self

    def error(self, msg: str | None = None, exception: BaseException | str | None = None) -> Task:
        """Mark it as failed, and note why.

        Args:
            exception: what was raised, or a traceback's text.
        """
        entry: dict[str, Any] = {"time": _seconds()}
        if msg is not None:
            entry["message"] = str(msg)
        if isinstance(exception, BaseException):
            told = traceback.format_exception(type(exception), exception, exception.__traceback__)
            entry["exception"] = "".join(told)
        elif exception is not None:
            entry["exception"] = str(exception)
        self.doc["error"] = [*self.get_errors(), entry]
        self.doc["lock"] = self.doc["done"] = PILOT_FAILURE_MARK
        self._update_hostname()
        return self

    def has_error(self) -> bool:
        """Whether it is marked as failed: not whether its command said so by an exit code."""
        return self.doc.get("lock") in _MARKS

    def get_errors(self) -> list[Any]:
        """What went wrong so far."""
        found = self.doc.get("error")
        return found if isinstance(found, list) else []

    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return bool(self.doc.get("done", 0) != 0)


class Job(Document):
    """A batch job, as some programs note it in the database beside the tokens.

    Args:
        job: its fields, ``_id`` among them.

    Raises:
        ValueError: it has no id.
    """

    def __init__(self, job: Mapping[str, Any] | Document) -> None:
        super().__init__(
            job,
            {"type": "job", "hostname": "", "start": 0, "done": 0, "queue": 0, "method": "", "archive": 0},
        )
        if "_id" not in self.doc:
            raise ValueError("Job ID must be set")

    def queue(self, method: str, host: str | None = None) -> Job:
        """Note that it was submitted now, how, and to which machine."""
        self.doc["method"] = method
        if host is not None:
            self.doc["hostname"] = host
        self.doc["queue"] = _seconds()
        return self

    def start(self) -> Job:
        """Note that it began now, on this machine."""
        self.doc.update(start=_seconds(), done=0, archive=0)
        self._update_hostname()
        return self

    def finish(self) -> Job:
        """Note that it ended now."""
        self.doc["done"] = _seconds()
        return self

    def archive(self) -> Job:
        """Make it a new document under an archived name, for saving beside, or in place of, the old one."""
        now = _seconds()
        if self.doc.get("done", 0) <= 0:
            self.doc["done"] = now
        self.doc["archive"] = now
        self.doc["_id"] = f"archived-{self.id}-{now}"
        self.doc.pop("_rev", None)
        return self

    def is_done(self) -> bool:
        """Whether it has ended."""
        return bool(self.doc.get("done", 0) != 0)


class User(Document):
    """A user of a CouchDB server, to be saved in its database ``_users``.

    Args:
        roles: the names of what the user is.
        data: other fields of the document.
    """

    def __init__(
        self,
        username: str,
        password: str,
        roles: Sequence[str] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            data,
            {
                "_id": f"org.couchdb.user:{username}",
                "name": username,
                "type": "user",
                "password": password,
                "roles": [] if roles is None else roles,
            },
        )


def _seconds() -> int:
    """Unix time, as tokens have it."""
    return int(time.time())
