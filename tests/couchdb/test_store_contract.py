"""What every store must do, on CouchDB."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from picas.testing import StoreContract


# PouchDB's server drops attachments that are only named in a write, and takes what CouchDB refuses.
@pytest.mark.couchdb
class TestCouchStore(StoreContract):
    """The contract."""

    @pytest.fixture
    def url(self, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """A fresh database; who we are is in the environment, for a store's own URL does not say."""
        parts = urlsplit(database)
        monkeypatch.setenv("PICAS_USERNAME", parts.username or "")
        monkeypatch.setenv("PICAS_PASSWORD", parts.password or "")
        return database
