#!/usr/bin/env bash
# Draw the fractal of one token. A pilot calls it in the token's own directory:
#
#     process_task.sh "-q 0.5 -d 512 -m 8" token_3
#
# It leaves fractal_<id>.png in the current directory and, where PICAS_OUTPUT
# names a file, the facts of the run in it as JSON. It fails as the program
# fails: 2 for parameters it does not accept, 1 for anything else.
set -euo pipefail

fail() {
    printf 'process_task.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# Seconds since 1970, with microseconds where this bash knows them (5.0 on).
now() {
    # Some locales write the fraction behind a comma.
    local time=${EPOCHREALTIME:-$(date +%s)}
    printf '%s\n' "${time/,/.}"
}

# Set `program` to the path of the program; build it first where it is missing
# or older than its source.
find_program() {
    local folder build
    folder=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
    program=$folder/fractals
    if [[ ! -x $program || $folder/fractals.c -nt $program ]]; then
        # Where the folder is not ours to write in, this directory is.
        [[ -w $folder ]] || program=$PWD/fractals
        # Several pilots may get here at once: each builds a file of its own
        # and moves it into place in one step.
        build=$program.$$
        # A compiler may be named with flags, as in CC='gcc -m64'.
        # shellcheck disable=SC2086
        if ! ${CC:-cc} -O2 -o "$build" "$folder/fractals.c" -lm >&2; then
            rm -f -- "$build"
            fail "cannot build $folder/fractals.c; is a C compiler installed?"
        fi
        mv -f -- "$build" "$program"
    fi
}

[[ $# -eq 2 ]] || fail 'usage: process_task.sh "-q Q -d D -m M" ID' 2
id=$2
# Any text may be an id, but not any text a file name (or a piece of JSON).
picture=fractal_${id//[^A-Za-z0-9._-]/_}.png
# Split at blanks and nothing else: the input is never run by a shell.
# (`read` returns 1 at the end of the text; it has read all of it.)
read -r -d '' -a parameters <<<"$1" || true
[[ ${#parameters[@]} -gt 0 ]] || fail "token $id has no parameters" 2

find_program
start=$(now)
"$program" -o "$picture" "${parameters[@]}"
end=$(now)

if [[ -n ${PICAS_OUTPUT:-} ]]; then
    size=$(wc -c <"$picture")
    seconds=$(LC_ALL=C awk -v start="$start" -v end="$end" 'BEGIN { printf "%.3f", end - start }')
    printf '{"file": "%s", "size": %d, "seconds": %s}\n' "$picture" "$size" "$seconds" \
        >"$PICAS_OUTPUT"
fi
