"""A pool in an embedded SQLite file."""
