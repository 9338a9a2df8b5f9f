#!/bin/sh
# Install the system packages that the tests use, where they are missing and we may: a C compiler, for the
# fractals example, Node.js, which says what conditions on tokens mean in JavaScript, Slurm with munge, for jobs, and
# a server of ssh.
# Best effort: what cannot be installed is named, and the tests that need it are skipped (with CI set they fail).
set -u

has_compiler() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | ${CC:-cc} -x c -o /dev/null - 2>/dev/null
}

has_node() { command -v node >/dev/null 2>&1; }

has_slurm() {
    for program in munged slurmctld slurmd sbatch; do
        PATH="$PATH:/usr/sbin:/sbin" command -v $program >/dev/null 2>&1 || return 1
    done
}

has_sshd() { PATH="$PATH:/usr/sbin" command -v sshd >/dev/null 2>&1 && command -v ssh >/dev/null 2>&1; }

packages=
has_compiler || packages="gcc libc6-dev"
has_node || packages="$packages nodejs"
has_slurm || packages="$packages slurm-wlm munge"
has_sshd || packages="$packages openssh-server openssh-client"
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "make: installing for the tests:" $packages
    export DEBIAN_FRONTEND=noninteractive
    install="apt-get install -y -qq --no-install-recommends"
    apt-get update -qq && { $install $packages || for package in $packages; do $install $package; done; }
fi
has_compiler || echo "make: there is no working C compiler (cc): the fractals tests cannot run" >&2
has_node || echo "make: there is no Node.js (node): the JavaScript half of the selection tests cannot run" >&2
has_slurm || echo "make: there is no Slurm (slurmctld, slurmd, munged): the tests of picas submit slurm cannot run" >&2
has_sshd || echo "make: there is no server of ssh (sshd): the tests of picas submit ssh cannot run" >&2
has_compiler && has_node && has_slurm && has_sshd || echo "      On Debian or Ubuntu: sudo apt-get install $packages" >&2
exit 0
