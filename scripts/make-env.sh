#!/bin/sh
# Make the development environment: make-env.sh PYTHON FOLDER LOCKED_REQUIREMENTS
# Plain venv and pip with the versions of uv.lock (exported to LOCKED_REQUIREMENTS), so that it works
# wherever Python does, with or without uv.
set -eu
python=$1
venv=$2
locked=$3

stop() {
    echo "make: $*" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    stop "there is no '$python' here. Install Python 3.9 or newer, or name yours: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
    stop "$("$python" --version 2>&1) is too old, PiCaS needs 3.9 or newer. Name another: make PYTHON=/path/to/python3"

# Debian and Ubuntu ship Python without these two until python3-venv is installed.
has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }
if ! has_venv && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "make: installing python3-venv"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv
fi
has_venv || stop "this Python cannot make environments. On Debian or Ubuntu: sudo apt-get install python3-venv"

echo "make: the environment in $venv (a minute or so)"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement "$locked"
"$venv/bin/python" -m pip install --quiet --no-build-isolation --no-deps --editable .
# Finds a dependency that stands in pyproject.toml and not in the lock file.
"$venv/bin/python" -m pip check --quiet ||
    stop "the packages in $venv do not fit together; after a change of dependencies: make lock"
