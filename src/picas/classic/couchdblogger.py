"""Log messages kept as documents in a database, as programs of 1.x do it: ``picas.couchdblogger``."""

from __future__ import annotations

import logging
import os
import socket
import threading
from uuid import uuid4

from .clients import CouchDB


class CouchDBLogger(logging.Handler):
    """A handler of `logging` that writes each record into a database, as a document of type ``log``.

    A record that cannot be written is reported as `logging` does it, on standard error, and is no error to the
    program.

    Args:
        url: the server, with credentials in it where it wants some; or a file, ``sqlite:///path``.
        db: the database's name.

    Raises:
        ResourceNotFound: there is no such database.
        PoolUnavailable: the server does not answer.
    """

    def __init__(self, url: str, db: str) -> None:
        super().__init__()
        self.db = CouchDB(url, db).db
        self.hostname = socket.gethostname()
        self.trace_nr = os.getpid()
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if getattr(self._busy, "now", False):
            return  # what writing it has the HTTP library log
        self._busy.now = True
        try:
            self.db.save(self._document(record))
        except Exception:  # noqa: BLE001 - as logging has it: no program ends of its log
            self.handleError(record)
        finally:
            self._busy.now = False

    def _document(self, record: logging.LogRecord) -> dict[str, object]:
        structured = isinstance(record.msg, (dict, list))
        doc = {
            "_id": f"{self.hostname}:{int(record.created)}:{uuid4().hex}",
            "type": "log",
            "lvl": record.levelno,
            "msg": record.msg if structured else record.getMessage(),
            "created": record.created,
            "func": record.funcName,
            "host": self.hostname,
            "trance_nr": self.trace_nr,  # spelt so in every log there is
        }
        if record.exc_info:
            doc["exception"] = logging.Formatter().formatException(record.exc_info)
        return doc
