#!/bin/bash
# What each pilot of PiCaS on this machine runs, in the background; picas submit local starts them.
#PICAS --name={{name}}
#PICAS --pilots={{pilots}}
#PICAS --directory={{directory}}

set -e
{{setup}}
{{export}}

exec {{command}}
