#!/bin/sh
# What each pilot on the Grid starts with, in a folder of its own with the files of its sandbox. The machine needs a
# Python of 3.9 or newer and a way to the pool: no home, no CVMFS, no other network, no room in /tmp.
set -e
here=$(pwd)
umask 077
mkdir -p tmp
export TMPDIR="$here/tmp"
[ -d "${HOME:-}" ] && [ -w "$HOME" ] || export HOME="$here"
chmod u+x process_task.sh

# Where the pool is, and who asks. Results that it cannot take before the job ends come back with the job's output.
chmod 600 config.toml
export PICAS_CONFIG="$here/config.toml"
export PICAS_SPOOL="$here/unsent"

find_python() {
    for python in ${PICAS_PYTHON:-} python3 ${DIRACOS:+"$DIRACOS/bin/python3"} \
        python3.13 python3.12 python3.11 python3.10 python3.9; do
        if "$python" -I -c 'import sys, ssl, zlib; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
            return
        fi
    done
    echo "startpilot.sh: no Python of 3.9 or newer on $(uname -n); python3 there is: $(python3 --version 2>&1)" >&2
    exit 127
}
find_python # to run pilot.pyz

exec "$python" -I pilot.pyz run --workers "${DIRAC_JOB_PROCESSORS:-1}" --max-scrub 2 -- ./process_task.sh '{input}' '{id}'
