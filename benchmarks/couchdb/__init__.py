"""What a pool in CouchDB is measured by; ``python -m benchmarks couchdb`` runs all of it."""
