#!/bin/sh
# The quick example from an empty folder to a finished pool, with the `picas` that is on the PATH.
# Prints each command before it runs it; stops at the first that fails.
set -eu
tokens=$(cd "$(dirname "$0")/.." && pwd)/examples/quick/tokens.txt
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
# A pool of our own: the caller's settings must not lead the demo to theirs.
unset PICAS_POOL
export XDG_CONFIG_HOME="$folder/config"
mkdir "$folder/work"
cd "$folder/work"
cp "$tokens" tokens.txt

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show picas --version
show cat tokens.txt
show picas push tokens.txt
show picas run --workers 2
show picas status
show picas list
show picas logs token_0

# What it shows must also be so: as many tokens done as lines in the file.
test "$(picas list --state done --json | wc -l)" -eq "$(wc -l <tokens.txt)" || {
    echo "demo: not every token is done" >&2
    exit 1
}
