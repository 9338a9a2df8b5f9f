"""Databases as people write them to test their actors: a few methods and a dictionary."""

from __future__ import annotations

import copy
from typing import Any

from picas.couch_errors import ResourceConflict
from picas.documents import Task


class MockDatabase:
    """Has what an actor of 1.x asks of a database, and no more.

    Attributes:
        told: what was asked of it, in order.
        between: called once, right before a save: somebody else writes then.
    """

    def __init__(self, *documents: dict[str, Any]) -> None:
        self.documents = {doc["_id"]: {"_rev": "0", **doc} for doc in documents}
        self.told: list[Any] = []
        self.between: Any = None

    def get_single_from_view(self, view: str, **params: Any) -> Task:
        for doc in self.documents.values():
            if doc["lock"] == 0 and doc.get("view", view) == view:
                return Task(copy.deepcopy(doc))
        raise IndexError(view)

    def get(self, doc_id: str) -> Task:
        if doc_id not in self.documents:
            raise ValueError(doc_id)
        return Task(copy.deepcopy(self.documents[doc_id]))

    def save(self, task: Task) -> Task:
        if self.between is not None:
            between, self.between = self.between, None
            between()
        stored = self.documents.get(task.id, {})
        if stored.get("_rev") != task.doc.get("_rev"):
            raise ResourceConflict(f"{task.id} has changed")
        self.told.append((task.id, task["lock"] != 0, task["done"] != 0))
        task["_rev"] = str(int(task.doc.get("_rev", 0)) + 1)
        self.documents[task.id] = copy.deepcopy(task.doc)
        return task

    def copy(self) -> MockDatabase:
        return self


def free(doc_id: str, **fields: Any) -> dict[str, Any]:
    """The document of a token that is free."""
    return {"_id": doc_id, "type": "token", "lock": 0, "done": 0, "exit_code": "", "scrub_count": 0, **fields}
