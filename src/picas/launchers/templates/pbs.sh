#!/bin/bash
# Pilots of PiCaS, {{pilots}} at the most; submit it with: qsub THIS-FILE
#PBS -N {{name}}
#PBS -S /bin/bash
#PBS {{array}}
#PBS -l {{resource}}
#PBS -l walltime={{time}}
#PBS -q {{queue}}
#PBS -A {{account}}
#PBS -j oe
#PBS -o {{directory}}/
#PBS {{option}}

set -e
cd {{directory}}
{{setup}}
{{export}}

# The pilot takes the shell's place, so that it is what PBS signals.
exec {{command}}
