#!/bin/sh
# again.sh PYTEST EXIT_CODE ARG...: after a run in which at most three tests failed, run these once more, alone.
# They have to pass now; which they were is said last, because a test that fails only at times is a fault too.
set -eu
pytest=$1
code=$2
shift 2
cache=.pytest_cache/v/cache/lastfailed
[ "$code" -eq 1 ] && [ -s "$cache" ] || exit "$code"
failed=$(grep -c '": true' "$cache")
[ "$failed" -le 3 ] || exit "$code"
unsteady=$(sed -n 's/^ *"\(.*\)": true,\{0,1\}$/\1/p' "$cache")
echo "again.sh: $failed failed; now by themselves" >&2
"$pytest" --last-failed "$@" || exit "$code"
printf 'again.sh: failed among others and passed alone; find out why:\n%s\n' "$unsteady" >&2
