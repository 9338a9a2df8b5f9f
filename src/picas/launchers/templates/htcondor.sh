#!/bin/bash
# What each pilot runs, where HTCondor has put it.
exec 2>&1
set -e
{{setup}}
{{export}}

# The pilot takes the shell's place, so that it is what HTCondor signals.
exec {{command}}
