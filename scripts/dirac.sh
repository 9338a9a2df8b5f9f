#!/bin/sh
# Install the client of DIRAC into tests/grid/.dirac, an environment of its own, for `nox -s grid`. It needs a
# Python of 3.11 or newer: dirac.sh PYTHON. Of what DIRAC requires gfal2-python is left out: it needs libraries of the
# Grid that few machines have, and nothing here copies files by it.
set -eu
python=${1:-python3}
cd "$(dirname "$0")/../tests/grid"

# the stamp is newer than what it was made from
[ ! .dirac/.made -nt dirac.txt ] || exit 0

# M2Crypto is compiled
has_tools() { command -v swig && command -v cc && [ -e /usr/include/openssl/ssl.h ]; } >/dev/null
if ! has_tools && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "dirac.sh: installing swig, libssl-dev and a compiler"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends swig libssl-dev gcc libc6-dev
fi

echo "dirac.sh: installing the client of DIRAC (a few minutes)"
rm -rf .dirac
"$python" -m venv .dirac
.dirac/bin/python -m pip install --quiet --upgrade pip
wanted=$(grep -i '^dirac==' dirac.txt)
.dirac/bin/python -m pip install --quiet --no-deps "$wanted"
.dirac/bin/python - >.dirac/requires.txt <<'LIST'
from importlib.metadata import requires

for line in requires("DIRAC"):
    requirement, _, condition = line.partition(";")
    if "extra" not in condition and not requirement.startswith("gfal2-python"):
        print(requirement.strip())
LIST
.dirac/bin/python -m pip install --quiet --constraint dirac.txt --requirement .dirac/requires.txt
touch .dirac/.made
