#!/bin/sh
# Install the system packages that the tests use, where they are missing and we may: a C compiler, for the
# fractals example, and Node.js, which says what conditions on tokens mean in JavaScript. Best effort: what
# cannot be installed is named, and the tests that need it are skipped (with CI set they fail).
set -u

has_compiler() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | ${CC:-cc} -x c -o /dev/null - 2>/dev/null
}

has_node() { command -v node >/dev/null 2>&1; }

packages=
has_compiler || packages="gcc libc6-dev"
has_node || packages="$packages nodejs"
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "make: installing for the tests:" $packages
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages
fi
has_compiler || echo "make: there is no working C compiler (cc): the fractals tests cannot run" >&2
has_node || echo "make: there is no Node.js (node): the JavaScript half of the selection tests cannot run" >&2
has_compiler && has_node || echo "      On Debian or Ubuntu: sudo apt-get install $packages" >&2
exit 0
