"""What every store must do, on CouchDB."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from picas.testing import StoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from picas.stores.base import Store


class TestCouchStore(StoreContract):
    """The contract, and which parts of it PouchDB's server cannot keep."""

    @pytest.fixture
    def url(self, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """A fresh database; who we are is in the environment, for a store's own URL does not say."""
        parts = urlsplit(database)
        if parts.username:
            monkeypatch.setenv("PICAS_USERNAME", parts.username)
            monkeypatch.setenv("PICAS_PASSWORD", parts.password or "")
        return database

    # Its numbers are JavaScript's: integers beyond 2**53 become others.

    @pytest.mark.couchdb
    def test_a_document_comes_back_as_it_went_in(self, store: Store) -> None:
        super().test_a_document_comes_back_as_it_went_in(store)

    @pytest.mark.couchdb
    def test_nobodys_fields_are_touched_by_claims_and_writes(self, store: Store) -> None:
        super().test_nobodys_fields_are_touched_by_claims_and_writes(store)

    @pytest.mark.couchdb
    def test_numbers_beyond_floats_are_kept_or_refused(self, store: Store) -> None:
        super().test_numbers_beyond_floats_are_kept_or_refused(store)

    # It dies of an upload that is broken off.

    @pytest.mark.couchdb
    def test_a_token_whose_files_cannot_be_read_is_not_added(self, store: Store) -> None:
        super().test_a_token_whose_files_cannot_be_read_is_not_added(store)

    @pytest.mark.couchdb
    def test_a_file_that_shrinks_while_it_is_attached_is_told_with_the_length_it_had(
        self, store: Store, tmp_path: Path
    ) -> None:
        super().test_a_file_that_shrinks_while_it_is_attached_is_told_with_the_length_it_had(store, tmp_path)
