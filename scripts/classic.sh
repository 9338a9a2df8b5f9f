#!/bin/sh
# Install picasclient 1.x into tests/couchdb/.classic, an environment of its own: the tests of mixed fleets and
# the benchmarks run it as it comes. Best effort: without it those tests are skipped (with CI set they fail).
set -u
cd "$(dirname "$0")/../tests/couchdb" || exit 1

# the stamp is newer than what it was made from
[ ! .classic/.made -nt classic.txt ] || exit 0

echo "make: installing picasclient 1.x, for the tests of mixed fleets"
if python3 -m venv --clear .classic && .classic/bin/python -m pip install --quiet --requirement classic.txt; then
    touch .classic/.made
    exit 0
fi
rm -rf .classic
echo "make: picasclient 1.x could not be installed: the tests of mixed fleets cannot run" >&2
exit 0
