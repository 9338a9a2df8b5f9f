#!/bin/sh
# Install PouchDB's server into tests/couchdb/node_modules, in the versions of the lock file, where the
# CouchDB tests have no other server: neither PICAS_TEST_COUCHDB, nor an Apache CouchDB in $COUCHDB_HOME or
# where its packages put it. Best effort: without it these tests are skipped (with CI set they fail).
set -u
cd "$(dirname "$0")/../tests/couchdb" || exit 1

[ -z "${PICAS_TEST_COUCHDB:-}" ] || exit 0
[ ! -x "${COUCHDB_HOME:-/opt/couchdb}/bin/couchdb" ] || exit 0
# npm leaves a copy of the lock file, newer than all it has installed
[ ! node_modules/.package-lock.json -nt package-lock.json ] || exit 0

has_npm() { command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; }

if ! has_npm && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "make: installing for the tests: nodejs npm"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm
fi
if has_npm; then
    echo "make: installing PouchDB's server, for the CouchDB tests"
    # what it needs compiled comes compiled, so no script of a package has to run
    npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error && exit 0
    rm -rf node_modules
fi
echo "make: PouchDB's server could not be installed: the CouchDB tests cannot run. They need Node.js with npm," >&2
echo "      or an Apache CouchDB: PICAS_TEST_COUCHDB=http://admin:password@127.0.0.1:5984" >&2
exit 0
