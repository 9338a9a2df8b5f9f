#!/bin/sh
# Install the system packages that the tests use, where they are missing and we may: a C compiler, for the
# fractals example. Best effort: what cannot be installed is named, and the tests that need it are skipped.
set -u

has_compiler() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | ${CC:-cc} -x c -o /dev/null - 2>/dev/null
}

has_compiler && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "make: installing a C compiler for the fractals example"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev make
fi
if ! has_compiler; then
    echo "make: there is no working C compiler (cc), so the fractals tests are skipped." >&2
    echo "      On Debian or Ubuntu: sudo apt-get install gcc libc6-dev" >&2
fi
exit 0
