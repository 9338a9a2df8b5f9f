"""A pool in Apache CouchDB."""
